"""Hand-written model shapes: ``<budget>.yaml`` files, each a mapping from model names to sizes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from trainables.errors import BudgetError, ConfigError, Problem, nearest
from trainables.models.registry import ARCHITECTURES, shape_type
from trainables.models.shapes import Shape
from trainables.schema import parse_budget


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The shape of one model, and where it was written (``file:line: model``)."""

    place: str
    shape: Shape


def find(folder: Path, target: int) -> Path | None:
    """The file of a budget, by what its name means: ``2b.yaml`` and ``2000m.yaml`` are of the same budget.

    Raises:
        BudgetError: a file whose name is no budget, or several files of this budget.
    """
    problems, found = [], []
    for path in sorted(folder.glob("*.yaml")):
        try:
            if parse_budget(path.stem) == target:
                found.append(path)
        except ValueError as error:
            problems.append(Problem(place=str(path), message=str(error), fix="name the file after its budget"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        problems.append(Problem(place=str(folder), message=f"{names} are of one budget", fix="keep one of them"))
    if problems:
        raise BudgetError(problems)
    return found[0] if found else None


def load(path: Path) -> dict[str, Entry]:
    """The entries of a file by model.

    Raises:
        ConfigError: the file cannot be read, or is not as it must be; all problems with line, key and fix.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            Problem(place=str(path), message=f"cannot be read: {error}", fix="save it as UTF-8 text")
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error)
        raise ConfigError(Problem(place=place, message=f"is not YAML: {what}", fix="correct the syntax")) from error
    reader = _Reader(path)
    entries = reader.entries(root)
    if reader.problems:
        raise ConfigError(reader.problems)
    return entries


@dataclass
class _Reader:
    """Walks the nodes of one file, since only nodes know their lines, and gathers what is wrong."""

    path: Path
    problems: list[Problem] = field(default_factory=list)

    def entries(self, root: yaml.Node | None) -> dict[str, Entry]:
        """All entries that are in order."""
        parts = {part.name: part for part in ARCHITECTURES}
        found: dict[str, Entry] = {}
        for name, node in self._mapping(root, "", parts).items():
            entry = self._entry(name, node, shape_type(parts[name]))
            if entry is not None:
                found[name] = entry
        return found

    def _entry(self, model: str, node: yaml.Node, form: type[Shape]) -> Entry | None:
        nodes = self._mapping(node, model, form.model_fields)
        if not isinstance(node, yaml.MappingNode):
            return None
        missing = [name for name, known in form.model_fields.items() if known.is_required() and name not in nodes]
        if missing:
            self._report(node, model, f"{', '.join(missing)} missing", f"give {', '.join(form.model_fields)}")
        values = {name: _plain(value) for name, value in nodes.items()}
        try:
            return Entry(place=self._place(node, model), shape=form.model_validate(values, strict=True))
        except ValidationError as error:
            for issue in error.errors(include_url=False):
                key = str(issue["loc"][0]) if issue["loc"] else ""
                if issue["type"] != "missing":
                    self._invalid(node, nodes.get(key), model, key, issue)
        return None

    def _invalid(self, entry: yaml.Node, node: yaml.Node | None, model: str, key: str, issue: Any) -> None:
        """A value that its shape does not take, or values that do not go together."""
        message = str(issue["msg"]).removeprefix("Value error, ")
        if node is None:
            self._report(entry, model, message, "correct the sizes")
            return
        written = repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
        self._report(node, f"{model}.{key}", f"{message} (got {written})", "write a number such as 64")

    def _mapping(self, node: yaml.Node | None, place: str, known: Iterable[str]) -> dict[str, yaml.Node]:
        """The known keys of a mapping with their values."""
        if not isinstance(node, yaml.MappingNode):
            self._report(node, place, "is not a mapping", f"write keys and values; the keys are {', '.join(known)}")
            return {}
        values: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(key_node.value)
            where = f"{place}.{key}" if place else key
            if key not in known:
                self._report(key_node, where, "unknown key", nearest(key, known))
            elif key in values:
                self._report(key_node, where, "is given twice", "keep one of them")
            else:
                values[key] = value
        return values

    def _place(self, node: yaml.Node | None, key: str) -> str:
        line = node.start_mark.line + 1 if node is not None else 1
        return f"{self.path}:{line}: {key}" if key else f"{self.path}:{line}"

    def _report(self, node: yaml.Node | None, key: str, message: str, fix: str) -> None:
        self.problems.append(Problem(place=self._place(node, key), message=message, fix=fix))


def _plain(node: yaml.Node) -> Any:
    """A scalar as YAML reads it; anything else stays a node, which no field of a shape takes."""
    if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith("tag:yaml.org,2002:"):
        return node
    constructor = yaml.SafeLoader("")
    return constructor.construct_object(node)
