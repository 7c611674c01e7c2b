"""One verdict over walk-forward folds: each fold is a repetition with windows and an irreducible loss of its own.

The change is the mean of the folds' changes; the law has one A and one alpha for all. Blocks of each fold's period and
the seeds of each fold make the intervals, as if the folds' trials were independent. They are not quite: training spans
overlap. How much the folds differ is given, too, by the interval of Nadeau and Bengio (2003, 'Inference for the
generalization error'), whose variance is that of the folds' changes times (1/K + windows judged / trained on).

Array names: K folds.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtrit

from runner import scaling
from runner.report.analysis import fits as fitting
from runner.report.analysis.agreement import ALL, SPLITS, agree
from runner.report.analysis.trials import Group
from runner.report.analysis.verdict import SeriesVerdict, place
from runner.rundir import comparable
from runner.scaling import FitTable
from runner.scaling.direction import FALLS, RISES, Change, first_words
from runner.scaling.law import Floats
from runner.scaling.noise import LEVEL
from runner.scaling.verdict import MIN_SIZES, Verdict, without_forms

FOLD = "data.splits.fold"


@dataclass(frozen=True)
class FoldsVerdict:
    """The verdict on several folds, in words.

    Attributes:
        place: which series.
        direction, form, verdict: as of `SeriesVerdict`.
        text: the sentence.
    """

    place: str
    direction: str
    form: str
    verdict: str
    text: str


def pooled(judged: Sequence[SeriesVerdict], groups: tuple[Group, ...]) -> Iterator[FoldsVerdict]:
    """A verdict for each set of series that differ in the fold alone; those where skill decided are left out."""
    sets: dict[tuple[int | None, Group], list[SeriesVerdict]] = {}
    for one in judged:
        if one.changes:
            sets.setdefault((one.horizon, without_fold(one.group)), []).append(one)
    for folds in sets.values():
        if len(folds) > 1 and all(FOLD in dict(one.group.axes) for one in folds):
            yield _of_folds(sorted(folds, key=_fold), groups)


def _fold(one: SeriesVerdict) -> int:
    return int(dict(one.group.axes)[FOLD])


def without_fold(group: Group) -> Group:
    """The group that folds of one series have in common."""
    asked = comparable.identity(json.loads(group.asked), (FOLD,)) if group.asked else ""
    return replace(group, axes=tuple((name, value) for name, value in group.axes if name != FOLD), asked=asked)


def _of_folds(folds: Sequence[SeriesVerdict], groups: tuple[Group, ...]) -> FoldsVerdict:
    tables = {split: _table(folds, split) for split in SPLITS if all(one.series.usable(split) for one in folds)}
    options = fitting.options_of([trial for one in folds for trial in one.series.trials])
    directions, verdicts = {}, {}
    for split, (table, resampled) in tables.items():
        found = scaling.direction(table, options, loss_resamples_RN=resampled)
        sizes = len(np.unique(table.n_params))
        early: Verdict | None = without_forms(found, sizes)
        if early is None and sizes >= MIN_SIZES:
            early = scaling.fit(table, options, loss_resamples_RN=resampled).judged
        assert early is not None
        directions[split, ALL], verdicts[split, ALL] = found, early
    agreed = agree(directions, verdicts, any_unsound=False)
    changes = " and ".join(f"{one.change.words()} on {split}" for (split, _), one in directions.items())
    without = tuple({without_fold(group) for group in groups})
    where = place(replace(folds[0], group=without_fold(folds[0].group)), without)
    start = f"{where[:1].upper()}{where[1:]}, {len(folds)} folds as one: "
    why = "" if agreed.direction in (FALLS, RISES) else f": {agreed.direction_reason}"
    text = (
        f"{start}{first_words(agreed.direction, f'the mean change is {changes}')}{why}. "
        f"{agreed.form[:1].upper()}{agreed.form[1:]}: {agreed.form_reason}. {_between(folds)}"
    )
    return FoldsVerdict(where, agreed.direction, agreed.form, agreed.verdict, text)


def _table(folds: Sequence[SeriesVerdict], split: str) -> tuple[FitTable, Floats | None]:
    """All folds' trials with a loss on a split, each fold a group, and their losses under resamples."""
    chosen = [one.series.usable(split) for one in folds]
    resampled = [one.series.resamples(split, trials) for one, trials in zip(folds, chosen, strict=True)]
    known = [part for part in resampled if part is not None]
    trials = [trial for part in chosen for trial in part]
    table = FitTable(
        n_params=fitting.sizes_of(trials),
        loss=np.array([fitting.loss_of(trial, split) for trial in trials], dtype=np.float64),
        group=np.array([f"fold {_fold(one)}" for one, part in zip(folds, chosen, strict=True) for _ in part]),
    )
    return table, np.hstack(known) if len(known) == len(folds) else None


def _between(folds: Sequence[SeriesVerdict]) -> str:
    """How much the folds' changes on validation differ, and how much of their training data is the same."""
    changes = [_change(one) for one in folds]
    known = [change.value for change in changes if change.value is not None]
    trained = [one.series.trials[0].n_train or 0 for one in folds]
    judged = float(np.mean([one.series.trials[0].n_val or 0 for one in folds]))
    each = ", ".join(f"fold {_fold(one)} {change.words()}" for one, change in zip(folds, changes, strict=True))
    shown = f"By fold: {each}"
    if len(known) == len(folds) and min(trained) > 0:
        ratio = 1 / len(known) + judged / float(np.mean(trained))
        half = float(stdtrit(len(known) - 1, 1 - LEVEL / 2) * math.sqrt(ratio) * np.std(known, ddof=1))
        mean, shared = float(np.mean(known)), 100 * min(trained) / max(trained)
        shown += f"; between folds the mean change is {mean:+.4g} [{mean - half:+.4g}, {mean + half:+.4g}]"
        shown += f" (Nadeau and Bengio; their training spans share up to {shared:.0f} %)"
    return shown + "."


def _change(one: SeriesVerdict) -> Change:
    series = one.series
    return fitting.direction(series, series.usable("validation"), "validation").change
