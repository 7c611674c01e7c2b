"""Brings a run here from its storage, so that a machine that has only the sweep file can go on with it."""

import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from runner.config.settings import SweepSettings
from runner.rundir import ledger, lock
from runner.rundir.ledger import Ledger, LedgerView, rescue
from runner.rundir.paths import RunPaths, run_paths
from runner.storage import place_of, segments
from runner.storage.checkpoints import OVER
from runner.storage.segments import Segment
from runner.terminal.console import Console
from trainables.checkpoints.object_store import Storage, data_name, first_line
from trainables.data import catalog
from trainables.data.dataset import CatalogEntry
from trainables.errors import ConfigError, Problem
from trainables.files import real_folder, replace_bytes

# Names from elsewhere become paths here: only these forms do.
_MARK = re.compile(r"checkpoints/([0-9a-f]{12})/(attempt-\d+\.json)")
_PLUGIN = re.compile(r"plugins/([0-9a-f]{16})\.([0-9a-f]{12}_[^/\0]+\.py)")
_PREDICTION = re.compile(r"predictions/([0-9a-f]{12})\.([0-9a-f]{16})\.parquet")
PARALLEL = 8  # objects at a time; they are small, and a request takes tens of milliseconds


def bring(settings: SweepSettings, runs: Path, data_root: Path, console: Console) -> None:
    """Bring what the storage of a sweep has and this machine lacks: ledger, data, plugins, predictions, marks of
    attempts.

    Checkpoints are brought by the workers that need them. Without a storage nothing is done; where it cannot be
    reached, a run that is here goes on. Where a sweep is running here, there is nothing to bring.

    Raises:
        ConfigError: the URI cannot be used; it cannot be reached and there is no run here; its ledger and the one here
            contradict each other.
    """
    paths = run_paths(settings.name, runs)
    place = place_of(settings, paths)
    if place is None:
        return
    storage, known = Storage(place), paths.has_ledger
    sizes: dict[str, int] | None = None
    try:
        sizes = storage.sizes()
        if sizes:
            with suppress(lock.HeldError), lock.held(paths):  # who writes here has everything
                _bring(storage, sizes, paths, data_root, console)
    except OSError as error:
        if known and sizes is None:
            message = f"storage {storage} cannot be read now ({first_line(error)}); the run here continues"
            console.print(message, markup=False, highlight=False)
            return
        without = "" if known else ", and there is no such run here"
        fix = "check the address, the network and the credentials in the environment; a folder must exist"
        raise _refusal(storage, f"cannot be read ({first_line(error)}){without}", fix) from error


def _bring(storage: Storage, sizes: dict[str, int], paths: RunPaths, data_root: Path, console: Console) -> None:
    if rescue.files(paths.ledger):
        Ledger(paths.ledger).close()  # puts rescued records back
    before = paths.ledger.stat().st_size if paths.ledger.exists() else 0
    _bring_ledger(storage, segments.found(sizes), paths)
    view = ledger.read(paths.ledger)
    if before < paths.ledger.stat().st_size:
        console.print(
            f"brought here from {storage}: a ledger with {len(view.cells)} cells", highlight=False, markup=False
        )
    _bring_marks(storage, sizes, view, paths)
    _bring_plugins(storage, sizes, paths)
    _bring_predictions(storage, sizes, view, paths)
    for one in view.sweeps[-1].datasets if view.sweeps else ():
        _bring_dataset(storage, sizes, catalog.entry_of(one, str(paths.ledger)), data_root)


def _bring_ledger(storage: Storage, there: list[Segment], paths: RunPaths) -> None:
    """Add what the storage's ledger has beyond the one here.

    Raises:
        ConfigError: they went different ways, or it is not whole.
    """
    here = segments.whole_lines(paths.ledger.read_bytes()) if paths.ledger.exists() else b""
    whole = here
    links = segments.chain(there)
    for one in links:
        data = here[one.start : one.end] if one.end <= len(here) else storage.read(one.name)
        if one.end > len(here) and not one.holds(data):
            raise _refusal(storage, f"{one.name} is damaged", "go on on the machine that wrote it, which has it whole")
        if not one.holds(data) or not data.startswith(here[one.start : one.end]):
            raise _refusal(
                storage,
                f"its ledger and {paths.ledger} went different ways after byte {one.start}",
                f"another machine went on with this run: move {paths.root} away and run this again to go on from the "
                "storage, or give the sweep another name",
            )
        if one.end > len(here):
            whole = whole[: one.start] + data
    if there and max(one.end for one in there) > len(whole):
        message = f"a piece of its ledger is missing after byte {len(whole)}"
        raise _refusal(storage, message, "go on on the machine that wrote it, which has it whole")
    if len(whole) > len(here):
        replace_bytes(paths.ledger, whole)


def _refusal(storage: Storage, message: str, fix: str) -> ConfigError:
    return ConfigError(Problem(place=f"storage_path: {storage}", message=message, fix=fix))


def _bring_dataset(storage: Storage, sizes: dict[str, int], entry: CatalogEntry, data_root: Path) -> None:
    name = data_name(entry.path, entry.file_sha256)
    if name in sizes:
        catalog.adopt(entry, data_root, lambda target: storage.fetch(name, target, entry.file_sha256))


def _bring_marks(storage: Storage, sizes: Iterable[str], view: LedgerView, paths: RunPaths) -> None:
    """Attempts that a driver elsewhere began and could not report any more must not be numbered again."""
    over = {key for key, state in view.cells.items() if state.status in OVER}
    for name in sizes:
        if (match := _MARK.fullmatch(name)) and match[1] not in over:
            mark = paths.checkpoint(match[1]) / match[2]
            if not mark.exists():
                replace_bytes(mark, storage.read(name))


def _bring_plugins(storage: Storage, sizes: Iterable[str], paths: RunPaths) -> None:
    """Copies of plugins; they are loaded only where a command names them."""
    for name in sizes:
        if (match := _PLUGIN.fullmatch(name)) and not paths.plugin(match[2]).exists():
            real_folder(paths.plugins, paths.root)
            storage.fetch(name, paths.plugin(match[2]), match[1])


def _bring_predictions(storage: Storage, sizes: Iterable[str], view: LedgerView, paths: RunPaths) -> None:
    """Predictions of cells that are over; the report needs them."""

    def fetch(match: re.Match[str]) -> None:
        storage.fetch(match[0], paths.prediction(match[1]), match[2])

    over = {key for key, state in view.cells.items() if state.status in OVER and not paths.prediction(key).exists()}
    matches = [match for name in sizes if (match := _PREDICTION.fullmatch(name)) and match[1] in over]
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(fetch, matches))
