"""The answers for each series of comparable trials: does the loss fall with the parameters, and by which law?

Formed on validation loss; each must hold on test loss, with and without collapsed trials, else it is not given.
The order is the design's: no skill anywhere; optimisation failure; then the fits (`runner.report.analysis.agreement`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from runner.report.analysis import fits as fitting
from runner.report.analysis import multiplicity
from runner.report.analysis.agreement import ALL, SOUND, SPLITS, agree, law_in_words
from runner.report.analysis.fits import COMPUTE, LENGTH, LENGTHS, PARAMETERS, NamedFit, Series
from runner.report.analysis.trials import Group, Trial
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.scaling import Fit
from runner.scaling.direction import FALLS, FLAT, RISES, UNKNOWN, Direction, first_words
from runner.scaling.model_comparison import POWER_LAW
from runner.scaling.verdict import MIN_SIZES, NO_FORM, NO_SIGNAL, NOT_IDENTIFIABLE, OPTIMISATION_FAILURE, without_forms


@dataclass(frozen=True, eq=False)
class SeriesVerdict:
    """The verdict on one series: a horizon and a group (data fractions together, where they vary).

    Attributes:
        group: of the trials with the most data.
        verdict: the design's single word for it.
        direction: of the loss with size: falls, flat, rises or can't tell.
        form: power law, log-linear, turns or form not identified.
        changes: from the smallest to the largest size, in words, with what the intervals were made from; empty where
            the losses say nothing about size.
        direction_reason: why it is this direction; empty where the interval of the change says it all.
        form_reason: why the form is this one or none; where skill or collapse decides, why they do.
        series: the trials.
        detectable: the smallest change, in nats, that would have been seen with 80 %; None where noise is unknown.
        reference: the prior's loss.
        p: of no change, the larger of both splits'; None where it is unknown.
        chances: p among all comparisons of the run, in words.
        fits: by (split, which trials); the first is the one the verdict is formed on. Empty below `MIN_SIZES` sizes and
            where skill or collapse decides.
    """

    horizon: int | None
    group: Group
    verdict: str
    direction: str
    form: str
    changes: str
    direction_reason: str
    form_reason: str
    series: Series
    fits: dict[tuple[str, str], Fit]
    detectable: float | None = None
    reference: float = 0.0
    p: float | None = None
    chances: str = ""

    @property
    def reason(self) -> str:
        """Both reasons."""
        return "; ".join(reason for reason in (self.form_reason, self.direction_reason) if reason)

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
    any_baseline = any(
        state.cell.cell_kind == "baseline" and state.cell.labels.get("model") != "prior"
        for state in view.cells.values()
    )
    for _, members in ordered:
        near = {other.key: other for trial in members for other in beside(trial, baselines)}
        judged.append(
            _judge(Series(paths, view, tuple(members)), list(near.values()), elsewhere=any_baseline and not near)
        )
    return tuple(_among_all(judged, view))


def _among_all(judged: Sequence[SeriesVerdict], view: LedgerView) -> Iterator[SeriesVerdict]:
    """The verdicts with their chances among all comparisons of the run."""
    comparisons = max(multiplicity.looked_at(view), len(judged))
    adjusted = multiplicity.holm([one.p for one in judged], comparisons)
    for one, p in zip(judged, adjusted, strict=True):
        if one.p is None or p is None:
            yield one
        else:
            yield replace(one, chances=multiplicity.words(one.p, p, comparisons, len(view.sweeps)))


def beside(trial: Trial, baselines: Sequence[Trial]) -> list[Trial]:
    """Finished baselines with exactly a trial's data and task, the prior apart."""
    return [
        other
        for other in baselines
        if other.place == trial.place and other.group.model != "prior" and other.status == "finished"
    ]


