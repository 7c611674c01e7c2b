"""The answer for each series of comparable trials: does the loss follow a power law in the parameters?

Formed on validation loss; it must hold on test loss, with and without collapsed trials, else nothing is identified.
The order is the design's: no skill anywhere; optimisation failure; fewer than 5 sizes; then the fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from runner import scaling
from runner.ledger import LedgerView
from runner.paths import RunPaths
from runner.report.resamples import COUNT, loss_resamples
from runner.report.trials import Group, Trial
from runner.scaling import Fit, Options, Table
from runner.scaling.rivals import POWER_LAW
from runner.scaling.verdict import MIN_SIZES, NO_SIGNAL, NOT_IDENTIFIABLE, OPTIMISATION_FAILURE

SPLITS = ("validation", "test")
ALL, SOUND = "all trials", "without collapsed trials"


@dataclass(frozen=True, eq=False)
class SeriesVerdict:
    """The verdict on one series: a horizon and a group (data fractions together, where they vary).

    Attributes:
        group: of the trials with the most data.
        fits: by (split, which trials); the first is the one the verdict is formed on. Empty where none was needed.
    """

    horizon: int | None
    group: Group
    verdict: str
    reason: str
    n_trials: int
    n_collapsed: int
    fits: dict[tuple[str, str], Fit]

    @property
    def fit(self) -> Fit | None:
        """The fit that the verdict is formed on."""
        return next(iter(self.fits.values()), None)


def verdicts(
    paths: RunPaths, view: LedgerView, trials: Sequence[Trial], baselines: Sequence[Trial]
) -> tuple[SeriesVerdict, ...]:
    """One verdict for each series with a finished trial, by ascending horizon."""
    series: dict[tuple[int | None, Group], list[Trial]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.n_params and trial.val_loss.value is not None:
            series.setdefault((trial.horizon, replace(trial.group, data_fraction=1.0)), []).append(trial)
    ordered = sorted(series.items(), key=lambda item: item[0][0] or 0)
    judged = []
    for _, members in ordered:
        near = {other.key: other for trial in members for other in beside(trial, baselines)}
        judged.append(_judge(paths, view, members, list(near.values())))
    return tuple(judged)


def beside(trial: Trial, baselines: Sequence[Trial]) -> list[Trial]:
    """Baselines of a trial's horizon, tier, timescale and data fraction, the prior apart."""
    return [
        other
        for other in baselines
        if (other.horizon, other.group.tier, other.group.timescale, other.group.data_fraction)
        == (trial.horizon, trial.group.tier, trial.group.timescale, trial.group.data_fraction)
        and other.group.model != "prior"
        and other.status == "finished"
    ]


def _judge(paths: RunPaths, view: LedgerView, trials: list[Trial], baselines: list[Trial]) -> SeriesVerdict:
    collapsed = [trial for trial in trials if trial.collapsed]
    skilled = [trial for trial in trials if _has_skill(trial)]
    beaten = [other for other in baselines if _has_skill(other)]
    fits: dict[tuple[str, str], Fit] = {}
    sizes = len({trial.n_params for trial in trials})
    if not beaten and not _skilled_sizes(trials):
        word = NO_SIGNAL
        reason = (
            f"{_of(len(skilled), len(trials), 'trial')} (of no size more than half) and "
            f"{_of(0, len(baselines), 'baseline')} beat the prior on validation (95 % interval above 0) and on test"
        )
    elif beaten and 2 * len(collapsed) > len(trials):
        word = OPTIMISATION_FAILURE
        best = max(beaten, key=lambda other: other.skill.value or 0.0)
        reason = (
            f"{_of(len(collapsed), len(trials), 'trial')} collapsed, while the baseline '{best.group.model}' has a "
            f"skill of {100 * (best.skill.value or 0.0):.1f} %: there is something to learn, and the models did not"
        )
    elif sizes < MIN_SIZES:
        word = NOT_IDENTIFIABLE
        reason = f"{sizes} distinct size{'s' if sizes != 1 else ''}, and fewer than {MIN_SIZES} cannot identify a law"
    else:
        fits = _fits(paths, view, trials)
        word, reason = _agreed(fits, bool(collapsed))
    most = max(trial.group.data_fraction for trial in trials)
    group = next(trial.group for trial in trials if trial.group.data_fraction == most)
    return SeriesVerdict(trials[0].horizon, group, word, reason, len(trials), len(collapsed), fits)


