"""What a model shape must satisfy before a model can be built or counted."""

from trainables.errors import ConfigError, Problem
from trainables.schema import ModelShape


def problems(shape: ModelShape) -> list[Problem]:
    """All that is wrong with a shape; empty if a model can be built from it."""
    if shape.name == "mlp":
        return []  # a perceptron has neither patches nor heads nor channels
    found = []
    if shape.context % shape.patch:
        divisors = ", ".join(str(n) for n in range(1, shape.context + 1) if shape.context % n == 0)
        found.append(
            Problem(
                place="model.patch",
                message=f"a patch of {shape.patch} bars does not divide the context of {shape.context} bars",
                mend=f"use one of {divisors}, or change task.context",
            )
        )
    if shape.width % shape.heads:
        found.append(
            Problem(
                place="heads",
                message=f"{shape.heads} heads do not divide the width {shape.width}",
                mend="use a number of heads that divides the width",
            )
        )
    if shape.channels == "independent" and shape.n_window_stats % shape.n_features:
        found.append(
            Problem(
                place="model.channels",
                message=f"{shape.n_window_stats} window stats cannot be shared out to {shape.n_features} channels",
                mend="give as many stats for each feature, or use channels: mixed",
            )
        )
    return found


def require_valid(shape: ModelShape) -> None:
    """Return if a model can be built from the shape.

    Raises:
        ConfigError: with all of `problems`.
    """
    if found := problems(shape):
        raise ConfigError(found)
