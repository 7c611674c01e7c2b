"""A backtest of all trials and baselines of a run on their test windows."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.backtest import returns
from runner.report.analysis.resamples import read_predictions
from runner.rundir import ledger, results
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
YEAR_NS = 365.25 * 86_400e9


@dataclass(frozen=True)
class BacktestRow:
    """One trial, baseline or buy and hold on one asset, or on all (`asset` is 'all').

    Attributes:
        total: net return over the whole test split.
        sharpe: annual, with its 95 % interval.
        deflated: probability that it is more than luck among all trials of the ledger (`returns.deflated_sharpe`).
        exposure: share of bars with a position; turnover: positions changed a bar.
    """

    key: str
    name: str
    kind: str
    question: str
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
    done = [*view.current.values(), *results.baseline_states(view)]
    positions = {state.cell.key: _positions(paths, state) for state in done if state.status == "finished"}
    if not positions:
        message = "no trial has finished"
        raise ConfigError(Problem(place=f"run {paths.name!r}", message=message, fix="wait for one"))
    opens: dict[str, pd.DataFrame] = {}
    found: list[tuple[CellState, str, pd.DataFrame]] = []
    held: set[str] = set()
    for state in done:
        if (table := positions.get(state.cell.key)) is None:
            continue
        sha = state.cell.spec["data"]["content_sha256"]
        if sha not in opens:
            opens[sha] = _opens(paths, view, state, data_root)
        question = f"h{state.cell.spec['task']['horizon']}"
        found.append((state, question, _returns(table, opens[sha], cost_bps)))
        if question + sha not in held:
            held.add(question + sha)
            found.append((state, HOLD, _returns(table.assign(position=1.0), opens[sha], cost_bps)))
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


def _rows(found: list[tuple[CellState, str, pd.DataFrame]], tried: int) -> list[BacktestRow]:
    pooled = [table.groupby("date")[["net", "position", "traded"]].mean().reset_index() for _, _, table in found]
    ratios: dict[str, list[float]] = {}
    for (state, question, _), table in zip(found, pooled, strict=True):
        ratio = returns.sharpe(table["net"].to_numpy(), 1.0)
        if state.cell.cell_kind == "model" and question != HOLD and ratio is not None:
            ratios.setdefault(question, []).append(ratio)
    rows = []
    for (state, question, table), whole in zip(found, pooled, strict=True):
        assets = list(table.groupby("asset", sort=True))
        parts = [("all", whole), *((str(asset), part) for asset, part in assets if len(assets) > 1)]
        others = np.array(ratios.get(question, [])) if state.cell.cell_kind == "model" else np.zeros(0)
        rows += [_row(state, question, asset, part, others, tried) for asset, part in parts]
    return rows


def _row(
    state: CellState, question: str, asset: str, table: pd.DataFrame, others: returns.Floats, tried: int
) -> BacktestRow:
    net_T = table["net"].to_numpy(dtype=np.float64)
    dates_T = table["date"].to_numpy().astype("datetime64[ns]")
    years = float((dates_T[-1] - dates_T[0]).astype(np.int64)) / YEAR_NS
    a_year = (len(dates_T) - 1) / years if years else float(len(dates_T))
    hold = question == HOLD
    low, high = returns.sharpe_interval(net_T, dates_T, a_year) if net_T.std() else (None, None)
    return BacktestRow(
        key="" if hold else state.cell.key,
        name=HOLD if hold else state.cell.name,
        kind=HOLD if hold else state.cell.cell_kind,
        question=f"h{state.cell.spec['task']['horizon']}",
        asset=asset,
        bars=len(net_T),
        total=float(np.prod(1 + net_T) - 1),
        drawdown=returns.drawdown(net_T),
        sharpe=returns.sharpe(net_T, a_year),
        sharpe_low=low,
        sharpe_high=high,
        deflated=None if hold or asset != "all" else returns.deflated_sharpe(net_T, others, tried),
        exposure=float(table["position"].mean()),
        turnover=float(table["traded"].mean()),
    )
