"""The block `data` of a sweep file."""

import json
import re
from datetime import date
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from trainables.schema.common import INTRADAY, NamedPart, Representation, Scaling, Spec, Timescale, is_number
from trainables.schema.given import ContextSpec, FeaturesSpec

_FractionOrDate = Discriminator(lambda value: "<fraction>" if is_number(value) else "<date>")
Bound = Annotated[Annotated[float, Tag("<fraction>")] | Annotated[date, Tag("<date>")], _FractionOrDate]


class SplitSpec(Spec):
    """Chronological splits: fractions of the time axis, or the last date of each split (inclusive).

    With ``folds`` above 1 the splits walk forward: fold ``folds - 1`` is the split as given, each earlier fold ends one
    test length sooner, and training always starts at the first bar.
    """

    train: Bound = Field(0.70, description="share of the time axis, or the split's last day")
    validation: Bound = Field(0.15, description="likewise")
    test: Bound = Field(0.15, description="likewise")
    embargo: int = Field(0, ge=0, le=10**9, description="bars left out at the start of validation and of test")
    folds: int = Field(1, ge=1, le=20, description="walk-forward folds")
    fold: int = Field(0, ge=0, description="which fold, counted from 0")
    selection: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="first part of validation, as a share, on which epochs are chosen and nothing is judged; "
        "null = 1/3 where a trial of the sweep chooses one, else 0",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        parts = (self.train, self.validation, self.test)
        if all(isinstance(part, date) for part in parts):
            if not self.train < self.validation < self.test:  # type: ignore[operator]
                raise ValueError("split dates must ascend: train, validation, test (the last day of each)")
            if self.folds > 1:
                raise ValueError("walk-forward folds need splits given as fractions")
        elif all(isinstance(part, float) for part in parts):
            if any(not 0 < part < 1 for part in parts):  # type: ignore[operator]
                raise ValueError("each split fraction must lie between 0 and 1")
            if sum(parts) > 1 + 1e-9:  # type: ignore[arg-type]
                raise ValueError(f"split fractions add up to {sum(parts):g}, more than 1")  # type: ignore[arg-type]
        else:
            raise ValueError("give all three splits as fractions, or all three as dates")
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} does not exist: folds is {self.folds}, counted from 0")
        return self


def _as_texts(value: object) -> object:
    """One source or several; a block of a name and keys as ``NAME:{JSON}``, which is what a dataset is known by."""
    sources = (value,) if isinstance(value, str | dict) else value
    return tuple(map(_as_text, sources)) if isinstance(sources, list | tuple) else sources


def _as_text(source: object) -> object:
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        return source
    keys = {key: value for key, value in source.items() if key != "name"}
    return f"{source['name']}:{json.dumps(keys, sort_keys=True, default=str)}" if keys else source["name"]


def _known_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError(f"{value!r} is no time zone of the IANA database, such as America/New_York")
    return value


Zone = Annotated[str, AfterValidator(_known_zone)]


def _by_asset(value: object) -> object:
    return {"*": value} if isinstance(value, str) else value


# What cannot be told from a vendor's file where its numbers or dates can be read in two ways.
_POINT = {"decimal": "."}
_AMERICAN = {"decimal": ".", "dates": "%m/%d/%Y"}
VENDORS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("alphavantage", "binance", "polygon", "stooq", "tiingo", "yahoo"), _POINT),
    **dict.fromkeys(("barchart", "investing", "nasdaq"), _AMERICAN),
    "metatrader": {"decimal": ".", "dates": "%Y.%m.%d"},
}


class FileFormat(Spec):
    """How a file of bars is written, where that cannot be found out from the file; or the name of its vendor."""

    delimiter: str | None = Field(None, min_length=1, max_length=1, description="between the columns")
    decimal: Literal[".", ","] | None = Field(None, description="decimal sign")
    dates: str | None = Field(None, description="a format of strptime, such as '%d/%m/%Y'")
    timezone: Zone | None = Field(None, description="time stamps are converted to it, then dated; null = as written")
    header: tuple[str, ...] | None = Field(None, description="names of the columns of a file without a header")

    @model_validator(mode="before")
    @classmethod
    def _of_a_vendor(cls, value: object) -> object:
        if isinstance(value, str) and value not in VENDORS:
            raise ValueError(f"{value!r} is no vendor that is known by name: {', '.join(sorted(VENDORS))}")
        return VENDORS[value] if isinstance(value, str) else value


AS_FOUND = FileFormat()


class RepairSpec(Spec):
    """What is done about rows that a source has wrong and that cannot be corrected there."""

    drop_rows: tuple[Literal["unparsable", "duplicate", "finite", "positive", "negative", "high", "low"], ...] = Field(
        (), description="rows that break these rules are left out, and counted"
    )
    tolerance: float = Field(0.0, ge=0, le=0.01, description="high and low may miss open and close by this share")
    fill_open: bool = Field(
        False, description="an open of zero or nothing becomes the close before, within the bar's low and high"
    )

    @property
    def identity(self) -> dict[str, Any]:
        """What a dataset's name says of it; without keys of later versions that are not used."""
        return self.model_dump(exclude=set() if self.fill_open else {"fill_open"})


