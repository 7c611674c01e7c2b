"""Fits of a run's losses: by parameters (and samples), by compute, and of all series pooled.

A series is a set of comparable trials: one horizon, model, tier, timescale and further axes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from runner import scaling
from runner.report.analysis.resamples import loss_resamples, why_missing
from runner.report.analysis.trials import Trial
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.scaling import Fit, FitOptions, FitTable
from runner.scaling.direction import Direction
from runner.scaling.law import Floats
from runner.scaling.verdict import MIN_SIZES

REFITS = 100  # a refit costs a thousand times what a mean does: the direction's interval takes all resamples
FEWER = 50  # refits where they decide nothing: half of a large report's time would go there
PARAMETERS, COMPUTE, LENGTH = "parameters", "compute (FLOP)", "parameters and windows seen"
LENGTHS = frozenset({"training.epochs", *(f"training.length.{one}" for one in ("epochs", "steps", "samples", "flops"))})


@dataclass(eq=False)
class Series:
    """Finished trials of one series, and their losses under resamples of the period that they were judged on."""

    paths: RunPaths
    view: LedgerView
    trials: tuple[Trial, ...]
    _resampled: dict[str, Floats | None] = field(default_factory=dict)

    def usable(self, split: str, chosen: Sequence[Trial] | None = None) -> list[Trial]:
        """Trials with a loss on a split."""
        return [trial for trial in (self.trials if chosen is None else chosen) if loss_of(trial, split) is not None]

    def without_blocks(self, split: str) -> str:
        """Why blocks of the period are not resampled, or an empty text where they are."""
        known = self.usable(split)
        if not known or self.resamples(split, known) is not None:
            return ""
        return why_missing(self.paths, self.view, [trial.key for trial in known], split)

    def resamples(self, split: str, chosen: Sequence[Trial]) -> Floats | None:
        """Losses of chosen trials [R, K]; None where predictions do not give them. Read once a split."""
        known = self.usable(split)
        if split not in self._resampled:
            keys = [trial.key for trial in known]
            self._resampled[split] = loss_resamples(self.paths, self.view, keys, split)
        found_RK = self._resampled[split]
        if found_RK is None:
            return None
        place = {trial.key: number for number, trial in enumerate(known)}
        return found_RK[:, [place[trial.key] for trial in chosen]]


@dataclass(frozen=True, eq=False)
class NamedFit:
    """One fit for the table of fits: of which trials, in which variable."""

    place: str
    variable: str
    fit: Fit


def loss_of(trial: Trial, split: str) -> float | None:
    """A trial's loss on a split."""
    return trial.val_loss.value if split == "validation" else trial.test_loss


def by_parameters(series: Series, chosen: Sequence[Trial], split: str) -> Fit:
    """L(N), or L(N, D) where the data fraction varies."""
    return scaling.fit(_table(chosen, split), options_of(chosen), loss_resamples_RN=series.resamples(split, chosen))


def direction(series: Series, chosen: Sequence[Trial], split: str) -> Direction:
    """Direction of the loss with the parameters, without a fit."""
    resampled = series.resamples(split, chosen)
    return scaling.direction(_table(chosen, split), options_of(chosen), loss_resamples_RN=resampled)


def by_compute(series: Series) -> Fit | None:
    """L(C) of all trials whose compute is known; None below `MIN_SIZES` distinct amounts."""
    chosen = [trial for trial in series.usable("validation") if trial.flop is not None]
    if len({trial.flop for trial in chosen}) < MIN_SIZES:
        return None
    flop = np.array([trial.flop for trial in chosen], dtype=np.float64)
    table = FitTable(n_params=flop, loss=_losses(chosen, "validation"))
    resampled = series.resamples("validation", chosen)
    return scaling.fit(table, options_of(chosen, FEWER), loss_resamples_RN=resampled)


def by_length(series: Series) -> Fit | None:
    """L(N, D) of trials of several lengths, of which D is the windows seen; None where the terms are not determined."""
    chosen = [trial for trial in series.usable("validation") if trial.windows_seen]
    table = FitTable(
        n_params=sizes_of(chosen),
        loss=_losses(chosen, "validation"),
        n_samples=np.array([trial.windows_seen for trial in chosen], dtype=np.float64),
    )
    if n_sizes(chosen) < MIN_SIZES or "n_samples" not in table.design()[1]:
        return None
    return scaling.fit(table, options_of(chosen, FEWER), loss_resamples_RN=series.resamples("validation", chosen))


def pooled(named: Sequence[tuple[str, Series]]) -> Fit | None:
    """All series in one fit: each has an irreducible loss of its own, the rest is shared.

    None below two series or `MIN_SIZES` sizes.
    """
    parts = [(name, series, series.usable("validation")) for name, series in named]
    parts = [part for part in parts if part[2]]
    chosen = [trial for _, _, trials in parts for trial in trials]
    if len(parts) < 2 or n_sizes(chosen) < MIN_SIZES:
        return None
    resampled = [series.resamples("validation", trials) for _, series, trials in parts]
    known = [one for one in resampled if one is not None]
    table = FitTable(
        n_params=sizes_of(chosen),
        loss=_losses(chosen, "validation"),
        n_samples=_samples(chosen),
        group=np.array([name for name, _, trials in parts for _ in trials], dtype=np.str_),
    )
    return scaling.fit(
        table, options_of(chosen, FEWER), loss_resamples_RN=np.hstack(known) if len(known) == len(parts) else None
    )


def options_of(trials: Sequence[Trial], count: int = REFITS) -> FitOptions:
    """How a report fits these trials."""
    priors = [trial.prior_loss for trial in trials if trial.prior_loss is not None]
    reference = float(np.mean(priors)) if priors else None
    return FitOptions(bootstraps=count, sparing=True, replicates=True, reference_loss=reference)


def _table(trials: Sequence[Trial], split: str) -> FitTable:
    return FitTable(n_params=sizes_of(trials), loss=_losses(trials, split), n_samples=_samples(trials))


def sizes_of(trials: Sequence[Trial]) -> Floats:
    """The size of each trial [N], in parameters.

    Shapes of one budget that differ, as where a search finds another one in each fold, are one size of the comparison:
    the geometric mean of their parameters.
    """
    counts: dict[str, set[int]] = {}
    for trial in trials:
        counts.setdefault(trial.budget or str(trial.n_params), set()).add(trial.n_params or 0)
    return np.array([_mean(counts[trial.budget or str(trial.n_params)]) for trial in trials], dtype=np.float64)


def n_sizes(trials: Sequence[Trial]) -> int:
    """How many distinct sizes trials have."""
    return len(np.unique(sizes_of(trials)))


def _mean(counts: set[int]) -> float:
    return float(np.exp(np.log(sorted(counts)).mean())) if len(counts) > 1 else float(next(iter(counts)))


def _losses(trials: Sequence[Trial], split: str) -> Floats:
    return np.array([loss_of(trial, split) for trial in trials], dtype=np.float64)


def _samples(trials: Sequence[Trial]) -> Floats | None:
    """Training windows, where the data fraction varies."""
    if len({trial.group.data_fraction for trial in trials}) < 2:
        return None
    return np.array([trial.n_train or 1 for trial in trials], dtype=np.float64)
