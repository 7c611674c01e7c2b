"""Comparisons in sentences. What they say follows the paired interval: 'beats' only where it excludes 0."""

from collections.abc import Iterator, Sequence

from runner.report.analysis.contrasts import Contrast
from runner.report.analysis.paired import Difference, Family
from runner.report.tables import Column, ReportTable
from runner.report.wording import NONE, count, joined, number, plural

_NAMED = 4


def comparison_sentences(contrasts: Sequence[Contrast]) -> Iterator[str]:
    """What a reader should know before any curve: one sentence a comparison, on validation."""
    say = {"baselines": _baselines, "sizes": _sizes, "axis": _axis}
    for one in contrasts:
        note = f" ({one.note})" if one.note else ""
        yield f"{one.place[:1].upper()}{one.place[1:]}: {say[one.kind](one, one.families['validation'])}{note}."


def _baselines(one: Contrast, family: Family) -> str:
    """The best size against the best baseline."""
    others = [name for name in one.losses if name not in one.sizes]
    best, rival = min(one.sizes, key=one.losses.__getitem__), min(others, key=one.losses.__getitem__)
    losses = f"{number(one.losses[best], 4)} against {number(one.losses[rival], 4)} nats"
    if not family.differences:
        return (
            f"the best size, {best}, has {losses} of the best baseline, '{rival}'; which is better cannot be decided "
            f"without a paired interval: {family.reason}"
        )
    found = family.between(best, rival)
    shown = f"{losses}, a difference of {_interval(found)}"
    beaten = [pair for pair in family.differences if pair.first == best]
    if found.lower and all(pair.lower for pair in beaten):
        return f"the best size, {best}, beats every baseline, the best of which is '{rival}': {shown}"
    if found.lower:
        names = joined([f"'{pair.second}'" for pair in beaten if not pair.lower])
        return (
            f"the best size, {best}, beats the best baseline, '{rival}', and cannot be distinguished from {names}: "
            f"{shown}"
        )
    if found.higher:
        every = all(pair.higher for pair in family.differences if pair.second == rival)
        beaten_sizes = "every" if every else "the best"
        return f"the baseline '{rival}' beats {beaten_sizes} size, the best of which is {best}: {shown}"
    return f"the best size, {best}, and the best baseline, '{rival}', cannot be distinguished: {shown}{_few(found)}"


def _sizes(one: Contrast, family: Family) -> str:
    """Which sizes can be distinguished from which."""
    n = len(one.losses)
    if not family.differences:
        return f"whether its {n} sizes differ cannot be decided without paired intervals: {family.reason}"
    known = [pair for pair in family.differences if pair.lower or pair.higher]
    largest = max(family.differences, key=lambda pair: abs(pair.value))
    if not known:
        what = "the two sizes cannot" if n == 2 else f"no two of the {n} sizes can"
        text = f"{what} be distinguished: the largest difference, {largest.first} less {largest.second}, is "
        return f"{text}{_interval(largest)} nats{_few(largest)}"
    known.sort(key=lambda pair: -abs(pair.value))
    named = joined([f"{pair.first} less {pair.second} is {_interval(pair)}" for pair in known[:_NAMED]])
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    total = len(family.differences)
    rest = f"; the other {plural(total - len(known), 'pair')} cannot be distinguished" if total > len(known) else ""
    return f"of {plural(total, 'pair')} of sizes {len(known)} can be distinguished: {named}{more} nats{rest}"


def _axis(one: Contrast, family: Family) -> str:
    """Values of an axis against its first value."""
    first = next(iter(one.losses))
    if not family.differences:
        names = joined([name for name in one.losses if name != first][:_NAMED])
        return f"{names} and {first} are not compared: {family.reason}"
    shown = []
    for pair in family.differences[:_NAMED]:
        word = "better" if pair.lower else "worse" if pair.higher else "cannot be distinguished"
        shown.append(f"{pair.first} less {pair.second} is {_interval(pair)} nats ({word}{_few(pair)})")
    more = len(family.differences) - _NAMED
    rest = f", and {more} more in the table of paired differences" if more > 0 else ""
    where = f"mean over {joined(list(one.sizes))}, on {_windows(family)}"
    return f"{joined(shown)}{rest}; {where}"


def _windows(family: Family) -> str:
    if len(family.of) < 2:
        return f"{count(family.windows)} validation windows"
    judged = joined([count(one) for one in family.of])
    return f"the {count(family.windows)} validation windows that all of them share (of {judged})"


def _interval(pair: Difference) -> str:
    low, high = (number(end, 4, signed=True) for end in (pair.low, pair.high))
    return f"{number(pair.value, 4, signed=True)} [{low}, {high}]"


def _few(pair: Difference) -> str:
    return "" if pair.enough_seeds else "; a size has a single seed, and no interval of one covers others"


def differences_table(contrasts: Sequence[Contrast]) -> ReportTable:
    """Every pair on both splits."""
    columns = (
        Column("where"), Column("split"), Column("loss of"), Column("less that of"),
        Column("difference (nats)", "number"), Column("95 %, all pairs together", "number"),
        Column("95 %, this pair alone", "number"), Column("windows", "number"), Column("says"),
    )  # fmt: skip
    rows = [
        row for one in contrasts for split, family in one.families.items() for row in _rows(one.place, split, family)
    ]
    return ReportTable("Paired differences", columns, tuple(rows))


def _rows(place: str, split: str, family: Family) -> Iterator[tuple[str, ...]]:
    for pair in family.differences:
        word = "lower" if pair.lower else "higher" if pair.higher else "cannot be distinguished"
        ends = [number(end, 4, signed=True) for end in (pair.low, pair.high, *pair.alone)]
        yield (
            place,
            split,
            pair.first,
            pair.second,
            number(pair.value, 4, signed=True),
            f"[{ends[0]}, {ends[1]}]",
            f"[{ends[2]}, {ends[3]}]",
            count(family.windows) + (" (common)" if len(family.of) > 1 else ""),
            word if pair.enough_seeds else f"{word} (one seed)",
        )
    if family.reason:
        yield place, split, NONE, NONE, NONE, NONE, NONE, NONE, family.reason
