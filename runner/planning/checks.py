"""Checks before any trial starts, each with its number, its limit and its fix.

An ``error`` stops the sweep before anything is started; a ``warn`` is shown and kept in the ledger. Those of the data
are in `runner.planning`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from runner.config.gates import GatesSpec
from runner.host.cuda import cuda_visible_devices
from runner.host.device import Device, Site, unused_gpus
from runner.host.memory_limits import Limit
from runner.host.versions import code_version
from runner.planning.grid import Cell
from runner.rundir import comparable
from runner.rundir.ledger import LedgerView
from runner.scaling.verdict import MIN_SEEDS, MIN_SIZES
from runner.thermal import sensors
from runner.thermal.spec import ThermalSpec
from trainables.parts.source import SHIPPED
from trainables.schema import ExecutionSpec

RATE = "training.lr"
MIN_RATES = 3  # fewer cannot show an optimum between two others


@dataclass(frozen=True)
class CheckFinding:
    """A finding of a check; `gate` is the check's name in ledgers and in the sweep file."""

    gate: str
    level: Literal["warn", "error"]
    number: float
    limit: float
    message: str
    fix: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check(
    cells: tuple[Cell, ...],
    view: LedgerView,
    spec: GatesSpec,
    thermal: ThermalSpec,
    site: Site | None = None,
    searched: Collection[str] = (),
) -> list[CheckFinding]:
    """All findings on a grid as asked, what its ledger already holds included; those on the data apart.

    Temperatures are those of this host, or of the site where trials will run.
    """
    return [
        *_changed_limits(spec),
        *_sizes(cells),
        *_seeds(cells),
        *_untuned(cells, searched),
        *_searched_inputs(cells, searched),
        *_starved(cells, spec),
        *changed_parts(
            (part for cell in cells for part in cell.parts),
            (part for state in view.cells.values() for part in state.cell.parts),
        ),
        *_mixed_code(cells, view, spec),
        *_thermal(cells, thermal, site),
    ]


def _changed_limits(spec: GatesSpec) -> Iterator[CheckFinding]:
    """What the sweep file set: who reads the report must not take the other checks for the usual ones."""
    for name, value, default in spec.limits.changed():
        yield CheckFinding(
            gate="limits",
            level="warn",
            number=value,
            limit=default,
            message=f"the limit of {name.replace('_', ' ')} is {value:g}, by default it is {default:g}",
            fix=f"leave gates.limits.{name} out where there is no reason for it",
        )


def _sizes(cells: tuple[Cell, ...]) -> Iterator[CheckFinding]:
    sizes = len({cell.target for cell in cells})
    if sizes < MIN_SIZES:
        yield CheckFinding(
            gate="distinct sizes",
            level="warn",
            number=sizes,
            limit=MIN_SIZES,
            message=f"{plural(sizes, 'distinct budget')} cannot identify a scaling law; "
            "the verdict will say no more than whether the loss falls",
            fix=f"name at least {MIN_SIZES} budgets in grid.budget",
        )


def _starved(cells: tuple[Cell, ...], spec: GatesSpec) -> Iterator[CheckFinding]:
    """Models with so many parameters that no number of passes over the data can fill them."""
    if spec.data_starved == "off":
        return
    most = spec.limits.data_starved
    ratios = {cell.key: cell.counts.total / tokens for cell in cells if (tokens := _tokens(cell))}
    starved = [cell for cell in cells if ratios.get(cell.key, 0) > most]
    if not starved:
        return
    worst = max(starved, key=lambda cell: ratios[cell.key])
    windows, passes = worst.sizes["n_train"] or 0, worst.spec.training.epochs
    budgets = ", ".join(dict.fromkeys(cell.labels["budget"] for cell in starved))
    yield CheckFinding(
        gate="data starved",
        level=spec.data_starved,
        number=ratios[worst.key],
        limit=most,
        message=f"{plural(len(starved), 'cell')} of {len(cells)} (budgets {budgets}) with more than "
        f"{most:g} parameters for each bar of the training windows, too many for any number of "
        f"passes over them; at worst {worst.counts.total:,} parameters, {windows:,} windows of "
        f"{worst.spec.task.context} bars ({windows / worst.counts.total:.2g} windows a parameter), {passes} passes",
        fix="use more assets, finer bars or a longer series, or leave these budgets out; no scaling with size can show "
        "there (Hoffmann et al. 2022: 20 tokens a parameter; Muennighoff et al. 2023: repeats are worth 16 times the "
        "data at most)",
    )


