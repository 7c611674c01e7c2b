"""Files that are never seen half-written (written aside, synced, then moved into place), and files of somebody else.

A run directory may come from another person: nothing in it is written, removed or appended to through a link, and what
is read from it has a bounded size and depth.
"""

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from trainables.errors import ConfigError, Problem

MAX_JSON_BYTES = 64 * 2**20  # of one document: a catalog or a list of runs of 10,000 entries has a few MB
MAX_PROBLEMS = 10  # links that are named at once

# What a user can fix without touching the sweep: a full disk or quota, a read-only or lost file system, missing rights.
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
        ConfigError: a folder has the file's name.
        OSError: the disk is full, read-only or gone; `path` is as it was.
    """
    if path.is_dir():
        raise ConfigError(_folder_in_its_place(path))
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


# ---- files of somebody else --------------------------------------------------------------------------------------


def refuse_links(folder: Path, levels: int, shallow: str = "") -> None:
    """Examine a folder before anything in it is read or written: it holds regular files and folders alone.

    Args:
        folder: may itself be reached through a link; whoever names it means what it leads to.
        levels: how many levels of folders are looked into; nothing of ours is deeper.
        shallow: name of a folder that is another program's: only its own entries are looked at.

    Raises:
        ConfigError: links, pipes, sockets or devices, each with its place.
    """
    problems = list(_odd_entries(folder, levels, shallow))
    if problems:
        raise ConfigError(problems[:MAX_PROBLEMS])


def _odd_entries(folder: Path, levels: int, shallow: str) -> Iterator[Problem]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except (FileNotFoundError, NotADirectoryError):  # a run that is going on makes and removes folders
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if levels > 1:
                yield from _odd_entries(Path(entry.path), 1 if entry.name == shallow else levels - 1, shallow)
        elif not entry.is_file(follow_symlinks=False):
            what, fix = "is neither a file nor a folder", "remove it"
            if entry.is_symlink():
                what, fix = "is a link", "remove it, or put a copy of what it leads to in its place"
            yield Problem(place=entry.path, message=f"{what}; a run directory holds files and folders alone", fix=fix)


def real_folder(folder: Path, root: Path) -> Path:
    """Make a folder below `root` where it is missing; each folder on the way from `root` is a real one, not a link.

    Raises:
        ConfigError: one of them is a link or a file.
        OSError: it cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    here = root
    for part in folder.relative_to(root).parts:
        here = here / part
        with _suppress_exists():
            here.mkdir()
        if not stat.S_ISDIR(here.lstat().st_mode):
            message = "is a link" if here.is_symlink() else "is not a folder"
            raise ConfigError(Problem(place=str(here), message=message, fix="remove it; it is made again"))
    return folder


@contextmanager
def _suppress_exists() -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        return


def open_appending(path: Path) -> TextIOWrapper:
    """Open a text file to append to it; see `append_descriptor`."""
    return os.fdopen(append_descriptor(path, os.O_WRONLY), "a", encoding="utf-8")


def append_descriptor(path: Path, access: int) -> int:
    """Open a file to append to it. No link is followed, and no second name of a file elsewhere is written to.

    Args:
        path: of the file; it is made where there is none.
        access: O_WRONLY or O_RDWR.

    Raises:
        ConfigError: it is a link, has a second name (a hard link), or is no regular file.
        OSError: it cannot be opened.
    """
    flags = access | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.EISDIR:
            raise ConfigError(_folder_in_its_place(path)) from error
        if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link; a pipe without a reader
            raise
        raise ConfigError(Problem(place=str(path), message="is a link or a pipe", fix="remove it")) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        message = "is the second name of another file (a hard link)" if found.st_nlink > 1 else "is no regular file"
        raise ConfigError(Problem(place=str(path), message=message, fix="remove it, or put a copy in its place"))
    return descriptor


def _folder_in_its_place(path: Path) -> Problem:
    return Problem(place=str(path), message="is a folder; a file of this name is to be written", fix="move it away")


class LogFile(logging.FileHandler):
    """A log that is appended to; see `open_appending`."""

    def _open(self) -> TextIOWrapper:
        return open_appending(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Leave a line out that a full disk does not take: what matters is on the terminal, too."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it, or a file, as far as that is possible. A link stays, and its target."""
    if path.is_symlink():
        return
    if path.is_file():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """A regular file of bounded size.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
        ValueError: it is larger, or no regular file.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as handle:  # a pipe must not block
        found = os.fstat(handle.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no regular file")
        if found.st_size > max_bytes:
            raise ValueError(f"it has {found.st_size:,} bytes, more than {max_bytes:,}")
        return handle.read()


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """A JSON document of bounded size.

    Raises:
        OSError, ValueError: as of `read_bytes`; or it is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(read_bytes(path, max_bytes))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
