"""The block `search` of a sweep file: which keys are searched, where, how long, and by which rule."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from trainables.schema import CountOrRule, Spec

Sampler = Literal["tpe", "random", "qmc", "grid", "gp"]
PrunerName = Literal["none", "asha", "hyperband", "median"]
SEARCH_SEED = 1_000_000  # far from the seeds that people write into grids
MAX_POINTS = 1000
MAX_KEYS = 20
LADDER_FACTOR = 3.0**6  # steps of 3; no rung is further off


class Dependent(Spec):
    """What all dimensions have."""

    when: dict[str, Any] = Field(
        {}, description="searched only where these keys have these values: choices of the space, or what the file gives"
    )


class Range(Dependent):
    """Numbers between two bounds, both included; whole numbers where the key takes nothing else."""

    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")
    log: bool = Field(False, description="even in the logarithm")
    points: int = Field(5, ge=2, le=MAX_POINTS, description="values that `sampler: grid` takes")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} is not above 0, so that it has no logarithm")
        return self


class Choices(Dependent):
    """One of several values."""

    choices: tuple[Any, ...] = Field(min_length=2, description="values of the key")

    @field_validator("choices")
    @classmethod
    def _plain_and_distinct(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if any(not isinstance(one, str | int | float | bool | None) for one in value):
            raise ValueError("choices are numbers, texts, true, false or null")
        if len({repr(one) for one in value}) != len(value):
            raise ValueError("a choice is named twice")
        return value


class Around(Dependent):
    """Numbers around the value that the sweep file has, or its rule of the size gives."""

    around: Literal["rule"] = Field(description="rule: the key's own value or rule of the size")
    factor: float = Field(10.0, gt=1, description="from the value divided by this to the value times this")
    points: int = Field(5, ge=2, le=MAX_POINTS, description="values that `sampler: grid` takes")


def _form(value: object) -> str:
    names = set(value) if isinstance(value, dict) else {type(value).__name__.lower()}
    if names & {"choices"}:
        return "<choices>"
    return "<around>" if names & {"around"} else "<range>"


Dimension = Annotated[
    Annotated[Range, Tag("<range>")] | Annotated[Choices, Tag("<choices>")] | Annotated[Around, Tag("<around>")],
    Discriminator(_form),
]


class SearchSpec(Spec):
    """Search in each combination of the grid's axes but `seed`; what it finds is confirmed with every seed."""

    space: dict[str, Dimension] = Field(
        {},
        max_length=MAX_KEYS,
        description="by dotted key: {low, high, log}, {choices: [...]} or {around: rule, factor: 10}",
    )
    ladder: tuple[str, ...] = Field(
        (),
        max_length=MAX_KEYS,
        description="in place of space: keys of which a few values in steps of 3 are tried at the smallest, the middle "
        "and the largest size that max_hours allow; all sizes then follow the rule. `search: ladder` is that of "
        "training.lr",
    )
    trials: CountOrRule = Field(20, description="trials of one study, or a rule of the size")
    sampler: Sampler = Field("tpe", description="how the next values are chosen")
    pruner: PrunerName = Field("none", description="whether trials end early that are behind others at an epoch")
    transfer: bool = Field(
        False, description="sizes above the two smallest start at what smaller ones predict, with a fifth of trials"
    )
    metric: str = Field(
        "val_loss",
        pattern=r"^(skill|selection_loss|val_[a-z0-9][a-z0-9_-]*)$",
        description="what the best trial of a study is best in: val_loss, val_auc, val_ap, val_brier, skill, "
        "selection_loss, or val_ and the name or label of one of `metrics`",
    )
    seed: int = Field(
        SEARCH_SEED, ge=0, lt=2**31, description="of the suggestions and of searched trials; none of grid.seed"
    )
    max_trials: int | None = Field(None, ge=1, description="searched trials of all studies together; null = no limit")
    max_hours: float | None = Field(
        None, gt=0, description="hours that searched trials took, added up; then the winners so far are confirmed"
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"ladder": ["training.lr"]} if value == "ladder" else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.space) == bool(self.ladder):
            raise ValueError("give one of space and ladder")
        defaults = {name: type(self).model_fields[name].default for name in ("trials", "sampler", "pruner", "transfer")}
        idle = [name for name, value in defaults.items() if self.ladder and getattr(self, name) != value]
        if idle:
            raise ValueError(f"a ladder has no {', '.join(idle)}")
        return self

    @property
    def dimensions(self) -> dict[str, Range | Choices | Around]:
        """The searched keys with their ranges; those of a ladder are far wider than it."""
        return dict(self.space) or {dotted: Around(around="rule", factor=LADDER_FACTOR) for dotted in self.ladder}
