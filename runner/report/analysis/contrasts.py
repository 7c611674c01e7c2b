"""What a report compares: sizes with baselines, sizes with one another, and values of an axis with its first value.

Everything in a comparison has one data and task (`runner.rundir.comparable`); each has a paired interval from
predictions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from runner.report.analysis.folds import FOLD, without_fold
from runner.report.analysis.paired import Entry, Family, Source, compare, compare_folds
from runner.report.analysis.trials import Group, Trial
from runner.report.analysis.verdict import beside
from runner.rundir import comparable
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths

Kind = Literal["baselines", "sizes", "axis"]
SPLITS = ("validation", "test")
OVERLAP = "the training spans overlap, and folds count as independent: the intervals are a little too narrow"
FIRST = "the first"  # the name of a group in which no axis varies


@dataclass(frozen=True)
class Contrast:
    """One comparison.

    Attributes:
        place: horizon and group, naming only what varies.
        losses: mean recorded validation loss of each entry, which is known without predictions, too.
        sizes: the budgets among the entries; of an axis those that its values are averaged over.
        families: by split.
        note: what limits it, in words.
    """

    kind: Kind
    place: str
    losses: dict[str, float]
    sizes: tuple[str, ...]
    families: dict[str, Family]
    note: str = ""


def contrasts(
    paths: RunPaths, view: LedgerView, trials: Sequence[Trial], baselines: Sequence[Trial]
) -> tuple[Contrast, ...]:
    """All comparisons of a run, by ascending horizon."""
    source = Source(paths, view)
    groups = tuple(dict.fromkeys(trial.group for trial in trials))
    ordered = series_of(trials)
    found: list[Contrast] = []
    for (horizon, group), members in ordered:
        place = place_of(horizon, group.differing(groups))
        sizes, others = sizes_of(members, source), _baselines_of(members, baselines, source)
        found += _contrasts(place, [*sizes, *others], _pairs(sizes, others), tuple(size.name for size in sizes))
    found += _axes(source, ordered, groups)
    found += _over_folds(source, ordered, groups, baselines)
    return tuple(found)


def _baselines_of(members: Sequence[Trial], baselines: Sequence[Trial], source: Source) -> list[Entry]:
    return [Entry(other.group.model.replace("_", " "), ((other,),), source) for other in beside(members[0], baselines)]


def _pairs(sizes: Sequence[Entry], others: Sequence[Entry]) -> dict[Kind, list[tuple[str, str]]]:
    return {
        "baselines": [(size.name, other.name) for size in sizes for other in others],
        "sizes": [(large.name, small.name) for small, large in combinations(sizes, 2)],
    }


def series_of(trials: Sequence[Trial]) -> list[tuple[tuple[int | None, Group], list[Trial]]]:
    """Finished trials by horizon and group, horizons ascending."""
    series: dict[tuple[int | None, Group], list[Trial]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.val_loss.value is not None and trial.n_params:
            series.setdefault((trial.horizon, trial.group), []).append(trial)
    return sorted(series.items(), key=lambda item: item[0][0] or 0)


def place_of(horizon: int | None, different: str) -> str:
    """A series in words: its horizon, and what tells it from the others."""
    return f"horizon {horizon}" + (f", {different}" if different else "")


def sizes_of(members: Sequence[Trial], source: Source) -> list[Entry]:
    """One entry per budget, the smallest first."""
    by_size = sorted(members, key=lambda trial: trial.n_params or 0)
    budgets = dict.fromkeys(trial.budget for trial in by_size)
    return [Entry(budget, (tuple(trial for trial in members if trial.budget == budget),), source) for budget in budgets]


def _contrasts(
    place: str,
    entries: Sequence[Entry],
    pairs: dict[Kind, list[tuple[str, str]]],
    sizes: tuple[str, ...],
) -> Iterator[Contrast]:
    """One for each kind that has pairs; together where all can be compared, else each for itself."""
    asked = {kind: known for kind, known in pairs.items() if known}
    together = {split: compare(entries, list(asked.values()), split) for split in SPLITS if asked}
    for number, (kind, known) in enumerate(asked.items()):
        named = {name for pair in known for name in pair}
        own = [entry for entry in entries if entry.name in named]
        families = {split: found[number] for split, found in together.items()}
        for split, family in families.items():
            if family.reason and len(own) < len(entries):
                (families[split],) = compare(own, [known], split)
        yield Contrast(kind, place, {entry.name: _recorded(entry) for entry in own}, sizes, families)


def _over_folds(
    source: Source,
    ordered: Sequence[tuple[tuple[int | None, Group], list[Trial]]],
    groups: tuple[Group, ...],
    baselines: Sequence[Trial],
) -> Iterator[Contrast]:
    """Sizes with baselines and with one another, by the mean over the folds of a series."""
    sets: dict[tuple[int | None, Group], list[list[Trial]]] = {}
    for (horizon, group), members in ordered:
        if FOLD in dict(group.axes):
            sets.setdefault((horizon, without_fold(group)), []).append(members)
    rest = tuple({without_fold(group) for group in groups})
    for (horizon, group), folds in sets.items():
        each = [(sizes_of(members, source), _baselines_of(members, baselines, source)) for members in folds]
        common = set.intersection(*({entry.name for entry in (*sizes, *others)} for sizes, others in each))
        kept = [[[entry for entry in part if entry.name in common] for part in both] for both in each]
        pairs = {kind: known for kind, known in _pairs(*kept[0]).items() if known} if len(folds) > 1 else {}
        entries = [[*sizes, *others] for sizes, others in kept]
        found = {split: compare_folds(entries, list(pairs.values()), split) for split in SPLITS if pairs}
        place = f"{place_of(horizon, group.differing(rest))}, {len(folds)} folds as one"
        budgets = tuple(size.name for size in kept[0][0])
        for number, (kind, known) in enumerate(pairs.items()):
            named = [entry.name for entry in entries[0] if any(entry.name in pair for pair in known)]
            losses = {
                name: sum(_recorded(entry) for fold in entries for entry in fold if entry.name == name) / len(entries)
                for name in named
            }
            families = {split: one[number] for split, one in found.items()}
            yield Contrast(kind, place, losses, budgets, families, OVERLAP)


def _recorded(entry: Entry) -> float:
    cells = [[trial.val_loss.value or 0.0 for trial in cell] for cell in entry.cells]
    return sum(sum(cell) / len(cell) for cell in cells) / len(cells)


def _axes(
    source: Source,
    ordered: Sequence[tuple[tuple[int | None, Group], list[Trial]]],
    groups: tuple[Group, ...],
) -> Iterator[Contrast]:
    """Groups that answer one question and differ in what the model is or is given, each against the first of them."""
    asked: dict[tuple[int | None, str], list[tuple[Group, list[Trial]]]] = {}
    for (horizon, group), members in ordered:
        question = comparable.identity(source.view.cells[members[0].key].cell.spec, comparable.INPUTS)
        asked.setdefault((horizon, question), []).append((group, members))
    partitions = [place for place in asked.items() if len(place[1]) > 1]
    for (horizon, _), found in partitions:
        own = tuple(group for group, _ in found)
        budgets = [{trial.budget for trial in members} for _, members in found]
        shared = [size.name for size in sizes_of(found[0][1], source) if all(size.name in one for one in budgets)]
        names = _names(own)
        place = place_of(horizon, ", ".join(_common_words(own, groups)))
        if not shared:
            reason = Family(reason="no size is common to all of them")
            yield Contrast("axis", place, dict.fromkeys(names, 0.0), (), {"validation": reason})
            continue
        entries = [
            Entry(name, tuple(size.cells[0] for size in sizes_of(members, source) if size.name in shared), source)
            for name, (_, members) in zip(names, found, strict=True)
        ]
        pairs = [(entry.name, entries[0].name) for entry in entries[1:]]
        yield from _contrasts(place, entries, {"axis": pairs}, tuple(shared))


def _names(own: tuple[Group, ...]) -> list[str]:
    """Each group by what varies among them; numbered where their words are the same."""
    words = [group.differing(own) or FIRST for group in own]
    return [f"{word} ({number})" if words.count(word) > 1 else word for number, word in enumerate(words, 1)]


def _common_words(own: tuple[Group, ...], groups: tuple[Group, ...]) -> list[str]:
    """What all groups of a comparison share, of what varies in the run."""
    common = set.intersection(*(set(group.axes) for group in own))
    varying = {name for name, _ in common if len({dict(group.axes).get(name) for group in groups}) > 1}
    return [f"{name} {value}" for name, value in sorted(common) if name in varying]
