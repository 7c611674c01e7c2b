"""The answer for each series of comparable trials: does the loss follow a power law in the parameters?

Formed on validation loss; it must hold on test loss, with and without collapsed trials, else nothing is identified.
The order is the design's: no skill anywhere; optimisation failure; fewer than 5 sizes; then the fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runner.ledger import LedgerView
from runner.paths import RunPaths
from runner.report import fits as fitting
from runner.report.fits import COMPUTE, PARAMETERS, SPLITS, NamedFit, Series
from runner.report.trials import Group, Trial
from runner.scaling import Fit
from runner.scaling.rivals import POWER_LAW
from runner.scaling.verdict import MIN_SIZES, NO_SIGNAL, NOT_IDENTIFIABLE, OPTIMISATION_FAILURE

ALL, SOUND = "all trials", "without collapsed or squashed trials"


@dataclass(frozen=True, eq=False)
class SeriesVerdict:
    """The verdict on one series: a horizon and a group (data fractions together, where they vary).

    Attributes:
        group: of the trials with the most data.
        series: the trials.
        fits: by (split, which trials); the first is the one the verdict is formed on. Empty where none was needed.
    """

    horizon: int | None
    group: Group
    verdict: str
    reason: str
    series: Series
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
        judged.append(_judge(Series(paths, view, tuple(members)), list(near.values())))
    return tuple(judged)


def beside(trial: Trial, baselines: Sequence[Trial]) -> list[Trial]:
    """Finished baselines with exactly a trial's data and task, the prior apart."""
    return [
        other
        for other in baselines
        if other.place == trial.place and other.group.model != "prior" and other.status == "finished"
    ]


def _judge(series: Series, baselines: list[Trial]) -> SeriesVerdict:
    trials = series.trials
    collapsed = [trial for trial in trials if trial.collapsed]
    unsound = any(trial.unsound for trial in trials)
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
        fits = _fits(series)
        word, reason = _agreed(fits, unsound)
        reason += _without_marked(series)
    most = max(trial.group.data_fraction for trial in trials)
    group = next(trial.group for trial in trials if trial.group.data_fraction == most)
    return SeriesVerdict(trials[0].horizon, group, word, reason, series, fits)


def _has_skill(trial: Trial) -> bool:
    """Skill beyond doubt on validation that is there on test, too."""
    on_test = trial.test_skill is None or trial.test_skill > 0
    return trial.skill.low is not None and trial.skill.low > 0 and on_test


def _skilled_sizes(trials: Sequence[Trial]) -> list[int | None]:
    """Sizes of which more than half of the trials have skill: single ones have it by chance."""
    counts: dict[int | None, list[bool]] = {}
    for trial in trials:
        counts.setdefault(trial.n_params, []).append(_has_skill(trial))
    return [size for size, known in counts.items() if 2 * sum(known) > len(known)]


def _of(n: int, total: int, noun: str) -> str:
    return f"{n} of {total} {noun}{'' if total == 1 else 's'}"


def _fits(series: Series) -> dict[tuple[str, str], Fit]:
    sound = [trial for trial in series.trials if not trial.unsound]
    sets = {ALL: series.trials} | ({SOUND: tuple(sound)} if len(sound) < len(series.trials) else {})
    fits = {}
    for split in SPLITS:
        for name, chosen in sets.items():
            if usable := series.usable(split, chosen):
                fits[split, name] = fitting.by_parameters(series, usable, split)
            if any(found.verdict == NOT_IDENTIFIABLE for found in fits.values()):
                return fits  # nothing that follows could change the verdict
    return fits


def _without_marked(series: Series) -> str:
    """What the trials say that neither stopped too early nor over-fitted. It is told and decides nothing.

    With a schedule that ends at a rate of 0 the last epoch is the best of a healthy trial, too.
    """
    marked = [trial for trial in series.trials if trial.marked("under-trained", "over-fitted")]
    rest = [trial for trial in series.trials if trial not in marked]
    if not marked:
        return ""
    told = f"; without the {len(marked)} trials that are under-trained or over-fitted "
    if len({trial.n_params for trial in rest}) < MIN_SIZES:
        return f"{told}too few sizes remain to say anything"
    return f"{told}validation says '{fitting.by_parameters(series, rest, 'validation').verdict}'"


def _agreed(fits: dict[tuple[str, str], Fit], any_unsound: bool) -> tuple[str, str]:
    (_, first), *others = fits.items()
    word, reason = first.verdict, first.reason
    if word == NOT_IDENTIFIABLE:
        return word, reason
    differing = [
        f"{split}, {name}: {other.verdict} ({other.reason})" for (split, name), other in others if other.verdict != word
    ]
    needed = [(split, name) for split in SPLITS for name in ((ALL, SOUND) if any_unsound else (ALL,))]
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
        reason = f"{first.form} with {numbers}; {reason}{_extrapolated(first)}"
    return word, f"{reason}; it holds on test" + (f" and {SOUND}" if any_unsound else "")


def _extrapolated(fit: Fit) -> str:
    if fit.extrapolation is None:
        return ""
    error = 100 * fit.extrapolation.relative_error
    return f"; fitted without the largest size, it misses that size's loss by {error:+.2f} %"


def named_fits(judged: Sequence[SeriesVerdict], groups: tuple[Group, ...]) -> tuple[NamedFit, ...]:
    """Every fit that was made, for the report's table; by compute and pooled only where a series was fitted at all."""
    fitted = [(place(one, groups), one) for one in judged if one.fits]
    found = [
        NamedFit(f"{where}: {split}, {which}", PARAMETERS, fit)
        for where, one in fitted
        for (split, which), fit in one.fits.items()
    ]
    for where, one in fitted:
        if (fit := fitting.by_compute(one.series)) is not None:
            found.append(NamedFit(f"{where}: validation, {ALL}", COMPUTE, fit))
    if (fit := fitting.pooled([(where, one.series) for where, one in fitted])) is not None:
        found.append(NamedFit("all of these pooled, each with an E of its own", PARAMETERS, fit))
    return tuple(found)


def place(one: SeriesVerdict, groups: tuple[Group, ...]) -> str:
    """Which series, naming only what varies; the data fraction is a variable of the fit."""
    whole = tuple({replace(group, data_fraction=1.0) for group in groups})
    different = replace(one.group, data_fraction=1.0).differing(whole)
    return f"horizon {one.horizon}" + (f", {different}" if different else "")


def sentence(one: SeriesVerdict, groups: tuple[Group, ...]) -> str:
    """The verdict in words."""
    where, trials = place(one, groups), one.series.trials
    collapsed = sum(trial.collapsed for trial in trials)
    aside = f"; {collapsed} of {len(trials)} trials collapsed" if collapsed else ""
    return f"{where[:1].upper()}{where[1:]}: {one.verdict}. {one.reason[:1].upper()}{one.reason[1:]}{aside}."