def _judge(series: Series, baselines: list[Trial], *, elsewhere: bool) -> SeriesVerdict:
    """The verdict of a series beside its baselines.

    Args:
        series: the trials.
        baselines: with the same data and task.
        elsewhere: there are none, and the ledger has some with others, as where a context is searched.
    """
    trials = series.trials
    collapsed = [trial for trial in trials if trial.collapsed]
    skilled = [trial for trial in trials if _has_skill(trial)]
    beaten = [other for other in baselines if _has_skill(other)]
    most = max(trial.group.data_fraction for trial in trials)
    group = next(trial.group for trial in trials if trial.group.data_fraction == most)
    horizon = trials[0].horizon
    if beaten and 2 * len(collapsed) > len(trials):
        best = max(beaten, key=lambda other: other.skill.value or 0.0)
        reason = (
            f"{_of(len(collapsed), len(trials), 'trial')} collapsed, while the baseline '{best.group.model}' has a "
            f"skill of {100 * (best.skill.value or 0.0):.1f} %: there is something to learn, and the models did not"
        )
        return SeriesVerdict(horizon, group, OPTIMISATION_FAILURE, UNKNOWN, NO_FORM, "", "", reason, series, {})
    chosen = _chosen(series)
    directions = {key: fitting.direction(series, usable, key[0]) for key, usable in chosen.items()}
    changes, sizes = _changes(series, directions), fitting.n_sizes(trials)
    on_both = [one for (_, which), one in directions.items() if which == ALL]
    detectable, p = (_largest(values) for values in ([o.change.detectable for o in on_both], [o.p for o in on_both]))
    reference = on_both[0].change.reference if on_both else 0.0
    fits: dict[tuple[str, str], Fit] = {}
    if not beaten and not _skilled_sizes(trials):
        reason = (
            f"{_of(len(skilled), len(trials), 'trial')} (of no size more than half) and "
            f"{_of(0, len(baselines), 'baseline')} beat the prior on validation (95 % interval above 0) and on test"
        )
        if elsewhere:
            reason = (
                f"{_of(len(skilled), len(trials), 'trial')} (of no size more than half) beat the prior, and no "
                "baseline has these inputs: nothing says whether there is something to learn"
            )
        # what is no better than the prior neither falls nor rises with size
        word = FLAT if {one.word for one in directions.values()} == {FLAT} else UNKNOWN
        verdict = NOT_IDENTIFIABLE if elsewhere else NO_SIGNAL
        return SeriesVerdict(
            horizon, group, verdict, word, NO_FORM, changes, "", reason, series, fits, detectable, reference, p
        )
    judged = {}
    for key, usable in chosen.items():
        early = without_forms(directions[key], sizes)
        if sizes >= MIN_SIZES and (early is None or not fits):  # one fit is shown even where no form is looked for
            fits[key] = fitting.by_parameters(series, usable, key[0])
        judged[key] = fits[key].judged if early is None else early
    found = agree(directions, judged, any_unsound=any(trial.unsound for trial in trials))
    form_reason = found.form_reason
    if found.form == POWER_LAW:
        form_reason = f"{law_in_words(next(iter(fits.values())))}; {form_reason}"
    if fits:
        form_reason += _without_marked(series)
    why = "" if found.direction in (FALLS, RISES) else found.direction_reason
    return SeriesVerdict(
        *(horizon, group, found.verdict, found.direction, found.form, changes, why, form_reason, series, fits),
        *(detectable, reference, p),
    )


