"""The environment is the one that the lock names. `make verify` runs this, too."""

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_installed_is_what_is_locked() -> None:
    installed = {canonicalize_name(one.name): Version(one.version) for one in importlib.metadata.distributions()}
    checked, wrong = 0, []
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        version = installed.get(canonicalize_name(requirement.name))
        if version is None or (requirement.marker is not None and not requirement.marker.evaluate()):
            continue
        checked += 1
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version}, locked {requirement.specifier}")
    assert checked > 100
    assert not wrong, "remove .venv and run `make setup`: " + "; ".join(wrong)


def test_every_dependency_is_locked() -> None:
    locked = {
        canonicalize_name(Requirement(line).name)
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if line and not line.startswith("#")
    }
    asked = importlib.metadata.requires("isotherm") or []
    missing = {canonicalize_name(Requirement(one).name) for one in asked} - locked
    assert not missing, "run `make lock`"
