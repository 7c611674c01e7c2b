"""What the fits of one series agree on: the direction of the loss with size, then its form.

Validation leads; test must say the same, and so must both without unsound trials. What does not hold everywhere is not
said. ``benchmarks/false_laws.py`` measures how often this is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from runner.scaling import Fit
from runner.scaling.direction import UNKNOWN, Direction
from runner.scaling.verdict import NO_FORM, NOT_IDENTIFIABLE, Verdict

SPLITS = ("validation", "test")
ALL, SOUND = "all trials", "without collapsed or squashed trials"

T = TypeVar("T")
Each = Mapping[tuple[str, str], T]  # by (split, which trials); the first is validation's, of all trials


@dataclass(frozen=True)
class Agreement:
    """Verdict, direction and form of a series, with the reason of each of the latter two."""

    verdict: str
    direction: str
    form: str
    direction_reason: str
    form_reason: str


def agree(directions: Each[Direction], verdicts: Each[Verdict], *, any_unsound: bool) -> Agreement:
    """What holds on both splits and, where there are unsound trials, also without them."""
    first, judged = next(iter(directions.values())), next(iter(verdicts.values()))
    wanted = [(split, which) for split in SPLITS for which in ((ALL, SOUND) if any_unsound else (ALL,))]
    missing = [f"{split}, {which}: there is none with such a loss" for split, which in wanted]
    missing = [text for key, text in zip(wanted, missing, strict=True) if key not in directions]
    differing = missing + [
        f"{split}, {which}: {one.words} ({one.reason})"
        for (split, which), one in directions.items()
        if one.word != first.word
    ]
    if differing and first.word != UNKNOWN:
        reason = f"validation says '{first.word}', but it does not hold elsewhere; {differing[0]}"
        return Agreement(NOT_IDENTIFIABLE, UNKNOWN, NO_FORM, reason, "without a direction no law is looked for")
    form, form_reason = judged.form, judged.reason
    differing = missing + [
        f"{split}, {which}: {one.form} ({one.reason})" for (split, which), one in verdicts.items() if one.form != form
    ]
    if form != NO_FORM and differing:
        form_reason = f"validation says '{form}' ({form_reason}), but it does not hold elsewhere; {differing[0]}"
        form = NO_FORM
    elif form != NO_FORM:
        form_reason += "; it holds on test" + (f" and {SOUND}" if any_unsound else "")
    words = {one.word for one in verdicts.values()}
    verdict = words.pop() if len(words) == 1 and not missing else NOT_IDENTIFIABLE
    return Agreement(verdict, first.word, form, first.reason, form_reason)


def law_in_words(fit: Fit) -> str:
    """The law with its intervals, and how well it predicts the largest size and compute."""
    numbers = ", ".join(
        f"{name} = {value:.4g} [{fit.intervals[name][0]:.4g}, {fit.intervals[name][1]:.4g}]"
        for name, value in fit.parameters.items()
        if name in ("E", "alpha", "beta")
    )
    held_out = "".join(
        f"; fitted without the largest {what}, it misses the loss there by {100 * held.relative_error:+.2f} %"
        for what, held in (("size", fit.extrapolation), ("compute", fit.compute_extrapolation))
        if held is not None
    )
    return f"{fit.form} with {numbers}{held_out}"
