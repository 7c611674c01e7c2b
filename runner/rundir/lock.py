"""One writer a run."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from filelock import FileLock, Timeout

from runner.rundir import ledger
from runner.rundir.paths import RunPaths
from trainables.errors import ConfigError, Problem
from trainables.files import read_json, replace_text


class HeldError(ConfigError):
    """Another process writes to the run."""


def _owner(paths: RunPaths) -> str:
    try:
        first = read_json(paths.owner, max_bytes=10_000)
        return f"process {int(first['pid'])}, since {str(first['since'])[:32]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "process ?, since ?"


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
        raise HeldError(
            Problem(
                place=str(paths.root),
                message=f"another sweep writes here: {_owner(paths)}",
                fix="wait for it, stop it, or give this sweep another name",
            )
        ) from None
    except OSError as error:
        lock.release()
        raise ConfigError(
            Problem(
                place=str(paths.root),
                message=f"the run directory cannot be written: {error.strerror or error}",
                fix="make room there, or make it writable for this user; or run from another folder",
            )
        ) from error
    try:
        yield
    finally:
        paths.owner.unlink(missing_ok=True)
        lock.release()