def _has_skill(trial: Trial) -> bool:
    """Skill beyond doubt on validation that is there on test, too."""
    on_test = trial.test_skill is None or trial.test_skill > 0
    return trial.skill.low is not None and trial.skill.low > 0 and on_test


def _skilled_sizes(trials: list[Trial]) -> list[int | None]:
    """Sizes of which more than half of the trials have skill: single ones have it by chance."""
    counts: dict[int | None, list[bool]] = {}
    for trial in trials:
        counts.setdefault(trial.n_params, []).append(_has_skill(trial))
    return [size for size, known in counts.items() if 2 * sum(known) > len(known)]


def _of(n: int, total: int, noun: str) -> str:
    return f"{n} of {total} {noun}{'' if total == 1 else 's'}"


def _fits(paths: RunPaths, view: LedgerView, trials: list[Trial]) -> dict[tuple[str, str], Fit]:
    sets = {ALL: trials}
    if any(trial.collapsed for trial in trials):
        sets[SOUND] = [trial for trial in trials if not trial.collapsed]
    fits = {}
    for split in SPLITS:
        for name, chosen in sets.items():
            usable = [trial for trial in chosen if _loss(trial, split) is not None]
            if usable:
                fits[split, name] = _fit(paths, view, usable, split)
            if any(found.verdict == NOT_IDENTIFIABLE for found in fits.values()):
                return fits  # nothing that follows could change the verdict
    return fits


def _loss(trial: Trial, split: str) -> float | None:
    return trial.val_loss.value if split == "validation" else trial.test_loss


def _fit(paths: RunPaths, view: LedgerView, trials: list[Trial], split: str) -> Fit:
    samples = np.array([trial.n_train or 1 for trial in trials], dtype=np.float64)
    varied = len({trial.group.data_fraction for trial in trials}) > 1
    table = Table(
        n_params=np.array([trial.n_params for trial in trials], dtype=np.float64),
        loss=np.array([_loss(trial, split) for trial in trials], dtype=np.float64),
        n_samples=samples if varied else None,
    )
    priors = [trial.prior_loss for trial in trials if trial.prior_loss is not None]
    options = Options(bootstraps=COUNT, sparing=True, reference_loss=float(np.mean(priors)) if priors else None)
    resamples = loss_resamples(paths, view, [trial.key for trial in trials], split)
    return scaling.fit(table, options, loss_resamples_RN=resamples)


def _agreed(fits: dict[tuple[str, str], Fit], any_collapsed: bool) -> tuple[str, str]:
    (_, first), *others = fits.items()
    word, reason = first.verdict, first.reason
    if word == NOT_IDENTIFIABLE:
        return word, reason
    differing = [
        f"{split}, {name}: {other.verdict} ({other.reason})" for (split, name), other in others if other.verdict != word
    ]
    needed = [(split, name) for split in SPLITS for name in ((ALL, SOUND) if any_collapsed else (ALL,))]
    differing += [
        f"{split}, {name}: there is none with such a loss" for split, name in needed if (split, name) not in fits
    ]
    if differing:
        return NOT_IDENTIFIABLE, f"validation says '{word}' ({reason}), but it does not hold elsewhere; {differing[0]}"
    if word == POWER_LAW:
        numbers = ", ".join(
            f"{name} = {value:.4g} [{first.intervals[name][0]:.4g}, {first.intervals[name][1]:.4g}]"
            for name, value in first.parameters.items()
            if name in ("E", "alpha", "beta")
        )
        reason = f"{first.form} with {numbers}; {reason}"
    return word, f"{reason}; it holds on test" + (" and without collapsed trials" if any_collapsed else "")


def sentence(one: SeriesVerdict, groups: tuple[Group, ...]) -> str:
    """The verdict in words."""
    place = f"Horizon {one.horizon}" + (f", {different}" if (different := one.group.differing(groups)) else "")
    aside = f"; {one.n_collapsed} of {one.n_trials} trials collapsed" if one.n_collapsed else ""
    return f"{place}: {one.verdict}. {one.reason[:1].upper()}{one.reason[1:]}{aside}."
