"""Columns that are used as given: a source's own, and series of a context."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from trainables.schema.common import Spec

ColumnKind = Literal["level", "range", "flow", "percent", "share", "change", "as is"]
GapRule = Literal["refuse", "mask"] | Annotated[int, Field(ge=1, le=10_000)]


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class GivenSpec(Spec):
    """Columns that are used as they are. Keys of `kind` and `gaps` are column names; '*' says it of all others."""

    columns: Names = Field(("*",), description="names of numeric columns; '*' = all that nothing else is read from")
    kind: dict[str, ColumnKind] = Field({}, description="what a column's unit is; unset: found out from its values")
    lag: int = Field(0, ge=0, le=10_000, description="rows by which the columns are moved back in time")
    gaps: dict[str, GapRule] = Field(
        {}, description="missing values after a column's first: refuse (default), a number of bars to fill, or mask"
    )


class FeaturesSpec(GivenSpec):
    """The source's own columns as features, with those of the tier."""


class ContextSpec(GivenSpec):
    """A series that all assets see: joined as of each bar, from rows that were published by then."""

    source: str = Field(description="a file of dates and numbers, or a source of bars")
    columns: Names = Field(("close",), description="names of its columns; '*' = all numeric ones")
    date: str | None = Field(None, description="name of the column of dates; unset: by its name, else the first")
    published: str | None = Field(None, description="name of a column with the day each row was published")
    delay_days: float = Field(1.0, ge=0, le=3650, description="days after its date until a row is known")
    max_age_days: float | None = Field(None, gt=0, description="a value older than that counts as missing; null = none")
