"""A backtest as a run directory holds it, once `isotherm backtest` has made it; the report shows it."""

import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked

from runner.rundir.paths import RunPaths
from trainables.files import replace_text

HOLD = "buy and hold"
ALL = "all"  # assets, with equal weight
_MAX_BYTES = 64_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BacktestRow:
    """One trial, ensemble, baseline or buy and hold on one asset, or on all (`asset` is 'all').

    Attributes:
        total: net return over the whole test split.
        sharpe: annual, with its 95 % interval.
        deflated: probability that it is more than luck among all trials of the ledger (`returns.deflated_sharpe`), with
            the variance of those that have the same data and task.
        exposure: share of bars with a position; turnover: positions changed a bar.
        question: horizon and axes of data and task, in words.
        equity: on all assets, of some days: the day, and what one unit has become.
    """

    key: str
    name: str
    kind: str
    asset: str
    bars: int
    total: float
    drawdown: float
    sharpe: float | None
    sharpe_low: float | None
    sharpe_high: float | None
    deflated: float | None
    exposure: float
    turnover: float
    question: str = ""
    budget: str = ""
    equity: tuple[tuple[str, float], ...] = ()


@checked(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Backtest:
    """All rows, by what was decided before: the rule, the costs, and how many trials the ledger holds."""

    cost_bps: float
    trials: int
    rows: tuple[BacktestRow, ...]
    rule: str
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``; without the curves."""
        rows = [{name: value for name, value in asdict(one).items() if name != "equity"} for one in self.rows]
        return {**{name: getattr(self, name) for name in ("rule", "note", "cost_bps", "trials")}, "rows": rows}


def write(found: Backtest, paths: RunPaths) -> None:
    """Keep it in the run directory, atomically.

    Raises:
        OSError: it cannot be written.
    """
    document = TypeAdapter(Backtest).dump_python(found, mode="json")
    replace_text(paths.writable(paths.backtest), json.dumps(document) + "\n")


def read(paths: RunPaths) -> Backtest | None:
    """The one that is kept; None where there is none, or none that can be read, which the log says."""
    try:
        if paths.backtest.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        return TypeAdapter(Backtest).validate_json(paths.backtest.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("left out: %s: %s", paths.backtest, str(error).splitlines()[0])
        return None