def _tokens(cell: Cell) -> int:
    return (cell.sizes["n_train"] or 0) * cell.spec.task.context


def changed_parts(
    asked: Iterable[dict[str, Any]], recorded: Iterable[dict[str, Any]], level: Literal["warn", "error"] = "error"
) -> Iterator[CheckFinding]:
    """Parts of one's own with another source than the ledger has under the same version.

    What ships is left to the check of mixed code: its files change with every release.

    Args:
        asked: records of the parts that are used now (`Part.record`).
        recorded: those of the ledger.
        level: of a finding; a warning where the part changes no result.
    """
    now = {_identity(part): part for part in asked if part["origin"] != SHIPPED}
    known = {(_identity(part), part["sha256"]) for part in recorded}
    for identity, part in now.items():
        others = sorted(sha256[:12] for one, sha256 in known if one == identity and sha256 != part["sha256"])
        if others:
            kind, name, version = identity
            yield CheckFinding(
                gate="changed part",
                level=level,
                number=len(others) + 1,
                limit=1,
                message=f"the source of the {kind} {name!r} ({part['origin']}) was changed under version {version}: "
                f"it has sha256 {part['sha256'][:12]}, this run's ledger has {', '.join(others)}",
                fix=f"raise its version above {version}, so that results of the two are distinguished, or restore it",
            )


def _identity(part: dict[str, Any]) -> tuple[str, str, int]:
    return part["kind"], part["name"], part["version"]


def _seeds(cells: tuple[Cell, ...]) -> Iterator[CheckFinding]:
    """Sizes that are compared with fewer than 2 seeds: the noise between seeds is then unknown."""
    sizes = {cell.target for cell in cells}
    seeds = len({cell.spec.training.seed for cell in cells})
    if len(sizes) > 1 and seeds < MIN_SEEDS:
        yield CheckFinding(
            gate="seeds",
            level="warn",
            number=seeds,
            limit=MIN_SEEDS,
            message=f"{len(sizes)} sizes are compared with {plural(seeds, 'seed')} each, and so without the noise "
            "between seeds: the verdict will not say whether the loss falls, nor by which law",
            fix="name at least 2 seeds: grid.seed: [0, 1]",
        )


def _searched_inputs(cells: tuple[Cell, ...], searched: Collection[str]) -> Iterator[CheckFinding]:
    """Keys of data and task that are searched: winners that differ in them are compared with nothing."""
    names = [name for name in searched if name.split(".")[0] in comparable.BLOCKS]
    if names and len({cell.target for cell in cells}) > 1:
        yield CheckFinding(
            gate="searched inputs",
            level="warn",
            number=len(names),
            limit=0,
            message=f"searched: {', '.join(names)}; sizes whose winners differ there are not compared, and baselines "
            "have the value of the sweep file alone",
            fix="make it an axis of the grid, whose values are compared apart, or search it at one size first",
        )


def _untuned(cells: tuple[Cell, ...], searched: Collection[str]) -> Iterator[CheckFinding]:
    """Sizes that are compared with one learning rate each: the change with size is then the rule's, too."""
    rates: dict[tuple[int, str, str], set[float]] = {}
    for cell in cells:
        place = (cell.target, cell.spec.data.model_dump_json(), cell.spec.task.model_dump_json())
        rates.setdefault(place, set()).add(cell.spec.training.lr)
    if len({cell.target for cell in cells}) > 1 and RATE not in searched and all(len(r) == 1 for r in rates.values()):
        yield CheckFinding(
            gate="tuning",
            level="warn",
            number=1,
            limit=MIN_RATES,
            message="each size has one learning rate: what the loss does with size is in part what the rate "
            "does, and the verdict will say 'untuned'",
            fix="search: {space: {training.lr: {around: rule, factor: 10}}}, or an axis training.lr of 3 rates",
        )


