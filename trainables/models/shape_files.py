"""Hand-written model shapes: ``<budget>.yaml`` files, each a mapping from model names to sizes."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

import yaml

from trainables.errors import BudgetError, ConfigError, Problem
from trainables.schema import ModelName, parse_budget

_MODELS: tuple[ModelName, ...] = get_args(ModelName)
_SIZES = ("width", "depth", "heads", "feed_forward")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The sizes of one model, and where they were written (``file:line: model``)."""

    place: str
    width: int
    depth: int
    heads: int
    feed_forward: int


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
            problems.append(Problem(place=str(path), message=str(error), mend="name the file after its budget"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        problems.append(Problem(place=str(folder), message=f"{names} are of one budget", mend="keep one of them"))
    if problems:
        raise BudgetError(problems)
    return found[0] if found else None


def load(path: Path) -> dict[ModelName, Entry]:
    """The entries of a file by model.

    Raises:
        ConfigError: the file cannot be read, or is not as it must be; all problems with line, key and mend.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            Problem(place=str(path), message=f"cannot be read: {error}", mend="save it as UTF-8 text")
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error)
        raise ConfigError(Problem(place=place, message=f"is not YAML: {what}", mend="correct the syntax")) from error
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

    def entries(self, root: yaml.Node | None) -> dict[ModelName, Entry]:
        """All entries that are in order."""
        found: dict[ModelName, Entry] = {}
        for name, node in self._mapping(root, "", _MODELS).items():
            entry = self._entry(name, node)
            if entry is not None:
                found[next(model for model in _MODELS if model == name)] = entry
        return found

    def _entry(self, model: str, node: yaml.Node) -> Entry | None:
        before = len(self.problems)
        nodes = self._mapping(node, model, _SIZES)
        required = _SIZES if model != "mlp" else tuple(size for size in _SIZES if size != "heads")
        missing = [size for size in required if size not in nodes]
        if missing and isinstance(node, yaml.MappingNode):
            self._report(node, model, f"{', '.join(missing)} missing", f"give {', '.join(required)}")
        sizes = {size: self._positive(value, f"{model}.{size}") for size, value in nodes.items()}
        if len(self.problems) > before:
            return None
        sizes.setdefault("heads", 1)
        if model == "mlp" and sizes["heads"] != 1:
            self._report(nodes["heads"], "mlp.heads", "a perceptron has no heads", "remove the key")
        elif sizes["width"] % sizes["heads"]:
            message = f"{sizes['heads']} heads do not divide the width {sizes['width']}"
            self._report(nodes["heads"], f"{model}.heads", message, "use a number that divides the width")
        return Entry(place=self._place(node, model), **sizes)

    def _mapping(self, node: yaml.Node | None, place: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        """The known keys of a mapping with their values."""
        if not isinstance(node, yaml.MappingNode):
            self._report(node, place, "is not a mapping", f"write keys and values; the keys are {', '.join(known)}")
            return {}
        values: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = str(key_node.value)
            where = f"{place}.{key}" if place else key
            if key not in known:
                nearest = get_close_matches(key, known, n=1)
                mend = f"did you mean {nearest[0]}?" if nearest else f"the keys are {', '.join(known)}"
                self._report(key_node, where, "unknown key", mend)
            elif key in values:
                self._report(key_node, where, "is given twice", "keep one of them")
            else:
                values[key] = value
        return values

    def _positive(self, node: yaml.Node, place: str) -> int:
        """A whole number of at least 1; 1 stands in for anything else, which is reported."""
        value = yaml.safe_load(node.value) if node.tag == "tag:yaml.org,2002:int" else None
        if isinstance(value, int) and value >= 1:
            return value
        written = repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
        self._report(node, place, f"{written} is not a whole number of at least 1", "write a number such as 64")
        return 1

    def _place(self, node: yaml.Node | None, key: str) -> str:
        line = node.start_mark.line + 1 if node is not None else 1
        return f"{self.path}:{line}: {key}" if key else f"{self.path}:{line}"

    def _report(self, node: yaml.Node | None, key: str, message: str, mend: str) -> None:
        self.problems.append(Problem(place=self._place(node, key), message=message, mend=mend))
