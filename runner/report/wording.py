"""Numbers and counts in words: sensible digits, units, singular and plural."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from runner.report.analysis.collect import RunProgress
from runner.report.analysis.trials import Estimate, Group, Trial
from runner.report.analysis.tuning import Tuning
from runner.report.analysis.verdict import SeriesVerdict
from runner.rundir import comparable
from runner.scaling.verdict import MIN_SIZES

NONE = "\N{EN DASH}"
_OFF_BUDGET = 0.02  # a model's size may differ so much from its budget
_MINUS = "\N{MINUS SIGN}"


def number(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """Fixed decimals with a true minus sign; a dash where unknown."""
    if value is None:
        return NONE
    rounded = round(value, decimals) + 0.0  # no minus before a zero
    return f"{rounded:{'+' if signed else ''}.{decimals}f}".replace("-", _MINUS)


def true_minus(text: str) -> str:
    """A sentence with minus signs where hyphens precede digits, as in ``[-0.02``."""
    return re.sub(r"(?<![\w-])-(?=\d)", _MINUS, text)


def estimate(value: Estimate, decimals: int, *, signed: bool = False, scale: float = 1.0) -> str:
    """``0.5412 [0.5230, 0.5601]``; without brackets where the interval is unknown."""
    if value.value is None:
        return NONE
    text = number(value.value * scale, decimals, signed=signed)
    if value.low is None or value.high is None:
        return text
    low, high = (number(end * scale, decimals, signed=signed) for end in (value.low, value.high))
    return f"{text} [{low}, {high}]"


def count(value: int | None) -> str:
    """A whole number with thousands separated by commas."""
    return NONE if value is None else f"{value:,}"


def rate(value: float | None) -> str:
    """Three significant digits, never in exponent form."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(n_params: float) -> str:
    """A number of parameters as budgets are spelled: ``50k``, ``1m``, ``2b``; three digits where it is none of those.

    A model within 2 % of a budget counts as that budget, as it does where it is built.
    """
    for limit, suffix in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if n_params >= limit * (1 - _OFF_BUDGET):
            return f"{_budget(n_params / limit):.3g}{suffix}"
    return f"{n_params:.0f}"


def _budget(value: float) -> float:
    """The value itself, or one of fewer digits that it is 2 % from at the most."""
    near = (float(f"{value:.{digits}g}") for digits in (1, 2))
    return next((one for one in near if abs(one / value - 1) <= _OFF_BUDGET), value)


def duration(seconds: float | None) -> str:
    """The two largest units: ``0.8 s``, ``1 min 23 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, part, part_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // part:02d} {part_name}"
    return f"{whole} s"


def moment(time: datetime | None) -> str:
    """Date and time in UTC, to the second."""
    return NONE if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def plural(n: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def joined(parts: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def distinct_sizes(trials: tuple[Trial, ...]) -> tuple[int, ...]:
    """Numbers of distinct sizes in each series of comparable finished trials, ascending; a single 0 without any."""
    series: dict[tuple[int | None, Group], set[int]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.n_params is not None:
            series.setdefault((trial.horizon, trial.group), set()).add(trial.n_params)
    return tuple(sorted(len(sizes) for sizes in series.values())) or (0,)


def sizes_note(trials: tuple[Trial, ...]) -> str:
    """Why no fit is in a figure of these trials."""
    fewest = distinct_sizes(trials)[0]
    if fewest >= MIN_SIZES:
        return f"No curve is drawn through the {fewest} sizes: none was identified, and none should be read into them."
    return (
        f"No fit is drawn: {plural(fewest, 'distinct size')} cannot identify a scaling law "
        f"(at least {MIN_SIZES} are needed)."
    )


def panels_note(trials: Iterable[Trial]) -> tuple[str, ...]:
    """What keeps losses in different panels of a figure from being compared; empty where nothing does."""
    known = list(trials)
    if len({comparable.question(trial.group.asked) for trial in known}) > 1:
        return ("Panels with other data, splits or another task ask different questions: compare within a panel.",)
    windows: dict[int | None, set[int]] = {}
    for trial in known:
        windows.setdefault(trial.horizon, set()).update(() if trial.n_val is None else (trial.n_val,))
    for numbers in windows.values():
        if len(numbers) > 1:
            ends = f"{min(numbers):,} to {max(numbers):,}"
            return (f"Panels were judged on different windows ({ends}): the paired differences use those in common.",)
    return ()


def partial_notice(progress: RunProgress) -> str:
    """What is missing, or an empty text for a complete run."""
    if progress.complete:
        return ""
    if not progress.cells:
        return "This report is empty: no sweep has been started in this run directory."
    state = "The driver ended before the grid was done" if progress.closed else "The sweep runs, or was cut off"
    return (
        f"This report is partial: {progress.ended} of {progress.cells} cells have ended. {state}; "
        f"everything below may change."
    )


def summary(trials: tuple[Trial, ...], cells: int) -> tuple[str, ...]:
    """What came of the trials, in sentences after the verdict; none for an empty grid."""
    if not cells:
        return ()
    finished = [trial for trial in trials if trial.status == "finished"]
    statuses = Counter(trial.status for trial in trials)
    waiting = cells - len(trials)
    others = [f"{n} {_STATUS_WORDS[status]}" for status, n in statuses.items() if status != "finished"]
    others += [f"{waiting} not recorded yet"] if waiting else []
    head = f"{len(finished)} of {plural(cells, 'trial')} finished" + (f" ({joined(others)})" if others else "") + "."
    return (head, *([_skill_sentence(finished)] if finished else []))


def answer(verdicts: Sequence[SeriesVerdict], tuning: Tuning) -> str:
    """All verdicts in one line, with what speaks against reading them as an effect of size; empty without any."""
    if not verdicts:
        return ""
    whole = len(verdicts)
    everywhere = {1: "", 2: " in both series"}.get(whole, f" in all {whole} series")

    def shared(found: Sequence[str]) -> str:
        counts = Counter(found)
        if len(counts) == 1:
            return found[0] + everywhere
        return ", ".join(f"{word} in {n} of {whole}" for word, n in counts.most_common())

    loss = shared([one.direction for one in verdicts])
    form = shared([one.form.removeprefix("form ") for one in verdicts])
    against = [*(["untuned"] if tuning.untuned else []), *(["recipe, not size"] if tuning.recipe else [])]
    doubt = f" ({'; '.join(against)})" if against else ""
    return f"Loss with size: {loss}{doubt}. Form: {form}."


_STATUS_WORDS = {
    "diverged": "diverged",
    "infeasible": "infeasible",
    "pruned": "pruned",
    "failed": "failed",
    "out_of_memory": "out of memory",
    "thermal_stop": "stopped by temperature",
    "interrupted": "interrupted",
    "unfinished": "unfinished",
    "waiting": "waiting",
}


def _skill_sentence(finished: list[Trial]) -> str:
    intervals = [
        (trial.skill.low, trial.skill.high)
        for trial in finished
        if trial.skill.low is not None and trial.skill.high is not None
    ]
    above = sum(low > 0 for low, _ in intervals)
    below = sum(high < 0 for _, high in intervals)
    counts = [
        (above, "above 0"),
        (len(intervals) - above - below, "around 0 (no better or worse than the prior, as far as the data show)"),
        (below, "below 0"),
    ]
    text = "Skill over the prior on validation data, by its 95 % interval: "
    text += joined([f"{plural(n, 'trial')} {where}" for n, where in counts if n] or ["no trial has one"])
    collapsed = sum(trial.collapsed for trial in finished)
    return text + (f"; {collapsed} of the finished trials collapsed." if collapsed else ".")
