"""The report of a run, rebuilt from its directory alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.report import page, render, tuning_table
from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.contrasts import contrasts
from runner.report.analysis.metric_differences import metric_differences, metric_table
from runner.report.analysis.regimes import regime_losses, regime_table
from runner.report.figures.calibration import calibration_figures
from runner.report.figures.curves import curve_figures
from runner.report.figures.drawing import Plot
from runner.report.figures.equity import equity_figures, equity_table
from runner.report.figures.fitted_curves import Overlay
from runner.report.figures.gantt import gantt_figures
from runner.report.figures.heatmap import heat_figures
from runner.report.figures.isoflop import isoflop_figures
from runner.report.figures.plots import loss_figures, overview_figures
from runner.report.figures.speed import speed_figures
from runner.report.figures.timeline import timeline_figures
from runner.report.figures.tuning import tuning_figures
from runner.rundir import backtest, results, studies
from runner.rundir.paths import RunPaths
from runner.thermal import telemetry
from trainables.files import replace_text, replacing

_FIGURES = (
    "overview.png", "loss_h*.png", "isoflop_h*.png", "heat_map*.png", "calibration*.png", "learning_curves*.png",
    "equity*.png", "time.png", "throughput.png", "temperature*.png", "search_*.png",
)  # fmt: skip


@dataclass(frozen=True)
class ReportFiles:
    """Where a report was written, and its answer in one line."""

    html: Path
    markdown: Path
    figures: tuple[Path, ...]
    answer: str = ""

    def as_dict(self) -> dict[str, str | list[str]]:
        """The paths as text, for JSON."""
        return {"html": str(self.html), "markdown": str(self.markdown), "figures": [str(path) for path in self.figures]}


def build(paths: RunPaths) -> ReportFiles:
    """Write ``report.html``, ``report.md`` and ``figures/*.png``, each atomically; the sweep may still be running.

    Raises:
        LedgerError: a damaged record or another schema version.
        OSError: the run directory cannot be written.
    """
    collected = collect(paths)
    tested = backtest.read(paths)
    plots = (*_plots(paths, collected), *equity_figures(tested))
    compared = contrasts(paths, collected.view, collected.trials, collected.baselines)
    about = (paths, collected.view, collected.trials, collected.baselines)
    losses, metrics = regime_losses(*about), metric_differences(*about)
    content = page.make(
        collected,
        plots,
        compared,
        lost_temperatures=telemetry.lost(paths.thermal_parquet),
        further=(metric_table(metrics), regime_table(losses), equity_table(tested)),
    )
    written = []
    for plot in plots:
        path = paths.writable(paths.figures / f"{plot.name}.png")
        with replacing(path) as aside:
            aside.write_bytes(plot.png)
        written.append(path)
    _remove_stale(paths.figures, written)
    if collected.tuning.winners:
        results.write_csv(tuning_table.frame(collected.tuning), paths.writable(paths.winners_csv))
    replace_text(paths.report_md, render.markdown(content, paths.figures.name))
    replace_text(paths.report_html, render.html(content))
    return ReportFiles(html=paths.report_html, markdown=paths.report_md, figures=tuple(written), answer=content.answer)


def _plots(paths: RunPaths, collected: Collected) -> Iterator[Plot]:
    """All figures, the ones that carry the verdict first."""
    trials, baselines = collected.trials, collected.baselines
    yield from overview_figures(trials)
    yield from loss_figures(trials, Overlay(collected.verdicts, baselines))
    yield from isoflop_figures(collected.isoflop)
    yield from heat_figures(trials, baselines)
    yield from tuning_figures(studies.states(collected.view), collected.tuning.rules)
    yield from calibration_figures(paths, collected.view, trials)
    yield from curve_figures(trials)
    yield from gantt_figures(collected.history)
    yield from speed_figures(trials)
    yield from timeline_figures(paths, collected.view)


def _remove_stale(folder: Path, written: list[Path]) -> None:
    """Remove figures of an earlier report that this one no longer has, and no other files."""
    for pattern in _FIGURES:
        for path in folder.glob(pattern):
            if path not in written:
                path.unlink(missing_ok=True)
