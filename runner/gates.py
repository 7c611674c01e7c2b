"""Checks before any trial starts, each with its number, its limit and its mend.

An ``error`` stops the sweep before anything is started; a ``warn`` is shown and kept in the ledger.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from runner.device import Site
from runner.grid import Cell
from runner.settings import cuda_visible_devices
from runner.thermal import sensors
from runner.thermal.spec import ThermalSpec

# Below this many distinct sizes a power law, a constant and a log-linear law cannot be told apart (design, Fits).
MIN_SIZES = 5


@dataclass(frozen=True)
class Finding:
    """What a gate found."""

    gate: str
    level: Literal["warn", "error"]
    number: float
    limit: float
    message: str
    mend: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check(cells: tuple[Cell, ...], thermal: ThermalSpec, site: Site | None = None) -> list[Finding]:
    """All findings on a grid, for this host or for the site where trials will run."""
    return [*_sizes(cells), *_infeasible(cells), *_memory(cells), *_thermal(cells, thermal, site)]


def _sizes(cells: tuple[Cell, ...]) -> Iterator[Finding]:
    sizes = len({cell.target for cell in cells})
    if sizes < MIN_SIZES:
        yield Finding(
            gate="distinct sizes",
            level="warn",
            number=sizes,
            limit=MIN_SIZES,
            message=f"{_count(sizes, 'distinct budget')} cannot identify a scaling law; "
            "the verdict will be 'not identifiable'",
            mend=f"name at least {MIN_SIZES} budgets in grid.budget",
        )


def _infeasible(cells: tuple[Cell, ...]) -> Iterator[Finding]:
    refused = [cell for cell in cells if cell.infeasible and not cell.short_of_memory]
    for reason in dict.fromkeys(cell.infeasible for cell in refused):
        affected = [cell for cell in refused if cell.infeasible == reason]
        everything = len(refused) == len(cells)
        yield Finding(
            gate="effective samples",
            level="error" if everything else "warn",
            number=len(affected),
            limit=0,
            message=f"{_count(len(affected), 'cell')} of {len(cells)} infeasible: {reason}",
            mend="use a shorter horizon or context, more bars or assets over a longer time, or a larger split",
        )


def _memory(cells: tuple[Cell, ...]) -> Iterator[Finding]:
    refused = [cell for cell in cells if cell.short_of_memory]
    nothing_left = all(cell.infeasible for cell in cells)
    for reason in dict.fromkeys(cell.infeasible for cell in refused):
        affected = [cell for cell in refused if cell.infeasible == reason]
        decision = affected[0].decision
        assert decision is not None
        yield Finding(
            gate="memory",
            level="error" if nothing_left else "warn",
            number=decision.needed_bytes,
            limit=decision.usable_bytes,
            message=f"{_count(len(affected), 'cell')} of {len(cells)} infeasible: {reason}",
            mend="use a device with more memory, or leave the budget out of grid.budget",
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _thermal(cells: tuple[Cell, ...], thermal: ThermalSpec, site: Site | None) -> Iterator[Finding]:
    if site is not None:
        why = site.no_sensor
    else:
        why = sensors.check(thermal, cells[0].record.device, cuda_visible_devices()) if cells else ""
    if why and thermal.require_sensors:
        yield Finding(
            gate="temperature sensors",
            level="error",
            number=0,
            limit=1,
            message=f"no temperature can be read: {why}",
            mend="mend the sensor, choose another (thermal.sensor), or set thermal.require_sensors: false to run "
            "without temperature protection",
        )
    elif why:
        yield Finding(
            gate="temperature sensors",
            level="warn",
            number=0,
            limit=1,
            message=f"trials run without temperature protection (thermal.require_sensors: false): {why}",
            mend="watch the device's temperature by other means",
        )
