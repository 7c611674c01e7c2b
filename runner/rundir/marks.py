"""Checks of a trial after its end: what must be known before its loss or its rate is compared with another's.

A mark never removes a result. Which trials a verdict leaves out is decided in `runner.report.analysis.verdict`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

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
# What twice the steps would gain, as a share of the prior's loss: the margin of 'flat'. It is read where the learning
# rate is still high, as a longer run would stay there for longer; the decay's own gain comes in any run.
MAX_GAIN = 0.01
HIGH_RATE = 0.5  # of the peak
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
    rise = _rise(state, result)
    if not rise and (reason := _still_falling(state, result)):
        yield Mark("under-trained", reason)
    reasons = [reason for reason in (_skill_gap(result), rise) if reason]
    if reasons:
        yield Mark("over-fitted", "; ".join(reasons))


def _still_falling(state: CellState, result: dict[str, Any]) -> str:
    """How fast the validation loss fell at a high rate, over the last doubling of the steps before the decay."""
    rows = [(step, values.get("lr"), values.get("val_loss")) for step, values in sorted(state.metrics.items())]
    known = [(step, rate, loss) for step, rate, loss in rows if rate and loss is not None]
    prior = result.get("prior_loss")
    if not known or not prior:
        return ""
    peak = max(rate for _, rate, _ in known)
    warmed = next(index for index, (_, rate, _) in enumerate(known) if rate == peak)
    high = [(step, loss) for step, rate, loss in known[warmed:] if rate >= HIGH_RATE * peak]
    last = high[-1][0]
    steps, losses = np.array([(step, loss) for step, loss in high if 2 * step >= last]).T
    if len(steps) < 3:  # two evaluations do not tell a slope from noise
        return ""
    gain = -float(np.polyfit(np.log2(steps), losses, 1)[0]) / prior
    if gain <= MAX_GAIN:
        return ""
    return (
        f"at a high learning rate (steps {steps[0]:.0f} to {last}) its validation loss fell by {100 * gain:.1f} % of "
        f"the prior's for twice the steps, more than {100 * MAX_GAIN:g} %"
    )


def _skill_gap(result: dict[str, Any]) -> str:
    train, validation = result.get("train_skill"), result.get("skill")
    if train is None or validation is None or train - validation <= MAX_SKILL_GAP:
        return ""
    shown = f"{100 * train:.1f} % in training, {100 * validation:.1f} % in validation"
    return f"the skill is {shown}: a gap of more than {100 * MAX_SKILL_GAP:g} points"


def _rise(state: CellState, result: dict[str, Any]) -> str:
    curve = [loss for _, values in sorted(state.metrics.items()) if (loss := values.get("val_loss")) is not None]
    prior = result.get("prior_loss")
    rise = (curve[-1] - min(curve)) / prior if curve and prior else 0.0
    if rise <= MAX_RISE:
        return ""
    shown = f"{100 * rise:.1f} % of the prior's, more than {100 * MAX_RISE:g} %"
    return f"after epoch {result.get('best_epoch')} of {result.get('epochs')} its validation loss rose by {shown}"


def _of_rests(result: dict[str, Any]) -> Iterator[Mark]:
    held, throttled, limited, trained = (
        result.get(f"{what}_seconds") or 0.0 for what in ("held", "throttled", "limited", "train")
    )
    rested = held + throttled
    if trained and rested / (rested + trained) > MAX_RESTED_SHARE:
        share = 100 * rested / (rested + trained)
        yield Mark(
            "throughput distorted",
            f"{share:.0f} % of its time was held or throttled ({rested:.0f} s against {trained:.0f} s of training)",
        )
    elif trained and limited / trained > MAX_RESTED_SHARE:
        yield Mark("throughput distorted", f"for {limited:.0f} of {trained:.0f} s its power limit was lowered")
