"""Files of a user's folders that Python imports in place of what their names stand for: ``random.py``, ``torch/``.

It loads nothing that a user's file could replace: it has to work where an import has just failed.
"""

import os
import sys
from importlib.machinery import PathFinder

_OURS = ("isotherm", "runner", "trainables")


def found() -> list[str]:
    """What shadows what, in words: files and packages in the folders that Python looks in before its own."""
    own = (os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix))
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    said = []
    for number, entry in enumerate(sys.path):
        folder = os.path.realpath(entry or os.getcwd())
        if folder == root or folder.startswith(own) or folder.endswith("-packages") or not os.path.isdir(folder):
            continue
        rest = [one for one in sys.path[number + 1 :] if os.path.realpath(one or os.getcwd()) != folder]
        for name, path in _modules(folder):
            if name in sys.stdlib_module_names:
                said.append(f"{path} is imported in place of Python's own module {name!r}")
            elif name in _OURS or PathFinder.find_spec(name, rest) is not None:
                said.append(f"{path} is imported in place of the package {name!r}")
    return list(dict.fromkeys(said))


def _modules(folder: str) -> list[tuple[str, str]]:
    """Names that can be imported from a folder, with their paths; a folder without ``__init__.py`` shadows nothing."""
    modules = []
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        name, extension = os.path.splitext(entry)
        if extension == ".py" or (not extension and os.path.isfile(os.path.join(path, "__init__.py"))):
            modules.append((name, path))
    return modules
