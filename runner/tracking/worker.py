"""The process that delivers a run's ledger to one tracker: ``python -m runner.tracking.worker``.

It is given its job on standard input (secrets included, which is why not on the command line), then either the order
to close (a number of seconds) or the end of the input, which means that the driver is gone. Standard output carries
`Status` lines; whatever a tracking library prints goes to the run's ``logs``.

Whatever a server does, the process ends soon after it was to end, and does not fill the host's memory.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TextIO

import psutil

from runner.config.trackers import TRACKERS
from runner.rundir.paths import RunPaths
from runner.tracking import models
from runner.tracking.delivery import Delivery
from runner.tracking.http_limits import limit_answers
from runner.tracking.tracker import RESTART_CODE, Status, Target
from trainables.parts import Plugin, plugins

POLL_S = 0.5  # how long a record may wait for the next look at the ledger
ORPHANED_S = 5.0  # the driver is gone: what can be delivered soon is, then this process ends
OVERTIME_S = 1.0  # for what is under way when the time to close is over
MAX_BYTES = 2**30  # resident, with W&B's service; a tracker takes 150 to 350 MB
WATCH_S = 0.25


class Orders:
    """What the driver says, awaited in a thread of its own: when to close, or, by falling silent, that it is gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._deadline = float("inf")
        self._given = threading.Event()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def _listen(self) -> None:
        for line in self._stream:
            self._close_within(float(line))
        self._close_within(ORPHANED_S)

    def _close_within(self, seconds: float) -> None:
        self._deadline = min(self._deadline, time.monotonic() + seconds)
        self._given.set()

    def given(self, wait_s: float = 0.0) -> bool:
        """Whether to close, waiting for the order at most that long."""
        return self._given.wait(wait_s)

    def left_s(self) -> float:
        """How much of the time to close is left."""
        return max(0.0, self._deadline - time.monotonic())


def _watch(orders: Orders, report: Callable[[Status], None]) -> None:
    """End this process when its time is over, or its memory: a tracking library may wait or read for ever."""
    process = psutil.Process()
    while not (orders.given() and orders.left_s() <= 0.0):
        if _resident(process) > MAX_BYTES:
            report(Status(delivered=0, known=0, errors=(f"it took more than {MAX_BYTES // 2**20} MiB of memory",)))
            _end(process, RESTART_CODE)
        time.sleep(WATCH_S)
    time.sleep(OVERTIME_S)
    _end(process, 1)


def _resident(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += 0 if one.pid in models.exporting else one.memory_info().rss
    return total


def _end(process: psutil.Process, code: int) -> None:
    for child in process.children(recursive=True):  # W&B's service
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(code)


def main() -> None:
    """Deliver until the driver asks to close."""
    limit_answers()
    channel = _private_stdout()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The driver decides when to end, and its end is noticed; a handler, unlike SIG_IGN, is not inherited.
        signal.signal(number, _ignore)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    job = json.loads(sys.stdin.readline())
    orders = Orders(sys.stdin)
    plugins.load(Plugin.model_validate(one) for one in job["plugins"])
    part = TRACKERS.get(job["tracker"])
    config = part.configure(job["config"])
    secrets: tuple[str, ...] = ()
    if isinstance(config, Target):
        os.environ.update(config.environment())
        secrets = config.secrets
    paths = RunPaths(Path(job["root"]))

    def report(status: Status) -> None:
        try:
            channel.write(status.model_dump_json() + "\n")
            channel.flush()
        except OSError:
            logging.info("the driver no longer listens")

    threading.Thread(target=_watch, args=(orders, report), name="watch", daemon=True).start()
    delivery = Delivery(part.target(config, paths), paths.ledger, report, secrets)
    delivery.turn(orders.given)
    while not orders.given(POLL_S):
        delivery.turn(orders.given)
    delivery.close(orders.left_s)


def _private_stdout() -> TextIO:
    """Keep standard output for status lines: what libraries and their children print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _ignore(number: int, frame: FrameType | None) -> None:
    """Nothing: the signal is the driver's business."""


if __name__ == "__main__":
    main()
