"""Plugins: Python files that the person who runs names, carried to workers by content.

A sweep file cannot name one, so a YAML from elsewhere never makes code run. A worker needs no file: it gets the text
and loads it under a module name made from the text's hash.
"""

import linecache
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from trainables.errors import ConfigError, InputError, Problem
from trainables.parts.source import PLUGIN, sha256_of
from trainables.schema import Spec

MAX_BYTES = 1_000_000  # one file of source text; anything larger is a mistake
_DIGITS = 12
_COPY = re.compile(rf"[0-9a-f]{{{_DIGITS}}}_")


class Plugin(Spec):
    """A plugin's text, and the path that it was read from, for messages."""

    path: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the text."""
        return sha256_of(self.text)

    @property
    def module(self) -> str:
        """Name of the module that it is loaded as."""
        return f"isotherm_plugin_{self.sha256[:_DIGITS]}"

    @property
    def file_name(self) -> str:
        """Name of its copy in a run directory: digits of the hash, then its own name (a copy keeps its name)."""
        return f"{self.sha256[:_DIGITS]}_{_COPY.sub('', Path(self.path).name)}"


_loaded: dict[str, Plugin] = {}  # by path: a file that was changed and loaded again counts once


def loaded() -> tuple[Plugin, ...]:
    """The plugins that this process runs with, for whoever starts another process."""
    return tuple(_loaded.values())


def read(path: Path) -> Plugin:
    """Read a plugin file.

    Raises:
        ConfigError: it is no Python file that can be read.
    """
    try:
        if path.suffix != ".py":
            raise _refusal(path, "a plugin is a Python file", "give the path of a .py file")
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise _refusal(path, f"{len(data):,} bytes are too many for a plugin", f"at most {MAX_BYTES:,} are read")
        return Plugin(path=str(path), text=data.decode("utf-8"))
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror}", "correct the path of --plugin") from error
    except UnicodeDecodeError as error:
        raise _refusal(path, f"not UTF-8 text (byte {error.start})", "save it as UTF-8") from error


def load(plugins: Iterable[Plugin]) -> None:
    """Run plugins that this process does not run with yet, which registers their parts.

    Raises:
        ConfigError: a plugin failed, with its own file and line.
    """
    for plugin in plugins:
        if _loaded.get(plugin.path) != plugin:
            _run(plugin)
            _loaded[plugin.path] = plugin


def _run(plugin: Plugin) -> None:
    module = ModuleType(plugin.module)
    module.__file__ = plugin.path
    setattr(module, PLUGIN, plugin)
    # Tracebacks then show the lines that were run, also on a worker that has no such file.
    lines = plugin.text.splitlines(keepends=True)
    linecache.cache[plugin.path] = (len(plugin.text), None, lines, plugin.path)
    sys.modules[plugin.module] = module  # dataclasses and pickle look the module up
    try:
        exec(compile(plugin.text, plugin.path, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[plugin.module]
        if isinstance(error, InputError):
            raise
        fix = "correct it; `python FILE` shows the whole traceback"
        raise _refusal(Path(plugin.path), f"{type(error).__name__}: {error}", fix, _line(plugin, error)) from error


def _line(plugin: Plugin, error: BaseException) -> int | None:
    """The line of the plugin where an error arose."""
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == plugin.path]
    return frames[-1] if frames else None


def _refusal(path: Path, message: str, fix: str, line: int | None = None) -> ConfigError:
    return ConfigError(Problem(place=f"{path}:{line}" if line else str(path), message=message, fix=fix))
