"""What a report compares: sizes with baselines, sizes with one another, and values of an axis with its first value.

Everything in a comparison has one data and task (`runner.rundir.comparable`); each has a paired interval from
predictions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from runner.report.analysis.paired import Entry, Family, compare
from runner.report.analysis.trials import Group, Trial
from runner.report.analysis.verdict import beside
from runner.rundir import comparable
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths

Kind = Literal["baselines", "sizes", "axis"]
SPLITS = ("validation", "test")
FIRST = "the first"  # the name of a group in which no axis varies


@dataclass(frozen=True)
class Contrast:
    """One comparison.

    Attributes:
        place: horizon and group, naming only what varies.
        losses: mean recorded validation loss of each entry, which is known without predictions, too.
        sizes: the budgets among the entries; of an axis those that its values are averaged over.
        families: by split.
    """

    kind: Kind
    place: str
    losses: dict[str, float]
    sizes: tuple[str, ...]
    families: dict[str, Family]


def contrasts(
    paths: RunPaths, view: LedgerView, trials: Sequence[Trial], baselines: Sequence[Trial]
) -> tuple[Contrast, ...]:
    """All comparisons of a run, by ascending horizon."""
    groups = tuple(dict.fromkeys(trial.group for trial in trials))
    series: dict[tuple[int | None, Group], list[Trial]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.val_loss.value is not None and trial.n_params:
            series.setdefault((trial.horizon, trial.group), []).append(trial)
    ordered = sorted(series.items(), key=lambda item: item[0][0] or 0)
    found: list[Contrast] = []
    for (horizon, group), members in ordered:
        place = _place(horizon, group.differing(groups))
        sizes = _sizes(members)
        budgets = tuple(size.name for size in sizes)
        others = [Entry(other.group.model.replace("_", " "), ((other,),)) for other in beside(members[0], baselines)]
        families: dict[Kind, list[tuple[str, str]]] = {
            "baselines": [(size.name, other.name) for size in sizes for other in others],
            "sizes": [(large.name, small.name) for small, large in combinations(sizes, 2)],
        }
        found += _contrasts(paths, view, place, [*sizes, *others], families, budgets)
    found += _axes(paths, view, ordered, groups)
    return tuple(found)


def _place(horizon: int | None, different: str) -> str:
    return f"horizon {horizon}" + (f", {different}" if different else "")


def _sizes(members: Sequence[Trial]) -> list[Entry]:
    """One entry a budget, the smallest first."""
    by_size = sorted(members, key=lambda trial: trial.n_params or 0)
    budgets = dict.fromkeys(trial.budget for trial in by_size)
    return [Entry(budget, (tuple(trial for trial in members if trial.budget == budget),)) for budget in budgets]


def _contrasts(
    paths: RunPaths,
    view: LedgerView,
    place: str,
    entries: Sequence[Entry],
    pairs: dict[Kind, list[tuple[str, str]]],
    sizes: tuple[str, ...],
) -> Iterator[Contrast]:
    """One for each kind that has pairs; together where all can be compared, else each for itself."""
    asked = {kind: known for kind, known in pairs.items() if known}
    together = {split: compare(paths, view, entries, list(asked.values()), split) for split in SPLITS if asked}
    for number, (kind, known) in enumerate(asked.items()):
        named = {name for pair in known for name in pair}
        own = [entry for entry in entries if entry.name in named]
        families = {split: found[number] for split, found in together.items()}
        for split, family in families.items():
            if family.reason and len(own) < len(entries):
                (families[split],) = compare(paths, view, own, [known], split)
        yield Contrast(kind, place, {entry.name: _recorded(entry) for entry in own}, sizes, families)


def _recorded(entry: Entry) -> float:
    cells = [[trial.val_loss.value or 0.0 for trial in cell] for cell in entry.cells]
    return sum(sum(cell) / len(cell) for cell in cells) / len(cells)


def _axes(
    paths: RunPaths,
    view: LedgerView,
    ordered: Sequence[tuple[tuple[int | None, Group], list[Trial]]],
    groups: tuple[Group, ...],
) -> Iterator[Contrast]:
    """Groups that answer one question and differ in what the model is or is given, each against the first of them."""
    asked: dict[tuple[int | None, str], list[tuple[Group, list[Trial]]]] = {}
    for (horizon, group), members in ordered:
        question = comparable.identity(view.cells[members[0].key].cell.spec, comparable.INPUTS)
        asked.setdefault((horizon, question), []).append((group, members))
    partitions = [place for place in asked.items() if len(place[1]) > 1]
    for (horizon, _), found in partitions:
        own = tuple(group for group, _ in found)
        budgets = [{trial.budget for trial in members} for _, members in found]
        shared = [size.name for size in _sizes(found[0][1]) if all(size.name in one for one in budgets)]
        names = _names(own)
        place = _place(horizon, ", ".join(_common_words(own, groups)))
        if not shared:
            reason = Family(reason="no size is common to all of them")
            yield Contrast("axis", place, dict.fromkeys(names, 0.0), (), {"validation": reason})
            continue
        entries = [
            Entry(name, tuple(size.cells[0] for size in _sizes(members) if size.name in shared))
            for name, (_, members) in zip(names, found, strict=True)
        ]
        pairs = [(entry.name, entries[0].name) for entry in entries[1:]]
        yield from _contrasts(paths, view, place, entries, {"axis": pairs}, tuple(shared))


def _names(own: tuple[Group, ...]) -> list[str]:
    """Each group by what varies among them; numbered where their words are the same."""
    words = [group.differing(own) or FIRST for group in own]
    return [f"{word} ({number})" if words.count(word) > 1 else word for number, word in enumerate(words, 1)]


def _common_words(own: tuple[Group, ...], groups: tuple[Group, ...]) -> list[str]:
    """What all groups of a comparison share, of what varies in the run."""
    common = set.intersection(*(set(group.axes) for group in own))
    varying = {name for name, _ in common if len({dict(group.axes).get(name) for group in groups}) > 1}
    return [f"{name} {value}" for name, value in sorted(common) if name in varying]
