"""The block `gates`: which checks stop a sweep, and from which number on each of them speaks."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from trainables.data.splits import (
    FLOOR_EFFECTIVE,
    FLOOR_RARER_CLASS,
    MIN_EFFECTIVE,
    MIN_EFFECTIVE_RARER_CLASS,
    EffectiveSize,
)
from trainables.schema import Spec


def _off(given: object) -> object:
    """YAML 1.1 reads a bare `off` as false."""
    return "off" if given is False else given


GateLevel = Annotated[Literal["error", "warn", "off"], BeforeValidator(_off)]


class CheckLimits(Spec):
    """Limits of the checks. They are in no trial's key; plan and report name those that are not the defaults."""

    effective_samples: int = Field(
        MIN_EFFECTIVE, ge=FLOOR_EFFECTIVE, le=1_000_000, description="of validation and of test, at least"
    )
    rarest_class: int = Field(
        MIN_EFFECTIVE_RARER_CLASS, ge=FLOOR_RARER_CLASS, le=1_000_000, description="effective samples of it, at least"
    )
    # With less, a metric hangs on a handful of days.
    class_balance: float = Field(0.05, ge=0, le=0.5, description="share of the rarest class in a split, at least")
    base_rate: float = Field(0.10, gt=0, le=1, description="move of a class's share from training, at most")
    # Weekends make 3 days usual for daily bars, and 12 days are longer than the holidays of an exchange (Shanghai's
    # reach 11) or a closure such as that of September 2001 (7).
    label_gap: float = Field(4, ge=1, le=1000, description="times the usual distance of bars, at most")
    # Less than a year sees one season and mostly one regime.
    split_dates: int = Field(365, ge=1, le=36_500, description="days of validation and of test, at least")
    # Beyond, a model is asked about values that it hardly ever saw.
    mean_drift: float = Field(3.0, gt=0, le=100, description="training standard deviations, at most")
    # Siddiqi 2006: above it a population has shifted in a major way.
    distribution_drift: float = Field(0.25, gt=0, le=100, description="population stability index, at most")
    duplicate_inputs: float = Field(0.9999, ge=0.5, le=1, description="correlation of two inputs, at most")
    # Volatility alone legitimately reaches 0.65 to 0.80 on thresholds of 1 %.
    strong_input: float = Field(0.85, ge=0.5, le=1, description="AUC of one input alone, at most")
    leak: float = Field(0.95, ge=0.5, le=1, description="AUC of one input alone, at most")
    # What is known explains a few thousandths of the variance of the next day's return (Campbell and Thompson 2008), a
    # correlation below 0.1; an average centred on its bar reaches 0.4.
    lead_lag: float = Field(0.3, gt=0, le=1, description="correlation with the next return, at most")
    # The bars of a training window count as tokens, as if windows shared none. Hoffmann et al. 2022 (arXiv:2203.15556)
    # find 20 tokens for each parameter to be the best use of compute. Repeated passes are worth 1 + R*_D = 16 times the
    # data at most (Muennighoff et al. 2023, arXiv:2305.16264): beyond, a parameter has less than one token even so.
    data_starved: float = Field(16, gt=0, le=1_000_000, description="parameters for each bar of the windows, at most")

    @property
    def least(self) -> EffectiveSize:
        """What validation and test must hold."""
        return EffectiveSize(self.effective_samples, self.rarest_class)

    def changed(self) -> Iterator[tuple[str, Any, Any]]:
        """Name, value and default of each limit that is not the default."""
        for name, field in type(self).model_fields.items():
            if (value := getattr(self, name)) != field.default:
                yield name, value, field.default


class GatesSpec(Spec):
    """Checks before any trial: `error` stops the sweep before anything starts, `warn` is shown and kept, `off` is not.

    The numbers in the descriptions are those of `limits` where it is not given.
    """

    effective_samples: GateLevel = Field(
        "warn",
        description="validation or test below 100 effective samples, or 30 of the rarest class; never run anyway",
    )
    class_balance: GateLevel = Field("warn", description="rarest class below 5 % of a split's windows")
    base_rate: GateLevel = Field("warn", description="share of positives moves by more than 0.10 from training")
    label_overlap: GateLevel = Field("error", description="a label that reaches into a later split")
    price_jump: GateLevel = Field("warn", description="a step of the price level as of a split that was not adjusted")
    outlier: GateLevel = Field(
        "warn", description="a price far off that comes back, by 10 % and 20 deviations at least"
    )
    stale_run: GateLevel = Field("warn", description="5 bars in a row or more that are equal, over a day or more")
    missing_session: GateLevel = Field("warn", description="days on which bars and `data.calendar` disagree")
    label_gap: GateLevel = Field("warn", description="a label across a gap of over 4 times the usual distance of bars")
    split_dates: GateLevel = Field("warn", description="validation or test of less than a year")
    mean_drift: GateLevel = Field(
        "error", description="mean of an input moves by more than 3 training standard deviations"
    )
    distribution_drift: GateLevel = Field("warn", description="population stability index of an input above 0.25")
    constant_inputs: GateLevel = Field("error", description="an input that never changes in training")
    duplicate_inputs: GateLevel = Field("warn", description="two inputs with a correlation beyond 0.9999")
    strong_input: GateLevel = Field("warn", description="one input alone with an AUC from 0.85 to 0.95")
    leak: GateLevel = Field("error", description="one input alone with an AUC above 0.95")
    lead_lag: GateLevel = Field(
        "error", description="a column as given that goes with the next return by a correlation above 0.3"
    )
    data_starved: GateLevel = Field("warn", description="more than 16 parameters for each bar of the training windows")
    mixed_code: GateLevel = Field("warn", description="compared cells that were trained by different code")
    limits: CheckLimits = CheckLimits()
