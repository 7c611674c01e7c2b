"""Where a part comes from, and the hash of the text that defines it."""

import hashlib
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

SHIPPED = "shipped"
PLUGIN = "__isotherm_plugin__"  # the attribute of a plugin's module that holds the `Plugin`


@dataclass(frozen=True)
class Source:
    """Where a part comes from.

    Attributes:
        origin: ``shipped``, the distribution with its version, ``plugin file.py``, or ``python`` for code that
            registered it directly.
        place: the file or module that defines it. Registering a name again from one place replaces the part.
        sha256: of that file's text; empty where there is no file, as in an interactive session. Helpers that the file
            imports are not covered.
    """

    origin: str
    place: str
    sha256: str

    @property
    def shipped(self) -> bool:
        """Whether it is part of Isotherm."""
        return self.origin == SHIPPED


def sha256_of(text: str) -> str:
    """Hash of a source text, whatever its line ends."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def source_of(module_name: str, group: str) -> Source:
    """The source of a part that the module of this name registers; `group` is the entry points' group of its kind."""
    module = sys.modules.get(module_name)
    plugin = getattr(module, PLUGIN, None)
    if plugin is not None:
        return Source(f"plugin {Path(plugin.path).name}", plugin.path, plugin.sha256)
    file = getattr(module, "__file__", None)
    try:
        digest = sha256_of(Path(file).read_text(encoding="utf-8")) if file else ""
    except (OSError, UnicodeDecodeError):
        digest = ""
    return Source(_origin(module_name, group), file or module_name, digest)


def _origin(module_name: str, group: str) -> str:
    top = module_name.partition(".")[0]
    if top == __name__.partition(".")[0]:
        return SHIPPED
    for point in entry_points(group=group):
        if point.module.partition(".")[0] == top:
            return distribution(point)
    return "python"


def distribution(point: EntryPoint) -> str:
    """``name version`` of the distribution that an entry point belongs to."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
