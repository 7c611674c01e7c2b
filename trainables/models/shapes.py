"""Sizes of a model that a budget decides: one shape is one step of a ladder."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from trainables.schema import Spec


class Shape(Spec):
    """Base of all shapes.

    `fine` names a whole-number field in which the number of parameters is linear; the solver uses it to take up what
    lies between two steps of the ladder. Empty: the ladder's own steps must be small enough (4 % or less).
    """

    fine: ClassVar[str] = ""


class Blocks(Shape):
    """Residual blocks with a feed-forward."""

    fine: ClassVar[str] = "feed_forward"

    width: int = Field(ge=1, description="width of the residual stream")
    depth: int = Field(ge=1, description="number of blocks")
    feed_forward: int = Field(ge=1, description="inner width of a block's feed-forward")


class AttentionBlocks(Blocks):
    """Residual blocks with a feed-forward and attention."""

    heads: int = Field(ge=1, description="attention heads; a divisor of the width")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"{self.heads} heads do not divide the width {self.width}; use a number of heads that divides it"
            )
        return self
