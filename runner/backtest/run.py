"""A backtest of all trials and baselines of a run on their test windows."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.backtest import returns
from runner.planning.grid import name_parts
from runner.report.analysis.resamples import read_predictions
from runner.rundir import comparable, ledger, results
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import DATA, RunPaths
from runner.serving.predictor import entry_of
from trainables.data import catalog
from trainables.errors import ConfigError, DataError, Problem
from trainables.schema import ResolvedData, ResolvedTask

RULE = (
    "Long one unit where the output is at or above its median on validation (of values: above 0), else nothing; "
    "decided at a bar's close, taken at the next bar's open, held for one bar at least. Assets have equal weight."
)
NO_PROMISE = "What was is no promise of what will be: no slippage, no limits of size, one period of one market."
HOLD = "buy and hold"
ALL = "all"  # assets, with equal weight
YEAR_NS = 365.25 * 86_400e9


@dataclass(frozen=True)
class BacktestRow:
    """One trial, baseline or buy and hold on one asset, or on all (`asset` is 'all').

    Attributes:
        total: net return over the whole test split.
        sharpe: annual, with its 95 % interval.
        deflated: probability that it is more than luck among all trials of the ledger (`returns.deflated_sharpe`), with
            the variance of those that have the same data and task.
        exposure: share of bars with a position; turnover: positions changed a bar.
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


@dataclass(frozen=True)
class Backtest:
    """All rows, by what was decided before: the rule, the costs, and how many trials the ledger holds."""

    cost_bps: float
    trials: int
    rows: tuple[BacktestRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {"rule": RULE, "note": NO_PROMISE, **asdict(self)}


@dataclass(frozen=True, eq=False)
class _Series:
    """What one row is made from: `asked` is the identity of data and task, `table` as of `_returns`."""

    key: str
    name: str
    kind: str
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
    done = [one for one in (*results.baseline_states(view), *view.current.values()) if one.status == "finished"]
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
        if asked not in {one.asked for one in found}:
            name = ", ".join([HOLD, f"h{spec['task']['horizon']}", *name_parts(state.cell.labels.get("axes") or {})])
            always = positions.assign(position=1.0)
            found.append(_Series("", name, HOLD, asked, _returns(always, opens[sha], cost_bps)))
        table = _returns(positions, opens[sha], cost_bps)
        found.append(_Series(state.cell.key, state.cell.name, state.cell.cell_kind, asked, table))
    tried = sum(state.cell.cell_kind == "model" for state in view.cells.values())
    return Backtest(cost_bps, tried, tuple(_rows(found, tried)))


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
    return catalog.load(entry_of(paths, view, data, data_root), data_root).frame[["date", "asset", "open"]]


def _returns(positions: pd.DataFrame, opens: pd.DataFrame, cost_bps: float) -> pd.DataFrame:
    """Date, asset, net return, position and what was traded, of each bar with a position decided at its close."""
    pieces = []
    for asset, table in positions.sort_values("date").groupby("asset", sort=True):
        bars = opens[opens["asset"] == asset]
        bars = bars[bars["date"] >= table["date"].iloc[0]].merge(table, on=["date", "asset"], how="left")
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
    )
