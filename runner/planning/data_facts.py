"""What the checks of the data look at: the splits of one data set and task, and what a model is shown of them.

Array names: T rows of the dataset, N windows of a split, K inputs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial

import numpy as np
import numpy.typing as npt

from runner.planning import data_statistics
from runner.planning.data_statistics import Floats
from trainables.data import scaling
from trainables.data.calendars import Calendar
from trainables.data.dataset import Dataset
from trainables.data.doubts import Doubt, doubts
from trainables.data.splits import SPLITS, SplitName, class_shares
from trainables.data.window_index import SplitIndex, WindowIndex
from trainables.schema import Scaling
from trainables.schema.common import INTRADAY

# Windows of a split that are looked at, evenly spread: they bound the time, and an AUC's error from sampling to 0.01.
MAX_WINDOWS = 4_000
USUAL = 0.95  # share of an asset's bars whose distance from the next one counts as usual: weekends do, holidays do not


@dataclass(frozen=True)
class SplitFacts:
    """One split: windows, how many there would be without `MAX_JUDGED`, and how many independent ones.

    Dates are of the windows' ends, None without a window.

    `shares` are those of the classes; empty where labels are values.
    """

    n_windows: int
    total: int
    effective: int
    effective_rarer: int | None
    shares: tuple[float, ...]
    first: date | None
    last: date | None


@dataclass(frozen=True)
class Gap:
    """The longest time between two neighbouring bars of one asset that a label spans.

    `usual_days` is the longest distance that the asset's neighbouring bars usually (`USUAL`) have.
    """

    asset: str
    after: date
    before: date
    usual_days: int

    @property
    def days(self) -> int:
        """Calendar days."""
        return (self.before - self.after).days


@dataclass(frozen=True)
class Inputs:
    """What the model sees at the last bar of a window, over the training split and against the others.

    Attributes:
        names: of the inputs; K of them.
        constant: those that never change in training.
        duplicates: pairs with their correlation in training.
        shift: for each later split, difference of the means from training in training standard deviations, by name.
        stability: likewise, population stability index.
        auc: of each input alone for the label, the larger of training's and validation's.
        lead: of columns as given, correlation with the next bar's log return, the larger of training's and
            validation's.
    """

    names: tuple[str, ...]
    constant: tuple[str, ...]
    duplicates: tuple[tuple[str, str, float], ...]
    shift: dict[SplitName, dict[str, float]]
    stability: dict[SplitName, dict[str, float]]
    auc: dict[str, float]
    lead: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """One data set and task.

    `overlaps` counts windows of a split whose label reaches into a later split, `gaps` has one entry per asset.
    `inputs` is None where a split has no window. `classes` are the names of three classes or more; binary labels have
    none.
    """

    horizon: int
    classes: tuple[str, ...]
    splits: dict[SplitName, SplitFacts]
    overlaps: int
    gaps: tuple[Gap, ...]
    doubts: tuple[Doubt, ...]
    inputs: Inputs | None


def examine(dataset: Dataset, index: WindowIndex, how: Scaling, duplicate: float = 0.9999) -> Facts:
    """Look at the windows of one data set and task; test labels are counted and never held against an input.

    Inputs with a correlation beyond `duplicate` are one.
    """
    complete = all(len(index.splits[name]) for name in SPLITS)
    return Facts(
        horizon=index.task.horizon,
        classes=index.task.classes,
        splits={name: _split(index, name) for name in index.splits},
        overlaps=_overlaps(index, dataset.dates_T),
        gaps=tuple(_gaps(dataset, index)),
        doubts=tuple(_doubts(dataset)),
        inputs=_inputs(dataset, index, how, duplicate) if complete else None,
    )


def _doubts(dataset: Dataset) -> Iterator[Doubt]:
    calendars = _calendars(dataset)
    for rows in dataset.rows:
        yield from doubts(dataset.by_date(rows), rows.asset, calendars.get(rows.asset))


def _calendars(dataset: Dataset) -> dict[str, Calendar]:
    """By asset, as far as bars are short enough to show a session that is missing."""
    entry = dataset.entry
    shown = entry.timescale in ("daily", *INTRADAY)
    return {asset: Calendar(name) for asset, name in entry.calendars.items()} if shown else {}


def _split(index: WindowIndex, name: SplitName) -> SplitFacts:
    part, size = index.splits[name], index.effective[name]
    some = len(part) > 0
    return SplitFacts(
        n_windows=len(part),
        total=part.total,
        effective=size.total,
        effective_rarer=size.rarer_class,
        shares=class_shares(part.labels_N, index.task.n_classes) if some else (),
        first=_day(part.dates_N.min()) if some else None,
        last=_day(part.dates_N.max()) if some else None,
    )


def _day(moment: np.datetime64) -> date:
    day: date = moment.astype("datetime64[D]").item()
    return day


def _overlaps(index: WindowIndex, dates_T: npt.NDArray[np.datetime64]) -> int:
    """Counted from dates, not from the positions that the splits were made of: a check of the purge, not its echo."""
    context, ahead = index.task.context, index.task.lookahead
    names = [name for name, part in index.splits.items() if len(part)]
    count = 0
    for number, name in enumerate(names[:-1]):
        firsts = []
        for later in names[number + 1 :]:
            # what chooses an epoch must share no label with what judges it; its context is known by then
            back = -1 if (name, later) == ("selection", "validation") else context - 1
            firsts.append(dates_T[index.splits[later].ends_N - back].min())
        count += int(np.count_nonzero(dates_T[index.splits[name].ends_N + ahead] >= min(firsts)))
    return count


def _gaps(dataset: Dataset, index: WindowIndex) -> Iterator[Gap]:
    ahead, known = index.task.lookahead, _calendars(dataset)
    for rows in dataset.rows:
        if rows.asset in known:
            continue  # missing sessions are known one by one
        dates_T = dataset.dates_T[rows.part].astype("datetime64[D]")
        change_T = np.zeros(len(dates_T) + 1, dtype=np.int64)
        for part in index.splits.values():
            ends_N = part.of_asset(rows).ends_N - rows.start
            change_T[ends_N] += 1
            change_T[ends_N + ahead] -= 1
        spanned = np.cumsum(change_T[:-1])[:-1] > 0  # whether a label spans the time from this row to the next
        days = np.diff(dates_T).astype(np.int64)
        if spanned.any():
            longest = int(np.argmax(np.where(spanned, days, 0)))
            usual = int(np.quantile(days[days > 0] if (days > 0).any() else [1], USUAL, method="lower"))
            yield Gap(rows.asset, _day(dates_T[longest]), _day(dates_T[longest + 1]), usual)


def _lead(dataset: Dataset, index: WindowIndex, chosen: dict[SplitName, npt.NDArray[np.int64]]) -> dict[str, float]:
    """Correlation of columns as given with the log return of the bar after a window: what is known cannot go with it.

    A tier's columns are proven to look back only, and need no such look.
    """
    places = {name: place for place, name in enumerate(index.features) if name in dataset.entry.given}
    if not places:
        return {}
    close_T = dataset.number("close")
    largest = dict.fromkeys(places, 0.0)
    for split in SPLITS[:2]:
        ends_N = index.splits[split].ends_N[chosen[split]]  # a label follows, and so a bar
        next_N = np.log(close_T[ends_N + 1] / close_T[ends_N])
        for name, place in places.items():
            x_N = index.data.values_TF[ends_N, place].astype(np.float64)
            if x_N.std() > 0 and next_N.std() > 0:
                r = float(np.corrcoef(x_N, next_N)[0, 1])
                largest[name] = max(largest[name], r, key=abs)
    return largest


def _inputs(dataset: Dataset, index: WindowIndex, how: Scaling, duplicate: float) -> Inputs:
    chosen = {name: _spread(index.splits[name]) for name in SPLITS}
    seen = {name: _seen(index, index.splits[name].ends_N[chosen[name]], how) for name in SPLITS}
    names = index.features + (scaling.statistic_names(index.features) if how == "revin" else ())
    train_NK = seen["train"]
    flat_K = data_statistics.constant(train_NK)
    varying = [name for name, flat in zip(names, flat_K, strict=True) if not flat]

    def by_name(values_K: Floats) -> dict[str, float]:
        return dict(zip(varying, map(float, values_K), strict=True))

    later = {name: (train_NK[:, ~flat_K], seen[name][:, ~flat_K]) for name in SPLITS[1:]}
    return Inputs(
        names=names,
        constant=tuple(name for name, flat in zip(names, flat_K, strict=True) if flat),
        duplicates=tuple((names[i], names[j], r) for i, j, r in data_statistics.duplicates(train_NK, duplicate)),
        shift={name: by_name(data_statistics.mean_shift(*both)) for name, both in later.items()},
        stability={name: by_name(data_statistics.population_stability(*both)) for name, both in later.items()},
        auc=by_name(_auc(index, chosen, seen, ~flat_K)),
        lead=_lead(dataset, index, chosen),
    )


def _spread(part: SplitIndex) -> npt.NDArray[np.int64]:
    """Positions of at most `MAX_WINDOWS` windows, evenly spread."""
    return np.unique(np.linspace(0, len(part) - 1, min(len(part), MAX_WINDOWS)).round().astype(np.int64))


def _seen(index: WindowIndex, ends_N: npt.NDArray[np.int64], how: Scaling) -> Floats:
    """Inputs at the windows' last bars, [N, K]; with RevIN normalised by the window, and the windows' statistics.

    What `zscore` does on top is the same for all splits and changes none of the numbers that are made of it.
    """
    last_NF = index.data.values_TF[ends_N].astype(np.float64)
    if how != "revin":
        return last_NF
    moments = scaling.window_moments(index.data, ends_N, index.task.context)
    return np.hstack([(last_NF - moments.mean_NF) / moments.std_NF, moments.stats_NS])


def _auc(
    index: WindowIndex,
    chosen: dict[SplitName, npt.NDArray[np.int64]],
    seen: dict[SplitName, Floats],
    varying_K: data_statistics.Flags,
) -> Floats:
    """Of each input for the label; of several classes for each against the rest, of values for those above the median.

    The largest counts.
    """
    found = [
        data_statistics.single_auc(seen[name][:, varying_K], is_one(index.splits[name].labels_N[chosen[name]]))
        for name in SPLITS[:2]
        for is_one in _questions(index)
    ]
    largest_K: Floats = np.max(found, axis=0)
    return largest_K


def _questions(index: WindowIndex) -> list[Callable[[Floats], data_statistics.Flags]]:
    """What can be asked of a label that is true or not."""
    n_classes = index.task.n_classes
    if n_classes > 2:
        return [partial(np.equal, number) for number in range(n_classes)]
    limit = 0.5 if n_classes else float(np.median(index.splits["train"].labels_N))
    return [lambda labels_N: labels_N > limit]
