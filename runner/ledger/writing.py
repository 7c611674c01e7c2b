"""The one writer of a ledger."""

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

from runner.ledger.kinds import AnyRecord, EventRecorded
from runner.ledger.reading import whole_lines

log = logging.getLogger(__name__)


class Ledger:
    """The one writer of a ledger file. Thread-safe; every record is on disk when `append` returns.

    A torn last line (a power cut in mid-write) is cut off when the file is opened, and that is recorded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = _cut_torn_tail(path)
        self._seq = sum(1 for _ in whole_lines(path)) if path.exists() else 0
        self._handle = path.open("ab", buffering=0)
        self._size_bytes = os.fstat(self._handle.fileno()).st_size
        if torn:
            self.append(
                EventRecorded(what="torn_line", message=f"{torn} bytes of an unfinished last line were cut off")
            )

    def append(self, record: AnyRecord) -> AnyRecord:
        """Write one record and return it with its number.

        Raises:
            OSError: the disk is full, read-only or gone. Nothing of the record stays: it can be tried again.
        """
        with self._lock:
            numbered = record.model_copy(update={"seq": self._seq})
            self._write(numbered.model_dump_json().encode() + b"\n")
            self._seq += 1
        return numbered

    def _write(self, line: bytes) -> None:
        """Write a whole line, or none of it."""
        descriptor = self._handle.fileno()
        self._cut()
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                self._cut()
            raise
        self._size_bytes += len(line)

    def _cut(self) -> None:
        """Cut off what a failed write left behind."""
        if os.fstat(self._handle.fileno()).st_size != self._size_bytes:
            os.ftruncate(self._handle.fileno(), self._size_bytes)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _cut_torn_tail(path: Path) -> int:
    """Cut an unfinished last line off; return its length in bytes."""
    if not path.exists():
        return 0
    with path.open("rb+") as handle:
        data = handle.read()
        whole = data.rfind(b"\n") + 1
        if whole == len(data):
            return 0
        log.warning("%s: cutting off %d bytes of an unfinished last line", path, len(data) - whole)
        handle.truncate(whole)
        os.fsync(handle.fileno())
        return len(data) - whole
