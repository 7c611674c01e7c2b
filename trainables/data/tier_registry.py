"""Feature tiers by name. Looking one up needs neither pandas nor TA-Lib.

A tier is a function of one asset's bars and of its config that returns its columns in their order, each a `Feature`:
values and kind. The representation of a column follows from its kind (`representation`). A value may depend on its own
and on earlier bars only; that is proven when a dataset is built (`causality`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from trainables.parts import Part, PartConfig, Registry
from trainables.schema import ResolvedTier, TierSpec

if TYPE_CHECKING:
    import pandas as pd  # only named

Array = npt.NDArray[np.float64]


class Kind(StrEnum):
    """What a feature's unit is; the representation of a feature follows from it."""

    CLOSE = "close"  # the close itself
    LEVEL = "level"  # a price
    RANGE = "range"  # a difference of prices
    SQUARE = "square"  # a squared difference of prices
    VOLUME = "volume"  # shares traded
    FLOW = "flow"  # a signed number of shares
    CUMULATIVE = "cumulative"  # a running total of shares, counted from the first bar
    PERCENT = "percent"  # bounded, 0 to 100
    SIGNED = "signed"  # about -100 to 100
    SHARE = "share"  # about 0 to 1
    CHANGE = "change"  # a positive number whose change from bar to bar counts, such as another market's price
    NUMBER = "number"  # without a unit, about -1 to 1


TRADED = (Kind.VOLUME, Kind.FLOW, Kind.CUMULATIVE)  # presented relative to the mean volume


@dataclass(frozen=True, eq=False)
class Feature:
    """A column of a dataset that models see.

    Attributes:
        values: one number a bar; NaN only while it warms up.
        kind: a `Kind` or its name.
    """

    values: npt.ArrayLike
    kind: Kind | str


@dataclass(frozen=True, eq=False)
class AssetBars:
    """The bars of one asset, as a tier sees them; arrays are float64 with one value a bar.

    Attributes:
        frame: open, high, low, close, volume, indexed by date; bars of the dataset's timescale.
        daily: the bars as they came from the source, of which those of `frame` are made; of bars within a day, the
            bars of whole trading days: that of a bar's own day is not known when the bar ends.
        days: trading day of each bar, of bars within a day; None where it is the bar's own date.
    """

    frame: "pd.DataFrame"
    daily: "pd.DataFrame"
    days: "pd.DatetimeIndex | None" = None

    @property
    def open(self) -> Array:
        """First prices."""
        return self._column("open")

    @property
    def high(self) -> Array:
        """Highest prices."""
        return self._column("high")

    @property
    def low(self) -> Array:
        """Lowest prices."""
        return self._column("low")

    @property
    def close(self) -> Array:
        """Last prices."""
        return self._column("close")

    @property
    def volume(self) -> Array:
        """Shares traded."""
        return self._column("volume")

    def _column(self, name: str) -> Array:
        return self.frame[name].to_numpy(dtype=np.float64, copy=True)  # so that a tier cannot change the bars


class Tier(Protocol):
    """A feature tier."""

    def __call__(self, bars: AssetBars, config: Any) -> dict[str, Feature]:
        """Columns by name."""


Function = TypeVar("Function", bound=Callable[..., Any])


def _wrong(target: Any) -> str:
    return "" if callable(target) and not isinstance(target, type) else "not a function of bars and config"


TIERS: Registry[Tier] = Registry(
    "feature tier",
    group="isotherm.tiers",
    shipped=("trainables.data.features", "trainables.data.talib_tier"),
    reserved=tuple(TierSpec.model_fields),
    check=_wrong,
)


def feature_tier(
    name: str, *, version: int = 1, config: type[PartConfig] | None = None
) -> Callable[[Function], Function]:
    """Register a function as a feature tier, to be chosen as ``data: {tier: NAME}``.

    Args:
        name: lower-case letters, digits, '-' and '_'.
        version: part of every trial's key; raise it when a value changes.
        config: the tier's own keys in the block ``data.tier``; default: none.
    """
    return cast("Callable[[Function], Function]", TIERS.register(name, version=version, config=config))


def resolved(spec: TierSpec) -> str | ResolvedTier:
    """What a trial's specification says of the tier; keys that are another tier's are left out.

    Raises:
        ConfigError: no such tier, or a wrong key.
    """
    part = TIERS.get(spec.name, "data.tier")
    config = part.configure(part.own(spec.config), "data.tier").model_dump(mode="json")
    if not config and part.version == 1:
        return part.name
    return ResolvedTier(name=part.name, version=part.version, config=config)


def of_dataset(tier: str | ResolvedTier) -> tuple[Part[Tier], PartConfig]:
    """The tier that a dataset is made with, and its config.

    Raises:
        ConfigError: it is not registered here.
    """
    if isinstance(tier, str):
        tier = ResolvedTier(name=tier, version=1, config={})
    part = TIERS.get(tier.name, "data.tier")
    return part, part.configure(tier.config, "data.tier")
