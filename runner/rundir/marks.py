"""Checks of a trial after its end: what must be known before its loss or its rate is compared with another's.

A mark never removes a result. Which trials a verdict leaves out is decided in `runner.report.analysis.verdict`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from runner.rundir.ledger import CellState
from trainables.schema import BUDGET_TOLERANCE, COLLAPSED_SPREAD, parse_budget

MarkName = Literal[
    "collapsed", "squashed outputs", "diverged", "under-trained", "over-fitted", "off budget", "throughput distorted"
]

# Over-fitting shows in two ways, and both limits are our choice. At the best weights: skill on training windows less
# skill on validation windows (in the quickstart it is below 0). Past them: what validation lost again until the last
# epoch, as a share of the prior's loss (in the quickstart up to 0.02 at horizon 1, up to 0.08 at horizon 5).
MAX_SKILL_GAP = 0.10
MAX_RISE = 0.05
# Share of a trial's time in rests that protection asked for. Above it the device had time to cool between steps, and
# the rate is that of another, cooler machine than its neighbours ran on.
MAX_RESTED_SHARE = 0.10


@dataclass(frozen=True)
class Mark:
    """One remarkable outcome of one trial, with the numbers that earned it."""

    name: MarkName
    reason: str


def marks(state: CellState) -> tuple[Mark, ...]:
    """All marks of a trial whose latest attempt has ended; of baselines only those on their outputs."""
    return tuple(_marks(state)) if state.ended is not None else ()


def _marks(state: CellState) -> Iterator[Mark]:
    assert state.ended is not None
    status, result = state.ended.status, state.ended.result
    if status == "diverged":
        yield Mark("diverged", state.ended.reason)
    if result.get("collapsed"):
        yield Mark("collapsed", _why_collapsed(result))
    if result.get("val_squashed"):
        yield Mark("squashed outputs", "all outputs lie between 0 and 1, and their mean is not that of the labels")
    if state.cell.cell_kind != "model":
        return
    if (reason := _off_budget(state)) is not None:
        yield Mark("off budget", reason)
    if status == "finished":
        yield from _of_training(state, result)
        yield from _of_rests(result)


def _why_collapsed(result: dict[str, Any]) -> str:
    spread, low, high = (result.get(name) for name in ("val_spread", "skill_low", "skill_high"))
    if spread is not None and spread < COLLAPSED_SPREAD:
        return f"the predictions' standard deviation is {spread:.4f}, below {COLLAPSED_SPREAD:g}"
    if low is not None and high is not None and high < 0:
        return f"the interval of the skill, [{low:+.3f}, {high:+.3f}], is wholly below 0"
    return ""


def _off_budget(state: CellState) -> str | None:
    budget, n_params = state.cell.labels.get("budget"), state.cell.n_params
    if budget is None or n_params is None:
        return None
    off = n_params / parse_budget(budget) - 1
    if abs(off) <= BUDGET_TOLERANCE:
        return None
    return f"{n_params:,} parameters are {100 * off:+.1f} % off {budget}, more than {100 * BUDGET_TOLERANCE:g} %"


def _of_training(state: CellState, result: dict[str, Any]) -> Iterator[Mark]:
    best, epochs = result.get("best_epoch"), result.get("epochs")
    if best is not None and best == epochs:
        yield Mark("under-trained", f"the best epoch is the last, {best} of {epochs}")
    reasons = [reason for reason in (_skill_gap(result), _rise(state, result)) if reason]
    if reasons:
        yield Mark("over-fitted", "; ".join(reasons))


def _skill_gap(result: dict[str, Any]) -> str:
    train, validation = result.get("train_skill"), result.get("skill")
    if train is None or validation is None or train - validation <= MAX_SKILL_GAP:
        return ""
    told = f"{100 * train:.1f} % in training, {100 * validation:.1f} % in validation"
    return f"the skill is {told}: a gap of more than {100 * MAX_SKILL_GAP:g} points"


def _rise(state: CellState, result: dict[str, Any]) -> str:
    curve = [loss for _, values in sorted(state.metrics.items()) if (loss := values.get("val_loss")) is not None]
    prior = result.get("prior_loss")
    rise = (curve[-1] - min(curve)) / prior if curve and prior else 0.0
    if rise <= MAX_RISE:
        return ""
    told = f"{100 * rise:.1f} % of the prior's, more than {100 * MAX_RISE:g} %"
    return f"after epoch {result.get('best_epoch')} of {result.get('epochs')} its validation loss rose by {told}"


def _of_rests(result: dict[str, Any]) -> Iterator[Mark]:
    held, throttled, trained = (result.get(f"{what}_seconds") or 0.0 for what in ("held", "throttled", "train"))
    rested = held + throttled
    if trained and rested / (rested + trained) > MAX_RESTED_SHARE:
        share = 100 * rested / (rested + trained)
        yield Mark(
            "throughput distorted",
            f"{share:.0f} % of its time was held or throttled ({rested:.0f} s beside {trained:.0f} s of training)",
        )
