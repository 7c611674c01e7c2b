"""Paired differences between two runs: cells of one size, horizon and axes, on the windows that both were judged on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from runner.report.analysis.collect import Collected
from runner.report.analysis.contrasts import SPLITS, place_of, sizes_of
from runner.report.analysis.metric_differences import MetricDifference, of_pairs
from runner.report.analysis.paired import Difference, Entry, Source, compare
from runner.report.analysis.trials import Estimate, Group, Trial
from runner.rundir import comparable
from runner.rundir.paths import RunPaths

OTHER_QUESTION = "no data, splits and task are common to both"
NO_CELL = "no finished cell has the same size, horizon and axes in both"


@dataclass(frozen=True)
class RunDifference:
    """A metric of one run's cells less that of another's, or why there is no such difference.

    Attributes:
        first, second: the runs; values are those of the first less those of the second.
        place: horizon and group, naming only what varies.
        size: a budget, or all that both runs have.
        split, metric: empty where nothing can be compared.
        windows: on which both were judged; 0 where there is no difference.
        value: with the interval that holds for all sizes of the metric together.
        alone: the interval of this size for itself.
        says: which run is better, as far as the interval can tell; without a value, why there is none.
    """

    first: str
    second: str
    place: str = ""
    size: str = ""
    split: str = ""
    metric: str = ""
    windows: int = 0
    value: Estimate = field(default_factory=Estimate)
    alone: tuple[float, float] | None = None
    says: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = vars(self) | {"value": self.value.value, "low": self.value.low, "high": self.value.high}
        return plain if self.value.value is not None else {"first": self.first, "second": self.second, **_known(plain)}

    def with_numbers(self, size: str, one: Difference | MetricDifference) -> "RunDifference":
        """With what was found for a size."""
        words = "cannot be distinguished" + ("" if one.enough_seeds else " (one seed)")
        if one.better is not None:
            words = f"{self.first if one.better else self.second} is better"
        return replace(self, size=size, value=Estimate(one.value, one.low, one.high), alone=one.alone, says=words)


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("place", "split", "metric", "says")}


def run_differences(found: Mapping[str, tuple[RunPaths, Collected]]) -> Iterator[RunDifference]:
    """Of every two runs, the later named less the earlier."""
    groups = tuple({trial.group for _, one in found.values() for trial in one.trials})
    cells = {name: _cells(one, groups) for name, (_, one) in found.items()}
    sources = {name: Source(paths, one.view) for name, (paths, one) in found.items()}
    for second, first in combinations(found, 2):
        if reason := _refusal(cells[first], cells[second]):
            yield RunDifference(first, second, says=reason)
        for place in (place for place in cells[second] if place in cells[first]):
            sides = [sizes_of(cells[name][place], sources[name]) for name in (first, second)]
            horizon, words, _ = place
            where = RunDifference(first, second, place_of(horizon, words))
            yield from _at_place(where, *sides)


def _at_place(where: RunDifference, first: Sequence[Entry], second: Sequence[Entry]) -> Iterator[RunDifference]:
    pairs = _pairs(first, second)
    if not pairs:
        yield replace(where, says=NO_CELL)
        return
    entries = [entry for pair in pairs.values() for entry in pair]
    named = [(one.name, other.name) for one, other in pairs.values()]
    windows: dict[str, int] = {}
    for split in SPLITS:
        (family,) = compare(entries, [named], split)
        here = replace(where, split=split, metric="loss", windows=family.windows)
        if family.reason:
            yield replace(here, says=family.reason)
            continue
        windows[split] = family.windows
        yield from (here.with_numbers(size, one) for size, one in zip(pairs, family.differences, strict=True))
    single = {size: pair for size, pair in pairs.items() if len(pair[0].cells) == 1}  # no spread of sizes among seeds
    for one in of_pairs(where.place, list(single.values())):
        if one.split in windows:
            size = next(size for size, pair in single.items() if pair[0].name == one.first)
            here = replace(where, split=one.split, metric=one.metric, windows=windows[one.split])
            yield here.with_numbers(size, one)


_Place = tuple[int | None, str, str]  # horizon, group in words, question


def _cells(one: Collected, groups: tuple[Group, ...]) -> dict[_Place, list[Trial]]:
    """Finished trials of a run by what must be equal in both."""
    found: dict[_Place, list[Trial]] = {}
    for trial in one.trials:
        if trial.status == "finished" and trial.val_loss.value is not None and trial.n_params:
            asked = comparable.identity(one.view.cells[trial.key].cell.spec, comparable.INPUTS)
            found.setdefault((trial.horizon, trial.group.differing(groups), asked), []).append(trial)
    return dict(sorted(found.items(), key=lambda item: (item[0][0] or 0, item[0][1])))


def _refusal(first: Mapping[_Place, object], second: Mapping[_Place, object]) -> str:
    """Why two runs have nothing in common; empty where they do."""
    if not first or not second:
        return "no trial has finished in one of them"
    if set(first) & set(second):
        return ""
    return NO_CELL if {place[2] for place in first} & {place[2] for place in second} else OTHER_QUESTION


def _pairs(first: Sequence[Entry], second: Sequence[Entry]) -> dict[str, tuple[Entry, Entry]]:
    """Entries of the sizes that both have, and of all of them together where there are several, by size."""
    sides = [{one.name: one for one in side} for side in (first, second)]
    shared = [name for name in sides[0] if name in sides[1]]
    sizes = {name: [name] for name in shared} | ({f"mean of {len(shared)}": shared} if len(shared) > 1 else {})

    def entry(size: str, number: int) -> Entry:
        members = [sides[number][name] for name in sizes[size]]
        return Entry(f"{size} of {number}", tuple(one.cells[0] for one in members), members[0].source)

    return {size: (entry(size, 0), entry(size, 1)) for size in sizes}
