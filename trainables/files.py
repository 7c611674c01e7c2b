"""Files that are never seen half-written: written aside, synced, then moved into place."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a user mends without touching the sweep: a full disk or quota, a read-only or lost file system, missing rights.
_STORAGE = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EACCES", "EPERM", "ESTALE", "ENOTCONN", "ENODEV")
)


def is_storage_trouble(error: BaseException) -> bool:
    """Whether an error says that files cannot be written, rather than that something is wrong with the program."""
    return isinstance(error, OSError) and error.errno in _STORAGE


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path aside to write to; on a clean exit it replaces `path` atomically, on an error it is removed.

    The file's mode is 0666 less the user's umask, as for any other file.

    Raises:
        OSError: the disk is full, read-only or gone; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}{path.suffix}")
    # Unlike `tempfile`, whose files are 0600, this leaves the mode to the umask; O_EXCL follows no link.
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield aside
        with aside.open("rb+") as handle:
            os.fsync(handle.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def replace_bytes(path: Path, data: bytes) -> None:
    """Replace a file atomically."""
    with replacing(path) as aside:
        aside.write_bytes(data)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
