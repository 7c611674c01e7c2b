"""Requests to the sweep that runs in a run directory, from another terminal: files that its driver and gates watch."""

from contextlib import suppress

from runner.rundir import ledger
from runner.rundir.paths import RunPaths
from trainables.errors import ConfigError, Problem


def is_running(paths: RunPaths) -> bool:
    """Whether a driver writes to the run, by the lock that it has on its ledger on this host."""
    try:
        return ledger.is_written(paths.ledger)
    except OSError:  # somebody else's run, which this user may only read
        return paths.running.exists()


def stop(paths: RunPaths) -> None:
    """Ask the sweep to save every running trial, then to end. Works on a full disk, too.

    Raises:
        ConfigError: no sweep runs there.
    """
    _refuse_unless_running(paths)
    with suppress(OSError):  # only the reason that is recorded differs
        paths.stop_request.touch()
    paths.running.unlink(missing_ok=True)


def stop_trial(paths: RunPaths, key: str) -> str:
    """Ask the sweep to end one running trial, and not to start it again. Returns its name.

    Args:
        paths: of the run.
        key: of the trial, or its first digits.

    Raises:
        ConfigError: no sweep runs there, or no trial of that key.
    """
    _refuse_unless_running(paths)
    cells = ledger.read(paths.ledger).current
    running = {one: state for one, state in cells.items() if state.status == "running"}
    found = [one for one in running if one.startswith(key)]
    if len(found) != 1:
        what = "several running trials begin with it" if found else "no trial of that key runs"
        names = ", ".join(f"{one} ({state.cell.name})" for one, state in running.items())
        raise ConfigError(Problem(place=f"key {key!r}", message=what, fix=f"running: {names or 'none'}"))
    paths.trial_stop_request(found[0]).touch()
    return running[found[0]].cell.name


def pause(paths: RunPaths) -> None:
    """Ask every trial to save, to free its device and to wait, until `resume`.

    Raises:
        ConfigError: no sweep runs there.
    """
    _refuse_unless_running(paths)
    paths.paused.touch()


def resume(paths: RunPaths) -> None:
    """Let a paused sweep go on.

    Raises:
        ConfigError: no sweep runs there, or it is not paused.
    """
    _refuse_unless_running(paths)
    if not paths.paused.exists():
        raise ConfigError(Problem(place=f"run {paths.name!r}", message="is not paused", fix=""))
    paths.paused.unlink(missing_ok=True)


def clear(paths: RunPaths) -> None:
    """Remove requests to a sweep that is over."""
    for path in (paths.stop_request, paths.paused, *paths.root.glob(".stop-*")):
        path.unlink(missing_ok=True)


def _refuse_unless_running(paths: RunPaths) -> None:
    if not is_running(paths):
        fix = f"isotherm status {paths.name}"
        raise ConfigError(Problem(place=f"run {paths.name!r}", message="no sweep runs there on this host", fix=fix))
