"""Checks before any trial starts, each with its number, its limit and its mend.

An ``error`` stops the sweep before anything is started; a ``warn`` is shown and kept in the ledger.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from runner.grid import Cell
from runner.settings import ThermalSpec

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


def check(cells: tuple[Cell, ...], thermal: ThermalSpec) -> list[Finding]:
    """All findings on a grid."""
    return [*_sizes(cells), *_infeasible(cells), *_thermal(thermal)]


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
    refused = [cell for cell in cells if cell.infeasible]
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _thermal(thermal: ThermalSpec) -> Iterator[Finding]:
    if thermal.require_sensors:
        yield Finding(
            gate="temperature sensors",
            level="error",
            number=0,
            limit=1,
            message="thermal.require_sensors is true, and this version reads no temperature yet",
            mend="set thermal.require_sensors: false to run without temperature protection",
        )
    else:
        yield Finding(
            gate="temperature sensors",
            level="warn",
            number=0,
            limit=1,
            message="trials run without temperature protection (thermal.require_sensors: false)",
            mend="watch the device's temperature by other means",
        )