class SessionSpec(Spec):
    """When an exchange trades, by its own clock; bars of a source are then within a day, stamped where they begin."""

    timezone: Zone | None = Field(
        None,
        description="of the exchange, such as America/New_York; UTC for a market that never closes; null = all assets "
        "have a `data.calendar`",
    )
    open: str = Field("00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="first minute, by that clock")
    close: str = Field("00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="end; the open's own = 24 hours")
    stamps: Literal["exchange", "utc"] = Field("exchange", description="clock of time stamps without a zone")

    @property
    def open_minute(self) -> int:
        """Of the day."""
        return int(self.open[:2]) * 60 + int(self.open[3:])

    @property
    def close_minute(self) -> int:
        """Of the day."""
        return int(self.close[:2]) * 60 + int(self.close[3:])


class SampleSpec(Spec):
    """A part of the data, evenly spread and the same each time."""

    assets: int | None = Field(None, ge=1, description="so many of the assets, evenly spread over their sorted names")
    every: int = Field(
        1, ge=1, le=10_000, description="training windows end on every n-th bar of the time axis; others on each"
    )


class TierSpec(NamedPart):
    """Which features. Further keys are the tier's own; without any, its name alone says the same."""

    name: str = Field("a20", description="feature tier; `isotherm parts` lists them, with their keys")


class DataSpec(Spec):
    """Which bars, which features, how they are presented to the model."""

    source: Annotated[tuple[str, ...], BeforeValidator(_as_texts)] = Field(
        ("sp500",),
        min_length=1,
        description="sp500, nasdaq, goog, a file of bars, FILE#SYMBOL, yfinance:SYMBOL, one of your own (with keys: "
        "{name: NAME, KEY: VALUE}); or a list",
    )
    columns: dict[str, str] = Field({}, description="your column names: {date: Day, close: Last, ...}")
    format: FileFormat = Field(AS_FOUND, description="how files are written, where detection fails")
    repair: RepairSpec = Field(RepairSpec(), description="what is done about wrong rows; nothing by default")
    adjust: Literal["none", "ratio"] = Field(
        "none", description="ratio: open, high, low and close times adjusted close over close"
    )
    sort: bool = Field(False, description="sort unsorted bars instead of refusing them")
    tier: TierSpec = Field(TierSpec(), description="feature tier: a name, or a block with it and the tier's own keys")
    features: FeaturesSpec | None = Field(None, description="own columns of the source as features; null = none")
    context: dict[str, ContextSpec] = Field({}, description="series that all assets see, by a name of yours")
    session: SessionSpec | None = Field(None, description="bars within a day, and when they trade; null = daily bars")
    calendar: Annotated[dict[str, str], BeforeValidator(_by_asset)] = Field(
        {},
        description="the exchange's calendar by asset, '*' for all others, or one for all: XNYS, XTKS, 24/7, ...; its "
        "sessions are the days of daily bars, and the hours of bars within a day",
    )
    members: str | None = Field(
        None, description="a table of asset, from, to: windows end on days on which the asset belongs to the universe"
    )
    sample: SampleSpec = Field(SampleSpec(), description="a part of assets and of dates; all by default")
    timescale: Timescale = Field("daily", description="length of a bar; coarser bars are resampled first")
    representation: Representation = Field("relative", description="relative to the close and to volume, or raw")
    scaling: Scaling = Field(
        "zscore",
        description="zscore (fitted on train), revin (per window), rank or by_date (across assets, by date), or none",
    )
    memory_limit: ByteSize | None = Field(
        None, description="of preparing the data, such as 4GB; null = half of what is free"
    )
    splits: SplitSpec = SplitSpec()
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training span that is used, the newest")

    @field_validator("source")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a source is named twice")
        return value

    @model_validator(mode="after")
    def _intraday(self) -> Self:
        hours = self.session is not None and self.session.timezone is not None
        if self.timescale in INTRADAY and not hours and not self.calendar:
            raise ValueError(
                f"timescale {self.timescale} needs data.calendar, such as XNYS or 24/7, or data.session: {{timezone: "
                "America/New_York, open: '09:30', close: '16:00'}"
            )
        if self.session is not None and not hours and not self.calendar:
            raise ValueError("data.session.timezone is needed where there is no data.calendar")
        if self.format.timezone and (self.timescale in INTRADAY or self.session is not None):
            raise ValueError(
                "data.format.timezone is for daily bars; of bars within a day say data.session: {stamps: utc} or leave "
                "them as the exchange's own"
            )
        return self

    @field_validator("context")
    @classmethod
    def _plain_names(cls, value: dict[str, ContextSpec]) -> dict[str, ContextSpec]:
        if wrong := [name for name in value if not re.fullmatch(r"[a-z][a-z0-9_]{0,19}", name)]:
            raise ValueError(f"{wrong[0]!r} is no name: letters a to z, digits and '_', at most 20")
        return value

    @field_validator("columns")
    @classmethod
    def _known_columns(cls, value: dict[str, str]) -> dict[str, str]:
        known = ("date", "open", "high", "low", "close", "volume")
        if unknown := sorted(set(value) - set(known)):
            raise ValueError(f"{', '.join(unknown)}: no column name; known: {', '.join(known)}")
        return value


# What a dataset is built from (of `sample` its assets); all else of `DataSpec` is about how it is used.
DATASET_FIELDS = {
    "source", "columns", "format", "repair", "adjust", "sort", "tier", "features", "context", "members", "session",
    "calendar", "sample", "timescale",
}  # fmt: skip
