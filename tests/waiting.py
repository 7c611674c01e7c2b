"""Waiting for what a test has started."""

import time
from collections.abc import Callable

# Only a test that fails waits so long; what takes a second takes many where other tests have the cores.
PATIENCE_S = 600.0


def wait_for(condition: Callable[[], object], timeout_s: float = PATIENCE_S, *, log: Callable[[], str] = str) -> None:
    """Wait until a condition holds; fail, with the end of a log, where it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s\n{log()[-6000:]}"
        time.sleep(0.05)
