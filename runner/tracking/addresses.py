"""Whose address is it? A run directory or a sweep file inside one may come from somebody else, with a server of theirs.

An address counts as the user's own when it comes from the user's environment or ``.env``, when it was given on the
command line, or when a sweep of this user has named it before: those are noted in the user's own state folder, one a
line. Nothing in a run directory can add to them.
"""

import logging
import os
import shlex
import stat
from pathlib import Path

from runner.config.settings import PREFIX, MlflowEnvironment, UserMlflow, UserSettings
from runner.config.sweep_file import Sweep
from runner.rundir.paths import RunPaths
from trainables.errors import ConfigError, Problem
from trainables.files import open_appending, read_bytes

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000
_FILE = "tracking_addresses.txt"


def is_own(uri: str) -> bool:
    """Whether this user has named the address."""
    given = (UserMlflow().uri, MlflowEnvironment().tracking_uri)
    return _plain(uri) in {*(_plain(one) for one in given if one), *_noted(_file())}


def note(uri: str) -> None:
    """Remember an address that this user has given. Where that cannot be written down, it has to be given again."""
    file = _file()
    if _plain(uri) in _noted(file):
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open_appending(file) as handle:
            handle.write(_plain(uri) + "\n")
    except (OSError, ConfigError) as error:
        log.warning("%s cannot be written: %s; `isotherm sync` will ask for the address", file, error)


def refuse_foreign(uri: str | None, place: str, option: str) -> None:
    """Refuse an address that comes from a run directory, unless it is the user's own.

    Raises:
        ConfigError: it is not.
    """
    if uri is not None and not is_own(uri):
        message = f"the tracking address {uri!r} comes from a run directory, and you have not named it before"
        fix = f"if you know this server, name it yourself: {option}{shlex.quote(uri)}"
        raise ConfigError(Problem(place=place, message=message, fix=fix))


def admit(sweep: Sweep) -> None:
    """Examine where a sweep's records would go.

    Raises:
        ConfigError: the sweep file lies in a run directory, so that it is the copy of what somebody ran, and this user
            has not named its address of MLflow before.
    """
    mlflow, file = sweep.settings.tracking.mlflow, sweep.file.path
    if mlflow is not None and file is not None and RunPaths(file.parent).ledger.exists():
        refuse_foreign(mlflow.uri, str(file), f"export {PREFIX}TRACKING__MLFLOW__URI=")


def _file() -> Path:
    return UserSettings().state_dir / _FILE


def _plain(uri: str) -> str:
    return uri.strip().rstrip("/")


def _noted(file: Path) -> frozenset[str]:
    """What was noted; nothing where somebody else could have written it."""
    try:
        found = file.lstat()
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022 or not stat.S_ISREG(found.st_mode):
            log.warning("%s belongs to others, or others may write to it: it is not used", file)
            return frozenset()
        return frozenset(read_bytes(file, MAX_BYTES).decode(errors="replace").split("\n")) - {""}
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read: %s", file, error)
        return frozenset()
