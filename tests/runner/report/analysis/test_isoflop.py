"""The best size by compute budget, from a ledger to words and figure."""

import math

from runner.report import isoflop_table
from runner.report.analysis.collect import collect
from runner.report.analysis.isoflop import COMPUTE
from runner.report.build import build
from runner.rundir.paths import RunPaths

BUDGETS = ("50k", "100k", "200k", "400k", "800k")


def cells(run):
    """Valleys whose best sizes grow as the root of the compute, with two seeds that differ a little."""
    best = {"1e11": 1.2e5, "4e11": 2.4e5, 16e11: 4.8e5}
    return [
        run.cell(
            budget, seed=seed, axes={COMPUTE: compute},
            loss=0.6 + 0.01 * math.log(996 * float(budget[:-1]) / size) ** 2 + 0.0002 * (-1) ** (number + seed),
        )
        for compute, size in best.items() for number, budget in enumerate(BUDGETS) for seed in (0, 1)
    ]  # fmt: skip


def test_valleys_and_their_frontier_are_in_the_report(run) -> None:
    paths: RunPaths = run(cells(run))
    [one] = collect(paths).isoflop
    assert [round(valley.optimum / 1e5, 1) for valley in one.fit.valleys] == [1.2, 2.4, 4.8]
    assert one.fit.frontier is not None
    assert abs(one.fit.frontier.exponent - 0.5) < 0.02
    written = build(paths)
    assert any(path.name == "isoflop_h1.png" for path in written.figures)
    text = written.markdown.read_text()
    assert "the best size grows with compute as 240k (C / 4e+11)^0.50" in text
    assert "Best size by compute" in text


def test_collapsed_trials_and_grids_without_compute_have_no_part_in_it(run) -> None:
    few = [run.cell(budget, fate="collapsed", axes={COMPUTE: "1e11"}) for budget in BUDGETS]
    assert collect(run(few)).isoflop == ()
    assert isoflop_table.sentences(()) == ()
    assert isoflop_table.table(()).rows == ()
