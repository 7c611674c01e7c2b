"""Prints what pyproject.toml depends on, with the extras named on the command line, one a line."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text())["project"]
for one in [
    *project["dependencies"],
    *(one for extra in sys.argv[1:] for one in project["optional-dependencies"][extra]),
]:
    print(one)
