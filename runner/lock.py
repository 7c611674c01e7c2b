"""One writer a run."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from runner import ledger
from runner.paths import RunPaths
from trainables.errors import ConfigError, Problem
from trainables.files import replace_text


class HeldError(ConfigError):
    """Another process writes to the run."""


@contextmanager
def held(paths: RunPaths) -> Iterator[None]:
    """Hold a run's lock. The operating system lets go of it when the process dies, however it dies.

    A driver locks its ledger, too, so it is noticed where the lock file was removed.

    Raises:
        HeldError: another process holds it; it is named.
        ConfigError: the run directory cannot be written.
    """
    lock = FileLock(paths.lock, timeout=0)
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if ledger.is_written(paths.ledger):  # its driver's lock file was removed
            raise Timeout(str(paths.lock))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        replace_text(paths.owner, json.dumps({"pid": os.getpid(), "since": now}))
    except Timeout:
        lock.release()
        first = json.loads(paths.owner.read_text()) if paths.owner.exists() else {}
        raise HeldError(
            Problem(
                place=str(paths.root),
                message=f"another sweep writes here: process {first.get('pid', '?')}, since {first.get('since', '?')}",
                mend="wait for it, stop it, or give this sweep another name",
            )
        ) from None
    except OSError as error:
        lock.release()
        raise ConfigError(
            Problem(
                place=str(paths.root),
                message=f"the run directory cannot be written: {error.strerror or error}",
                mend="make room there, or make it writable for this user; or run from another folder",
            )
        ) from error
    try:
        yield
    finally:
        paths.owner.unlink(missing_ok=True)
        lock.release()
