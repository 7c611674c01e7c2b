"""Equity over the test split, from the backtest that the run directory holds, and its table."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from runner.report.analysis.trials import Estimate, clean
from runner.report.figures import drawing
from runner.report.figures.drawing import MAX_PANELS, Plot
from runner.report.tables import Column, ReportTable
from runner.report.wording import NONE, count, estimate, number
from runner.rundir.backtest import ALL, HOLD, Backtest, BacktestRow
from trainables.schema import parse_budget

NAME = "Backtest: no promise of any profit"


def equity_figures(found: Backtest | None) -> Iterator[Plot]:
    """A figure with a panel for each data set and task, split where there are more than six."""
    rows = sorted((row for row in found.rows if row.equity), key=lambda row: row.question) if found else []
    questions = [(clean(name), list(of)) for name, of in groupby(rows, key=lambda row: row.question)]
    for part, start in enumerate(range(0, len(questions), MAX_PANELS), 1):
        assert found is not None
        name = "equity" + (f"_{part}" if part > 1 else "")
        yield _figure(name, found, questions[start : start + MAX_PANELS])


def _figure(name: str, found: Backtest, questions: list[tuple[str, list[BacktestRow]]]) -> Plot:
    budgets = sorted({row.budget for _, rows in questions for row in rows if row.budget}, key=_size)
    shades = {one: colormaps["viridis"](0.85 * at / max(1, len(budgets) - 1)) for at, one in enumerate(budgets)}
    with drawing.styled():
        figure, axes = drawing.panels(len(questions), one_loss_axis=False, y_label="equity")
        for axis, (question, rows) in zip(axes, questions, strict=True):
            for row in rows:
                _line(axis, row, shades)
            axis.set_title(drawing.plain(question))
            axis.tick_params(axis="x", rotation=30)
        handles = [Line2D([], [], color=shades[one], label=drawing.plain(one)) for one in budgets]
        handles += [Line2D([], [], color=drawing.GREY, ls=":", label="baselines")]
        handles += [Line2D([], [], color=drawing.INK, ls="--", label=HOLD)]
        png = drawing.finish(figure, NAME, handles)
    alt = f"Equity over the test split of {len(questions)} data sets and tasks by {len(budgets)} sizes"
    caption = (clean(found.rule), f"Costs: {found.cost_bps:g} basis points.", clean(found.note))
    return Plot(name, NAME, f"{alt}, baselines, and {HOLD}.", caption, png, len(questions) > 1)


def _line(axis: Axes, row: BacktestRow, shades: dict[str, tuple[float, float, float, float]]) -> None:
    days = np.array([day for day, _ in row.equity], dtype="datetime64[D]")
    values = [value for _, value in row.equity]
    if row.kind == HOLD:
        axis.plot(days, values, color=drawing.INK, ls="--", lw=1.6, zorder=3)
    elif row.budget:
        axis.plot(days, values, color=shades[row.budget], lw=2.0 if row.kind == "ensemble" else 0.8, zorder=2)
    else:
        axis.plot(days, values, color=drawing.GREY, ls=":", lw=1.0, zorder=1)


def _size(budget: str) -> int:
    try:
        return parse_budget(budget)
    except ValueError:
        return 0


def equity_table(found: Backtest | None) -> ReportTable:
    """What each would have earned on all assets together."""
    columns = (
        Column("trial"), Column("bars", "number"), Column("total", "number"), Column("largest drawdown", "number"),
        Column("Sharpe ratio [95 %]", "number"), Column("deflated", "number"), Column("exposure", "number"),
        Column("turnover a bar", "number"),
    )  # fmt: skip
    rows = [_row(row) for row in found.rows if row.asset == ALL] if found else []
    return ReportTable(NAME, columns, tuple(rows))


def _row(row: BacktestRow) -> tuple[str, ...]:
    return (
        clean(row.name),
        count(row.bars),
        f"{number(100 * row.total, 1, signed=True)} %",
        f"{number(100 * row.drawdown, 1)} %",
        estimate(Estimate(row.sharpe, row.sharpe_low, row.sharpe_high), 2, signed=True),
        NONE if row.deflated is None else number(row.deflated, 2),
        f"{number(100 * row.exposure, 0)} %",
        number(row.turnover, 2),
    )
