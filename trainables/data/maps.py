"""Arrays that are made once, kept in files, and mapped into memory: all processes of a host share their pages.

What is kept follows from a dataset's file alone. Whatever is doubtful (made of another file, by other code, of another
size or date) is made anew, so that a folder of maps may be removed at any time.
"""

import hashlib
import json
import mmap
import secrets
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.files import read_json
from trainables.tasks import prices

Array = npt.NDArray[Any]
_META = "meta.json"
RELEASED_ROWS = 200_000  # of an array that is filled: after so many, what is written is let go of


class Group:
    """Arrays that were made together, by name, and plain values in addition."""

    def __init__(self, arrays: dict[str, Array], info: dict[str, Any]) -> None:
        self.arrays, self.info = arrays, info

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]


New = Callable[[str, npt.DTypeLike, tuple[int, ...]], Array]  # an array of a name, to be filled
Make = Callable[[New], dict[str, Any]]


class Maps:
    """Groups of arrays of one dataset.

    Args:
        folder: where they are kept; None keeps them in memory, as does a folder that cannot be written.
        of: what all of them follow from: the hash of the dataset's file.
    """

    def __init__(self, folder: Path | None, of: str) -> None:
        self._folder, self._of = folder, of
        self._groups: dict[str, Group] = {}

    def kept(self, name: str, make: Make) -> Group:
        """A group as kept, or made now.

        Args:
            name: of the group; it says what the arrays follow from, apart from the dataset.
            make: fills the arrays that it asks for, and returns plain values to keep with them.
        """
        if name not in self._groups:
            self._groups[name] = self._opened(name) or self._made(name, make)
        return self._groups[name]

    def _opened(self, name: str) -> Group | None:
        if self._folder is None:
            return None
        folder = self._folder / name
        try:
            meta = read_json(folder / _META)
            if meta["of"] != self._of or meta["code"] != _code():
                return None
            if any(_state(folder / file) != state for file, state in meta["files"].items()):
                return None
            return Group({Path(file).stem: _mapped(folder / file) for file in meta["files"]}, meta["info"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _made(self, name: str, make: Make) -> Group:
        if self._folder is None:
            return _in_memory(make)
        aside = self._folder / f".{name}.{secrets.token_hex(8)}"
        try:
            aside.mkdir(parents=True)
        except OSError:
            return _in_memory(make)
        try:
            made: dict[str, np.memmap[Any, Any]] = {}

            def new(array: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Array:
                if 0 in shape:  # an empty file cannot be mapped
                    np.save(aside / f"{array}.npy", np.empty(shape, dtype))
                    return np.empty(shape, dtype)
                made[array] = np.lib.format.open_memmap(aside / f"{array}.npy", mode="w+", dtype=dtype, shape=shape)
                return made[array]

            info = make(new)
            for one in made.values():
                one.flush()
            made.clear()
            states = {file.name: _state(file) for file in sorted(aside.iterdir())}
            meta = {"of": self._of, "code": _code(), "files": states, "info": info}
            (aside / _META).write_text(json.dumps(meta))
            folder = self._folder / name
            if self._opened(name) is None:  # else another process was faster
                shutil.rmtree(folder, ignore_errors=True)
                aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return self._opened(name) or _in_memory(make)


def release(*arrays: Array) -> None:
    """Let go of the pages of mapped arrays: they stay in the system's cache, and no longer count as this process's."""
    for one in arrays:
        if isinstance(one, np.memmap):
            one._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def _in_memory(make: Make) -> Group:
    arrays: dict[str, Array] = {}

    def new(name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Array:
        arrays[name] = np.empty(shape, dtype)
        return arrays[name]

    info = make(new)
    return Group(arrays, info)


def _mapped(file: Path) -> Array:
    """Copy on write: nothing can change the file, and torch takes the array as it is."""
    try:
        return np.asanyarray(np.load(file, mmap_mode="c"))
    except ValueError:  # an empty array
        return np.asarray(np.load(file))


def _state(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


@cache
def _code() -> str:
    """Hash of the code that what is kept follows from."""
    files = ("dataset", "features", "representation", "scaling", "labels", "splits", "window_index", "windows", "maps")
    paths = [*(Path(__file__).with_name(f"{name}.py") for name in files), Path(prices.__file__)]
    sources = b"".join(path.read_bytes() for path in paths)
    return hashlib.sha256(sources).hexdigest()[:16]
