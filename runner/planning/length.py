"""How long a trial trains, from what a sweep asks: epochs, or optimizer steps where the length is no whole epochs."""

from collections.abc import Callable
from typing import NamedTuple

from trainables.errors import ConfigError, Problem
from trainables.schema import MAX_EPOCHS, SizeRule, TrainingSpec


class Length(NamedTuple):
    """Epochs and steps as `ResolvedTraining` has them, and why the length cannot be had, or an empty text."""

    epochs: int
    steps: int | None = None
    infeasible: str = ""


def at(value: float | SizeRule, target: int) -> float:
    """A number, or a rule of the size at a budget of `target` parameters."""
    return value.value(target) if isinstance(value, SizeRule) else value


def of(
    spec: TrainingSpec, target: int, *, global_batch: int, n_train: int, flop_per_window: Callable[[], float | None]
) -> Length:
    """The length of a trial of `target` parameters over `n_train` training windows.

    A length that is a number of whole epochs is that number, whatever it is given in: equal trials have equal keys.

    Raises:
        ConfigError: it is given in flops, and the model's arithmetic cannot be counted.
    """
    measure, value = ("epochs", spec.epochs) if spec.length is None else spec.length.given
    asked = at(value, target)
    if measure == "epochs":
        return Length(max(1, round(asked)))
    batch = min(global_batch, n_train)
    if measure == "flops":
        per_window = flop_per_window()
        if per_window is None:
            message = "the arithmetic of this architecture cannot be counted, so that a length in flops means nothing"
            raise ConfigError(Problem(place="training.length.flops", message=message, fix="give steps or samples"))
        asked /= per_window
    steps = asked if measure == "steps" else asked / batch
    if steps < 1:
        short = f"training.length.{measure} {at(value, target):g} is less than one step of {batch} windows"
        return Length(1, 1, short)
    steps, per_epoch = round(steps), n_train // batch
    epochs = -(-steps // per_epoch)
    if epochs > MAX_EPOCHS:
        return Length(1, 1, f"training.length.{measure} {at(value, target):g} is over {MAX_EPOCHS:,} epochs")
    return Length(epochs, None if steps % per_epoch == 0 else steps)
