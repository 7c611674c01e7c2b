"""The one writer of a ledger."""

import fcntl
import logging
import os
import threading
import zlib
from contextlib import suppress
from pathlib import Path

from runner.rundir.ledger import rescue
from runner.rundir.ledger.chain import Chain, common_lines, seq_of, whole_lines
from runner.rundir.ledger.records import AnyRecord, EventRecorded
from trainables.errors import LedgerError
from trainables.files import append_descriptor, replace_bytes, sync_folder

log = logging.getLogger(__name__)


class Ledger:
    """The one writer of a ledger file. Thread-safe; every record is on disk when `append` returns.

    The file is locked, so that there is no second writer on this host. Before each record its place is compared with
    the file that this writer left there. Where something else has replaced, removed, cut or lengthened it, all records
    go into a rescue file next to it, which is written from then on: `lost` says so. The next writer puts back what the
    ledger lacks. A torn last line (a power cut in mid-write) is cut off when the file is opened. Both
    are recorded.
    """

    def __init__(self, path: Path) -> None:
        """Open or begin a ledger.

        Raises:
            LedgerError: another process writes it, or what is in it is damaged.
            ConfigError: it is a link, has a second name (a hard link), or is no regular file.
        """
        self.path = path
        self.lost = ""
        self._lock = threading.Lock()
        self._chain, self._copy = Chain(), _Copy()
        self._target, self._target_bytes = path, 0  # what is written: the ledger, or its rescue file
        self._tail_of_failed_write = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptors = [_open_locked(path)]
        try:
            events = self._take_over()
            for event in events:
                self.append(event)
        except BaseException:
            self.close()
            raise

    def append(self, record: AnyRecord) -> AnyRecord:
        """Write one record and return it with its number.

        Raises:
            OSError: the disk is full, read-only or gone. Nothing of the record stays: it can be tried again.
            ValueError: the ledger is closed.
        """
        with self._lock:
            if not self._descriptors:
                raise ValueError("the ledger is closed")
            numbered = record.model_copy(update={"seq": self._chain.length})
            line = self._chain.seal(numbered.model_dump_json().encode())
            self._look()
            self._write(line)
            self._chain.accept(line, numbered.seq)
            self._copy.add(line)
        return numbered

    def check(self) -> str:
        """Look after the file as before each record; returns `lost`.

        Raises:
            OSError: what has to be rescued cannot be written; it can be tried again.
        """
        with self._lock:
            self._look()
        return self.lost

    def content(self) -> bytes:
        """All lines, whatever has become of the file."""
        with self._lock:
            return self._copy.content()

    @property
    def size_bytes(self) -> int:
        """Of all lines."""
        return self._copy.size_bytes

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            while self._descriptors:
                os.close(self._descriptors.pop())

    def _write(self, line: bytes) -> None:
        """Write a whole line, or none of it."""
        descriptor = self._descriptors[-1]
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            self._tail_of_failed_write = True
            with suppress(OSError):
                self._cut_tail()
            raise
        self._target_bytes += len(line)

    def _cut_tail(self) -> None:
        """Cut off what a failed write left behind. A file is never lengthened: that would fill it with NULs."""
        if os.fstat(self._descriptors[-1]).st_size > self._target_bytes:
            os.ftruncate(self._descriptors[-1], self._target_bytes)
        self._tail_of_failed_write = False

    # ---- changes from outside ------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._tail_of_failed_write:
            self._cut_tail()
        if change := self._change():
            self._rescue(change)

    def _change(self) -> str:
        """What has become of the file that is written; empty where it is as it was left."""
        mine = os.fstat(self._descriptors[-1])
        try:
            there = os.stat(self._target)
        except (FileNotFoundError, NotADirectoryError):
            return "removed"
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            return "replaced by another file"
        if there.st_size != self._target_bytes:
            what = "cut" if there.st_size < self._target_bytes else "lengthened"
            return f"{what} from {self._target_bytes} to {there.st_size} bytes"
        return ""

    def _rescue(self, change: str) -> None:
        """Write all records into a new file next to the ledger, and go on in that one.

        All, and not those alone that the file lacks: it may be changed once more.
        """
        content, target = self._copy.content(), rescue.free_name(self.path, "rescued")
        replace_bytes(target, content)
        self._descriptors.append(_open_locked(target))
        changed, self._target, self._target_bytes = self._target, target, len(content)
        self.lost = (
            f"{changed} was {change} by something else; all records are in {target}, "
            "and the next sweep puts back what is missing"
        )
        log.error("%s", self.lost)

    # ---- the start -----------------------------------------------------------------------------------------------

    def _take_over(self) -> list[EventRecorded]:
        """Bring the file into order and take its records over; what was done about it."""
        data, rescued = _content_of(self.path), rescue.files(self.path)
        whole = b"".join(whole_lines(rescue.merged(self.path, data, rescued)))
        for number, line in enumerate(whole_lines(whole), 1):
            if wrong := self._chain.accept(line, seq_of(line)):
                raise LedgerError(f"{self.path}:{number}: {wrong}\n    fix: restore the file from a copy")
            self._copy.add(line)
        keep = common_lines(data, whole)
        events = []
        if rescued:
            aside = self._put_back(data, whole, keep)
            for path in rescued:
                path.unlink()
            sync_folder(self.path.parent)
            count, names = whole.count(b"\n", keep), ", ".join(path.name for path in rescued)
            message = f"{count} records of {names} were put back{aside}"
            events.append(EventRecorded(what="rescued", message=message))
        elif torn := len(data) - keep:
            os.ftruncate(self._descriptors[0], keep)
            message = f"{torn} bytes of an unfinished last line were cut off"
            events.append(EventRecorded(what="torn_line", message=message))
        for event in events:
            log.warning("%s: %s", self.path, event.message)
        self._target_bytes = len(whole)
        return events

    def _put_back(self, data: bytes, whole: bytes, keep: int) -> str:
        """Write the records that the file lacks. The rescue files stay until all is on disk: a kill loses nothing."""
        descriptor, aside = self._descriptors[0], ""
        replaced = data[keep:]
        if replaced and not whole[keep:].startswith(replaced):
            target = rescue.free_name(self.path, "replaced")
            replace_bytes(target, replaced)
            aside = f"; what was in their place is in {target.name}"
        if replaced:
            os.ftruncate(descriptor, keep)
        rest = memoryview(whole)[keep:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        return aside


class _Copy:
    """All lines in memory, packed to about a tenth: where a file is cut, only its writer still knows what it held."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._packer, self._parts = zlib.compressobj(1), bytearray()

    def add(self, line: bytes) -> None:
        self.size_bytes += len(line)
        self._parts += self._packer.compress(line)

    def content(self) -> bytes:
        return zlib.decompress(bytes(self._parts) + self._packer.copy().flush())


def is_written(path: Path) -> bool:
    """Whether some process has a ledger file open to write it."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """Open a ledger file to append to it, with a lock that lasts as long as this process has it open.

    Raises:
        LedgerError: another process writes it, or it is a folder.
        ConfigError: it is a link, has a second name (a hard link), or is no regular file.
    """
    try:
        descriptor = append_descriptor(path, os.O_RDWR)
    except IsADirectoryError as error:
        raise LedgerError(f"{path} is a folder\n    fix: move it away") from error
    if not _lock(descriptor):
        os.close(descriptor)
        raise LedgerError(f"{path}: another process writes it\n    fix: wait for it, or stop it")
    return descriptor


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return b""