def _largest(values: Sequence[float | None]) -> float | None:
    """None where one is unknown: both splits must say the same."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _changes(series: Series, directions: dict[tuple[str, str], Direction]) -> str:
    """The change of the loss on each split, and what its intervals come from."""
    sizes = sorted({trial.n_params or 0 for trial in series.trials})
    known = {split: one for (split, which), one in directions.items() if which == ALL}
    each = [f"{one.change.words()} on {split}" for split, one in known.items()]
    shown = f"the change from {sizes[0]:,} to {sizes[-1]:,} parameters is {' and '.join(each)}"
    if any(one.change.low is None for one in known.values()):
        return shown
    noise = " and ".join(dict.fromkeys(one.noise for one in known.values()))
    without = " and ".join(dict.fromkeys(why for split in known if (why := series.without_blocks(split))))
    alone = f" alone, without the sampling of the period, as {without}" if without else ""
    return f"{shown} (95 % intervals: {noise}{alone})"


def _has_skill(trial: Trial) -> bool:
    """Skill beyond doubt on validation that is there on test, too."""
    on_test = trial.test_skill is None or trial.test_skill > 0
    return trial.skill.low is not None and trial.skill.low > 0 and on_test


def _skilled_sizes(trials: Sequence[Trial]) -> list[float]:
    """Sizes of which more than half of the trials have skill: single ones have it by chance."""
    counts: dict[float, list[bool]] = {}
    for trial, size in zip(trials, fitting.sizes_of(trials), strict=True):
        counts.setdefault(float(size), []).append(_has_skill(trial))
    return [size for size, known in counts.items() if 2 * sum(known) > len(known)]


def _of(n: int, total: int, noun: str) -> str:
    return f"{n} of {total} {noun}{'' if total == 1 else 's'}"


def _chosen(series: Series) -> dict[tuple[str, str], list[Trial]]:
    """Trials by (split, which): all and, where some are not, the sound ones."""
    sound = [trial for trial in series.trials if not trial.unsound]
    sets = {ALL: series.trials} | ({SOUND: tuple(sound)} if len(sound) < len(series.trials) else {})
    return {
        (split, which): usable
        for split in SPLITS
        for which, trials in sets.items()
        if (usable := series.usable(split, trials))
    }


def _without_marked(series: Series) -> str:
    """What the trials say that are neither under-trained nor over-fitted. It decides nothing."""
    marked = [trial for trial in series.trials if trial.marked("under-trained", "over-fitted")]
    rest = [trial for trial in series.trials if trial not in marked]
    if not marked:
        return ""
    shown = f"; without the {len(marked)} trials that are under-trained or over-fitted "
    if fitting.n_sizes(rest) < MIN_SIZES:
        return f"{shown}too few sizes remain to say anything"
    found = fitting.by_parameters(series, rest, "validation")
    return f"{shown}validation says '{found.direction.word}, {found.judged.form}'"


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
    found += _by_length(judged, groups)
    if (fit := fitting.pooled([(where, one.series) for where, one in fitted])) is not None:
        found.append(NamedFit("all of these pooled, each with an E of its own", PARAMETERS, fit))
    return tuple(found)


def _by_length(judged: Sequence[SeriesVerdict], groups: tuple[Group, ...]) -> Iterator[NamedFit]:
    """One fit for all series that differ in nothing but how long they train, of their sound trials."""
    alike: dict[tuple[int | None, Group], list[SeriesVerdict]] = {}
    for one in judged:
        axes = tuple((name, value) for name, value in one.group.axes if name not in LENGTHS)
        alike.setdefault((one.horizon, replace(one.group, axes=axes)), []).append(one)
    for (_, group), members in alike.items():
        first, trials = members[0], [trial for one in members for trial in one.series.trials]
        sound = tuple(trial for trial in trials if not trial.unsound)
        if len(members) > 1 and any(one.fits for one in members):
            fit = fitting.by_length(Series(first.series.paths, first.series.view, sound))
            if fit is not None:
                where = place(replace(first, group=group), groups)
                which = ALL if len(sound) == len(trials) else SOUND
                yield NamedFit(f"{where}, all lengths: validation, {which}", LENGTH, fit)


def place(one: SeriesVerdict, groups: tuple[Group, ...]) -> str:
    """Which series, naming only what varies; the data fraction is a variable of the fit."""
    whole = tuple({replace(group, data_fraction=1.0) for group in groups})
    different = replace(one.group, data_fraction=1.0).differing(whole)
    return f"horizon {one.horizon}" + (f", {different}" if different else "")


def sentence(one: SeriesVerdict, groups: tuple[Group, ...]) -> str:
    """The verdict in words: direction, form, reasons."""
    where, trials = place(one, groups), one.series.trials
    collapsed = sum(trial.collapsed for trial in trials)
    aside = f"; {collapsed} of {len(trials)} trials collapsed" if collapsed else ""
    start, reason = f"{_capital(where)}: ", f"{one.form_reason}{aside}."
    if one.verdict == OPTIMISATION_FAILURE:
        return f"{start}can't tell whether the loss falls with size: {one.verdict}. {_capital(reason)}"
    if one.verdict == NO_SIGNAL:
        return f"{start}{one.verdict}. {_capital(reason)} {_capital(one.changes)}.{_limits(one)}"
    why = f": {one.direction_reason}" if one.direction_reason else ""
    return f"{start}{first_words(one.direction, one.changes)}{why}. {_capital(one.form)}: {reason}{_limits(one)}"


def _limits(one: SeriesVerdict) -> str:
    """How sure the change is among all that was looked at and, where none was found, what could have been seen."""
    shown = f" The change has {one.chances}." if one.chances else ""
    if one.direction in (FALLS, RISES) or one.detectable is None:
        return shown
    share = f" ({100 * one.detectable / one.reference:.1f} % of the prior's loss)" if one.reference else ""
    return f"{shown} A change below {one.detectable:.3g} nats{share} would be missed in 1 of 5 such runs or more."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
