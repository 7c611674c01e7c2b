"""One writer a data folder: who has to wait says for whom, and not for ever."""

import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import filelock

from trainables.errors import DataError, Problem
from trainables.files import read_json, replace_text

logger = logging.getLogger(__name__)

WAIT_QUIET_S, WAIT_S = 2.0, 600.0  # a dataset of some hundred assets takes a minute
_HOLDER = ".catalog-holder.json"


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the catalog. Who has to wait for long says for whom.

    Raises:
        DataError: another process held it all the time.
    """
    lock, holder = filelock.FileLock(root / ".catalog.lock"), root / _HOLDER
    for wait_s in (WAIT_QUIET_S, WAIT_S):
        try:
            lock.acquire(timeout=wait_s)
            break
        except filelock.Timeout:
            if wait_s is not WAIT_S:
                logger.warning("%s is held by %s; waiting for up to %.0f s", lock.lock_file, _who(holder), WAIT_S)
    else:
        message = f"is held by {_who(holder)}, longer than {WAIT_S:.0f} s"
        fix = "wait until it has built its dataset, or end it, and run this again"
        raise DataError(Problem(place=str(lock.lock_file), message=message, fix=fix))
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        replace_text(holder, json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        owner = read_json(holder)
        return f"process {int(owner['pid'])} on {str(owner['host'])[:64]!r} since {str(owner['since'])[:32]}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
