"""Reads a sweep file, and records the line of every value.

The YAML is read with PyYAML's safe constructors from composed nodes, because only nodes know their lines. Duplicate
keys, anchors and secrets are refused here; everything about meaning is left to `runner.config.settings`.
"""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runner.config.settings import holds_credentials
from trainables.errors import ConfigError, Problem

MAX_BYTES = 1_000_000  # a sweep file is a page or two; anything larger is a mistake
SHIPPED = Path("configs/sweeps")
MAX_DEPTH = 20  # of nested values; ours have 4
_MERGE = "tag:yaml.org,2002:merge"
Location = tuple[str | int, ...]

_SECRET_KEY = re.compile(r"(api[_-]?key|passw(or)?d|secret|(^|[_-])token$|credential)", re.IGNORECASE)


@dataclass(frozen=True)
class ConfigFile:
    """A parsed sweep file, or the keywords of a sweep that a program in Python describes.

    Attributes:
        path: as given; None for keywords.
        text: the file's text, to be copied into the run directory.
        values: plain dictionaries, lists and scalars.
        lines: the line of every key, counted from 1.
        overrides: the prefix of a message's place where the value was given over the file.
    """

    path: Path | None
    text: str
    values: dict[str, Any]
    lines: dict[Location, int]
    overrides: str = "--set "

    def place(self, location: Location) -> str:
        """``file:line: key`` of a value, or of its nearest parent in the file."""
        dotted = ".".join(map(str, location))
        if self.path is None:
            return dotted or "keywords"
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.path}:{self.lines[location[:length]]}: {dotted}"
        return f"{self.path}: {dotted}" if dotted else str(self.path)


def read(path: Path) -> ConfigFile:
    """Read a sweep file.

    Raises:
        ConfigError: no such file, not YAML, not a mapping, a duplicate key, an anchor, or a secret in it.
    """
    return parse(_text(path), path)


def parse(text: str, path: Path | None) -> ConfigFile:
    """Read the text of a sweep file.

    Args:
        text: YAML.
        path: how messages name the file; None for a text made of keywords, which are named without file and line.

    Raises:
        ConfigError: as of `read`.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = Problem(
            place=f"{path}:{line}",
            message=f"not valid YAML: {error.problem or error}",
            fix="check indentation, colons and quotes on this line and the one before",
        )
        raise ConfigError(problem) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(Problem(place=str(path), message=f"not valid YAML: {error}")) from error
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            Problem(place=str(path), message="not a mapping of keys", fix="see configs/sweeps/quickstart.yaml")
        )
    walker = _Walker(path)
    values = walker.value(node, ())
    if walker.problems:
        raise ConfigError(walker.problems)
    return ConfigFile(path=path, text=text, values=values, lines=walker.lines)


def read_value(text: str) -> Any:
    """A single value as YAML, such as the right side of ``--set a.b=c``.

    Raises:
        ValueError: it cannot be read, is nested too deeply, or uses an anchor again.
    """
    try:
        _check_nesting(yaml.compose(text, Loader=yaml.SafeLoader), set(), 0)
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("the value cannot be read") from error


def _check_nesting(node: yaml.Node | None, seen: set[int], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"the value cannot be read: nested deeper than {MAX_DEPTH} levels")
    if id(node) in seen:
        raise ValueError("the value cannot be read: an anchor is used again")
    seen.add(id(node))
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for one in child if isinstance(child, tuple) else (child,):
                _check_nesting(one, seen, depth + 1)


def _text(path: Path) -> str:
    if not path.is_file():
        folders = dict.fromkeys((path.parent, SHIPPED))
        files = [str(other) for folder in folders if folder.is_dir() for other in sorted(folder.glob("*.y*ml"))]
        near = difflib.get_close_matches(path.stem, [Path(other).stem for other in files], n=1)
        meant = next((other for other in files if [Path(other).stem] == near), "")
        fix = f"did you mean {meant}? " if meant else ""
        fix += f"there are: {', '.join(files)}" if files else "give the path of a sweep file"
        raise ConfigError(Problem(place=str(path), message="no such sweep file", fix=fix))
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise ConfigError(Problem(place=str(path), message=f"{len(data)} bytes is too large for a sweep file"))
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            Problem(place=str(path), message=f"not UTF-8 text (byte {error.start})", fix="save it as UTF-8")
        ) from error
    except OSError as error:
        raise ConfigError(Problem(place=str(path), message=f"cannot be read: {error.strerror}")) from error


class _Walker:
    """Turns nodes into values, keeping lines and collecting problems."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []
        self._seen: set[int] = set()
        self._constructor = yaml.SafeLoader("")

    def value(self, node: yaml.Node, location: Location) -> Any:
        if len(location) > MAX_DEPTH:
            self._problem(node, location[:1], f"nested deeper than {MAX_DEPTH} levels", "write a plain value")
            return None
        if id(node) in self._seen:
            self._problem(node, location, "an anchor is used again", "write the value out; anchors are not supported")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*location, index)] = item.start_mark.line + 1
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, location, "a key must be a plain word", "write `key: value`")
                continue
            if key_node.tag == _MERGE:
                self._problem(key_node, location, "merge keys (<<) are not supported", "write the keys out")
                continue
            key = str(key_node.value)
            here = (*location, key)
            if key in values:
                first = self.lines[here]
                self._problem(key_node, here, f"given twice, first on line {first}", "keep one of the two")
            self.lines[here] = key_node.start_mark.line + 1
            if _SECRET_KEY.search(key):
                self._problem(
                    key_node, here, "a secret does not belong in a sweep file", "put it in the environment or in .env"
                )
            values[key] = self.value(value_node, here)
        return values

    def _scalar(self, node: yaml.Node, location: Location) -> Any:
        try:
            value = self._constructor.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            self._problem(node, location, f"cannot be read: {str(error).splitlines()[0]}", "write a plain value")
            return None
        if isinstance(value, str) and holds_credentials(value):
            self._problem(
                node,
                location,
                "a URI with user information or credentials does not belong in a sweep file",
                "put user and password in the environment or in .env",
            )
        return value

    def _problem(self, node: yaml.Node, location: Location, message: str, fix: str) -> None:
        dotted = ".".join(map(str, location))
        line = f"{self.path}:{node.start_mark.line + 1}"
        place = dotted if self.path is None else line + (f": {dotted}" if dotted else "")
        self.problems.append(Problem(place=place, message=message, fix=fix))
