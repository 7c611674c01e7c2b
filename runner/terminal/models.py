"""Predictions and evaluations for people, and predictions as files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from runner.rundir.ledger import CellRecorded
from runner.terminal.console import Console
from trainables.errors import ConfigError, Problem
from trainables.files import replacing

if TYPE_CHECKING:
    from runner.rundir.backtest import Backtest
    from runner.serving.evaluate import Evaluation

SHOWN = 10  # of the latest predictions
SHOWN_DRIFT = 5
FEW = 100  # effective samples below which a sweep would refuse a split


def refuse_unknown(out: Path) -> None:
    """Refuse a file of predictions of no known kind.

    Raises:
        ConfigError: neither .csv nor .parquet, or its folder is missing.
    """
    if out.suffix not in (".csv", ".parquet"):
        raise ConfigError(
            Problem(place="--out", message=f"{out} is neither .csv nor .parquet", fix="name one of these")
        )
    if not out.parent.is_dir():
        raise ConfigError(Problem(place="--out", message=f"there is no folder {out.parent}", fix="make it first"))


def write(table: pd.DataFrame, out: Path) -> None:
    """Write predictions, atomically."""
    with replacing(out) as aside:
        if out.suffix == ".csv":
            table.to_csv(aside, index=False)
        else:
            table.to_parquet(aside, index=False)


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain values, for ``--json``."""
    dates = [moment.isoformat() for moment in table["date"]]
    found: list[dict[str, Any]] = table.assign(date=dates).to_dict("records")  # type: ignore[assignment]
    return found


def show_predictions(cell: CellRecorded, table: pd.DataFrame, out: Path | None, console: Console) -> None:
    """Print the latest predictions."""
    console.print(f"{cell.name} ({cell.key}): {len(table):,} predictions" + (f", all in {out}" if out else ""))
    shown = Table(*map(str, table.columns), title=f"the latest {SHOWN}" if len(table) > SHOWN else "")
    for row in table.sort_values("date", kind="stable").tail(SHOWN).itertuples(index=False):
        shown.add_row(*(f"{value:.4f}" if isinstance(value, float) else str(value) for value in row))
    console.print(shown)


def show_evaluation(cell: CellRecorded, found: "Evaluation", console: Console) -> None:
    """Print numbers with intervals, and the features that drifted most."""
    left = f"; {found.trained:,} of the training period are left out" if found.trained else ""
    console.print(f"{cell.name} ({cell.key}): {found.windows:,} windows, {found.first} to {found.last}{left}")
    console.print(f"{found.effective:,} effective samples" + (": too few to decide" if found.effective < FEW else ""))
    numbers = Table("number", "value", "95 % interval", title="on these bars")
    for name, (value, low, high) in found.numbers.items():
        known = low is not None and high is not None
        numbers.add_row(name, _number(value), f"[{_number(low)}, {_number(high)}]" if known else "not known")
    console.print(numbers)
    beyond = sum(one.beyond for one in found.drift)
    title = f"drift against training: {beyond} of {len(found.drift)} features beyond the limits of a sweep's checks"
    drift = Table("feature", "shift of the mean (sd)", "stability index", "", title=title)
    for one in found.drift[:SHOWN_DRIFT]:
        drift.add_row(one.feature, f"{one.shift:+.2f}", f"{one.stability:.2f}", "beyond" if one.beyond else "")
    console.print(drift)


def show_backtest(found: "Backtest", console: Console) -> None:
    """Print what each trial, baseline and buy and hold would have earned, with the rule and what it does not say."""
    console.print(f"{found.rule}\nCosts: {found.cost_bps:g} basis points. {found.note}")
    columns = ("trial", "asset", "bars", "total", "drawdown", "Sharpe [95 %]", "deflated", "exposure", "turnover")
    table = Table(*columns, title=f"test split; deflated by {found.trials} trials of the ledger")
    for row in found.rows:
        ratio = f"{_number(row.sharpe)} [{_number(row.sharpe_low)}, {_number(row.sharpe_high)}]"
        shares = (f"{row.total:+.1%}", f"{row.drawdown:.1%}")
        deflated = "" if row.deflated is None else f"{row.deflated:.2f}"
        rates = (f"{row.exposure:.0%}", f"{row.turnover:.2f}")
        table.add_row(row.name, row.asset, f"{row.bars:,}", *shares, ratio, deflated, *rates)
    console.print(table)


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.4f}"