def _mixed_code(cells: tuple[Cell, ...], view: LedgerView, spec: GatesSpec) -> Iterator[CheckFinding]:
    """Cells of one comparison that different code has trained, or would train."""
    known = {cell.key: view.cells.get(cell.key) for cell in cells if not cell.infeasible}
    trained = Counter(state.attempts[-1].code_version for state in known.values() if state and state.attempts)
    waiting = sum(state is None or not state.final for state in known.values())
    versions = list(dict.fromkeys([*trained, *([code_version()] if waiting else [])]))
    if spec.mixed_code != "off" and len(versions) > 1:
        shown = [f"{plural(n, 'cell')} by {version or 'unknown code'}" for version, n in trained.most_common()]
        yield CheckFinding(
            gate="mixed code",
            level=spec.mixed_code,
            number=len(versions),
            limit=1,
            message=f"cells that are compared were trained by different code: {', '.join(shown)}"
            + (f"; {waiting} would be by {code_version()}" if waiting else ""),
            fix="run them under another name with one version, or check that nothing between these changes results",
        )


def memory(cells: tuple[Cell, ...]) -> Iterator[CheckFinding]:
    """Findings on what the probe has measured."""
    refused = [cell for cell in cells if cell.short_of_memory]
    nothing_left = all(cell.infeasible for cell in cells)
    for reason in dict.fromkeys(cell.infeasible for cell in refused):
        affected = [cell for cell in refused if cell.infeasible == reason]
        decision = affected[0].decision
        assert decision is not None
        yield CheckFinding(
            gate="memory",
            level="error" if nothing_left else "warn",
            number=decision.needed_bytes,
            limit=decision.usable_bytes,
            message=f"{plural(len(affected), 'cell')} of {len(cells)} infeasible: {reason}",
            fix="use a device with more memory, or leave the budget out of grid.budget",
        )


def host_memory(state_bytes: int, device: Device, limit: Limit) -> Iterator[CheckFinding]:
    """Trials on GPUs hold their state on the host, too, while they write a checkpoint or go on from one."""
    if device.kind == "cuda" and state_bytes > limit.bytes:
        yield CheckFinding(
            gate="host memory",
            level="warn",
            number=state_bytes,
            limit=limit.bytes,
            message=f"checkpoints of the largest trials at once take {state_bytes / 1e9:.1f} GB of the host's memory, "
            f"and there are {limit.bytes / 1e9:.1f} GB ({limit.what})",
            fix="give the host or the container more memory, or run fewer of them at once (execution.gpu_share: 1)",
        )


def plural(number: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def idle_gpus(execution: ExecutionSpec) -> Iterator[CheckFinding]:
    """A host whose GPUs PyTorch does not see: trials would train on its CPU, many times slower."""
    if why := unused_gpus(execution):
        yield CheckFinding(
            gate="GPU",
            level="warn",
            number=0,
            limit=1,
            message=f"trials run on the CPU: {why}",
            fix="isotherm doctor names the fault of the driver; or set execution.device: cpu to train there on purpose",
        )


def _thermal(cells: tuple[Cell, ...], thermal: ThermalSpec, site: Site | None) -> Iterator[CheckFinding]:
    if site is not None:
        why = site.no_sensor
    else:
        why = sensors.check(thermal, cells[0].record.device, cuda_visible_devices()) if cells else ""
    if why and thermal.require_sensors:
        yield CheckFinding(
            gate="temperature sensors",
            level="error",
            number=0,
            limit=1,
            message=f"no temperature can be read: {why}",
            fix="repair the sensor, choose another (thermal.sensor), or set thermal.require_sensors: false to run "
            "without temperature protection",
        )
    elif why:
        yield CheckFinding(
            gate="temperature sensors",
            level="warn",
            number=0,
            limit=1,
            message=f"trials run without temperature protection (thermal.require_sensors: false): {why}",
            fix="watch the device's temperature by other means",
        )
