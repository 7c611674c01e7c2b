"""How initial weights and learning rates follow from a model's size: factors of each parameter, relative to a base."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Factors of one parameter; 1 is the standard parametrization.

    Attributes:
        init: of its initial values.
        lr: of its learning rate.
        weight_decay: of its weight decay, which acts in proportion to the learning rate (AdamW).
    """

    init: float = 1.0
    lr: float = 1.0
    weight_decay: float = 1.0


STANDARD = Scale()
