"""A backtest of all trials and baselines of a run on their test windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.backtest import returns
from runner.planning.grid import name_parts
from runner.rundir import comparable, ledger, results
from runner.rundir.backtest import ALL, HOLD, Backtest, BacktestRow
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import DATA, RunPaths
from runner.rundir.predictions import read_predictions
from runner.serving.predictor import entry_of
from trainables.data import catalog
from trainables.errors import ConfigError, DataError, Problem
from trainables.schema import ResolvedData, ResolvedTask

RULE = (
    "Long one unit where the output is at or above its median on validation (of values: above 0), else nothing; "
    "decided at a bar's close, taken at the next bar's open, held for one bar at least. Assets have equal weight."
)
NO_PROMISE = "What was is no promise of what will be: no slippage, no limits of size, one period of one market."
POINTS = 250  # of an equity curve that is kept
YEAR_NS = 365.25 * 86_400e9


@dataclass(frozen=True, eq=False)
class _Series:
    """What one row is made from: `asked` is the identity of data and task, `table` as of `_returns`."""

    key: str
    name: str
    kind: str
    question: str
    budget: str
    asked: str
    table: pd.DataFrame


def run(paths: RunPaths, cost_bps: float = 5.0, data_root: Path = DATA) -> Backtest:
    """Backtest a run.

    Args:
        paths: of the run.
        cost_bps: basis points of what is traded.
        data_root: the folder of datasets: opens are taken from there.

    Raises:
        ConfigError: no trial has predictions of test, or their task has several classes.
        DataError: predictions or data cannot be read.
    """
    view = ledger.read(paths.ledger)
    # Baselines first: buy and hold of a data set and task has the axes in its name that theirs have.
    derived = (*results.baseline_states(view), *results.ensemble_states(view))
    done = [one for one in (*derived, *view.current.values()) if one.status == "finished"]
    if not done:
        message = "no trial has finished"
        raise ConfigError(Problem(place=f"run {paths.name!r}", message=message, fix="wait for one"))
    opens: dict[str, pd.DataFrame] = {}
    found: list[_Series] = []
    for state in done:
        spec, positions = state.cell.spec, _positions(paths, state)
        sha, asked = spec["data"]["content_sha256"], comparable.identity(spec)
        if sha not in opens:
            opens[sha] = _opens(paths, view, state, data_root)
        known = next((one for one in found if one.asked == asked), None)
        if known is None:
            question = ", ".join([f"h{spec['task']['horizon']}", *name_parts(state.cell.labels.get("axes") or {})])
            always = _returns(positions.assign(position=1.0), opens[sha], cost_bps)
            found.append(known := _Series("", f"{HOLD}, {question}", HOLD, question, "", asked, always))
        table, cell = _returns(positions, opens[sha], cost_bps), state.cell
        budget = str(cell.labels.get("budget") or "")
        found.append(_Series(cell.key, cell.name, cell.cell_kind, known.question, budget, asked, table))
    tried = sum(state.cell.cell_kind == "model" for state in view.cells.values())
    return Backtest(cost_bps, tried, tuple(_rows(found, tried)), RULE, NO_PROMISE)


def _positions(paths: RunPaths, state: CellState) -> pd.DataFrame:
    task = ResolvedTask.model_validate(state.cell.spec["task"])
    if task.outcome == "classes":
        message = f"{state.cell.name} predicts classes: the rule needs one number for each window"
        raise ConfigError(
            Problem(place=f"run {paths.name!r}", message=message, fix="backtest a binary task, or values")
        )
    frame = read_predictions(paths, state.cell.key)
    limit = 0.0 if task.outcome == "value" else float(frame.loc[frame["split"] == "validation", "logit"].median())
    test = frame[frame["split"] == "test"]
    above = test["logit"] > limit if task.outcome == "value" else test["logit"] >= limit
    return test[["date", "asset"]].assign(position=above.astype(float))


def _opens(paths: RunPaths, view: LedgerView, state: CellState, data_root: Path) -> pd.DataFrame:
    data = ResolvedData.model_validate(state.cell.spec["data"])
    dataset = catalog.load(entry_of(paths, view, data, data_root), data_root)
    bars = [dataset.bars(rows)[["date", "open"]].assign(asset=rows.asset) for rows in dataset.rows]
    return pd.concat(bars, ignore_index=True)


def _returns(positions: pd.DataFrame, opens: pd.DataFrame, cost_bps: float) -> pd.DataFrame:
    """Date, asset, net return, position and what was traded, of each bar with a position decided at its close."""
    pieces = []
    for asset, table in positions.sort_values("date").groupby("asset", sort=True):
        bars = opens[opens["asset"] == asset]
        first, last = bars["date"].searchsorted(table["date"].iloc[[0, -1]])
        # The last position earns the move between the next two opens; what follows is of other splits or folds.
        bars = bars.iloc[first : last + 3].merge(table, on=["date", "asset"], how="left")
        if len(bars) < 3:
            raise DataError(
                Problem(place=str(asset), message="fewer than 3 bars of test", fix="use a longer test split")
            )
        held_T = bars["position"].fillna(0.0).to_numpy(dtype=np.float64)
        net_T = returns.net(held_T, bars["open"].to_numpy(dtype=np.float64), cost_bps)
        traded_T = np.abs(np.diff(held_T, prepend=0.0))[:-2]
        place = bars[["date", "asset"]].iloc[:-2]
        pieces.append(place.assign(net=net_T, position=held_T[:-2], traded=traded_T))
    joined: pd.DataFrame = pd.concat(pieces, ignore_index=True)
    return joined


def _rows(found: list[_Series], tried: int) -> Iterator[BacktestRow]:
    pooled = [one.table.groupby("date")[["net", "position", "traded"]].mean().reset_index() for one in found]
    ratios: dict[str, list[float]] = {}
    for one, whole in zip(found, pooled, strict=True):
        if one.kind == "model" and (ratio := returns.sharpe(whole["net"].to_numpy(), 1.0)) is not None:
            ratios.setdefault(one.asked, []).append(ratio)
    for one, whole in zip(found, pooled, strict=True):
        others = np.array(ratios.get(one.asked, ())) if one.kind == "model" else np.zeros(0)
        yield _row(one, ALL, whole, returns.deflated_sharpe(whole["net"].to_numpy(), others, tried))
        assets = list(one.table.groupby("asset", sort=True))
        yield from (_row(one, str(asset), part, None) for asset, part in assets if len(assets) > 1)


def _row(one: _Series, asset: str, table: pd.DataFrame, deflated: float | None) -> BacktestRow:
    net_T = table["net"].to_numpy(dtype=np.float64)
    dates_T = table["date"].to_numpy().astype("datetime64[ns]")
    years = float((dates_T[-1] - dates_T[0]).astype(np.int64)) / YEAR_NS
    a_year = (len(dates_T) - 1) / years if years else float(len(dates_T))
    low, high = returns.sharpe_interval(net_T, dates_T, a_year) if net_T.std() else (None, None)
    return BacktestRow(
        key=one.key,
        name=one.name,
        kind=one.kind,
        asset=asset,
        bars=len(net_T),
        total=float(np.prod(1 + net_T) - 1),
        drawdown=returns.drawdown(net_T),
        sharpe=returns.sharpe(net_T, a_year),
        sharpe_low=low,
        sharpe_high=high,
        deflated=deflated,
        exposure=float(table["position"].mean()),
        turnover=float(table["traded"].mean()),
        question=one.question,
        budget=one.budget,
        equity=_curve(dates_T, net_T) if asset == ALL else (),
    )


def _curve(dates_T: np.ndarray[Any, Any], net_T: returns.Floats) -> tuple[tuple[str, float], ...]:
    """Equity after each bar, of some bars evenly spread, the last one among them."""
    equity_T = np.cumprod(1 + net_T)
    chosen = np.unique(np.linspace(0, len(net_T) - 1, POINTS).round().astype(int))
    return tuple((str(dates_T[at].astype("datetime64[D]")), round(float(equity_T[at]), 6)) for at in chosen)
