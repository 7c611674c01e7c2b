"""What losses are read against in a figure: baselines as lines, and the fitted law with its band."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from runner.report.analysis.trials import Trial
from runner.report.analysis.verdict import SeriesVerdict, beside
from runner.report.figures.drawing import GREY, LAW_LINE
from runner.scaling.model_comparison import POWER_LAW

# Told apart by dashes, as the colours belong to the seeds.
_DASHES = {
    "volatility": (0, (1, 2)),
    "linear": (0, (6, 2, 1, 2)),
    "boosted_trees": (0, (3, 1)),
}
_BAND = "#BBBBBB"


@dataclass(frozen=True)
class Overlay:
    """What may be drawn behind the points of any panel."""

    verdicts: Sequence[SeriesVerdict] = ()
    baselines: Sequence[Trial] = ()

    def losses(self, trials: Sequence[Trial]) -> list[float]:
        """Losses of the baselines of all panels of these trials, for the limits of the axis."""
        return [loss for trial in {trial.place: trial for trial in trials}.values() for _, loss in self._lines(trial)]

    def draw(self, axis: Axes, trials: Sequence[Trial]) -> None:
        """Draw what belongs to a panel's trials."""
        for name, loss in self._lines(trials[0]):
            axis.axhline(loss, color=GREY, linestyle=_DASHES[name], linewidth=1.4, zorder=2)
        one = self._law(trials)
        if one is not None and one.fit is not None:
            sizes = [trial.n_params for trial in trials if trial.n_params]
            log_sizes = np.linspace(np.log(min(sizes)), np.log(max(sizes)), 100)
            middle, low, high = one.fit.band(log_sizes)
            axis.fill_between(np.exp(log_sizes), low, high, color=_BAND, alpha=0.5, linewidth=0, zorder=1)
            axis.plot(np.exp(log_sizes), middle, **LAW_LINE, zorder=3)

    def legend(self, trials: Sequence[Trial]) -> list[Artist]:
        """Entries for what `draw` draws."""
        handles: list[Artist] = [
            Line2D(
                [], [], color=GREY, linestyle=_DASHES[name], linewidth=1.4, label=f"baseline: {name.replace('_', ' ')}"
            )
            for name in dict.fromkeys(
                name for trial in {trial.place: trial for trial in trials}.values() for name, _ in self._lines(trial)
            )
        ]
        if self._law(trials) is not None:
            handles.append(Line2D([], [], **LAW_LINE, label="fitted power law"))
            handles.append(Patch(color=_BAND, alpha=0.5, label="its 95 % band"))
        return handles

    def fitted(self, trials: Sequence[Trial]) -> bool:
        """Whether a law is drawn for any of these trials."""
        return self._law(trials) is not None

    def _lines(self, trial: Trial) -> list[tuple[str, float]]:
        lines = ((other.group.model, other.val_loss.value) for other in beside(trial, self.baselines))
        return [(name, loss) for name, loss in lines if loss is not None and name in _DASHES]

    def _law(self, trials: Sequence[Trial]) -> SeriesVerdict | None:
        """The identified law of the first series among the trials; with varied data there is no one curve to draw."""
        places = {(trial.horizon, trial.group) for trial in trials}
        for one in self.verdicts:
            known = one.verdict == POWER_LAW and one.fit is not None and "B" not in one.fit.parameters
            if known and (one.horizon, one.group) in places:
                return one
        return None
