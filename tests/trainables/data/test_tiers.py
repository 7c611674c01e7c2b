"""Feature tiers as parts: what a tier may return, the proof that it looks back only, and what a dataset keeps of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isotherm.testing import check_tier
from trainables.data import catalog, tiers
from trainables.data.representation import represent
from trainables.data.talib_tier import FIRST_COMPLETE
from trainables.data.tier_registry import TIERS, AssetBars, Feature, Kind, feature_tier
from trainables.errors import ConfigError, DataError
from trainables.parts import PartConfig
from trainables.schema import DataSpec


class Keys(PartConfig):
    window: int = 5


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    """Registers a tier `mine`, and forgets it afterwards."""
    known = {part.name: part for part in TIERS}

    def register(function: Any, version: int = 1) -> None:
        feature_tier("mine", version=version, config=Keys)(function)

    yield register
    TIERS._parts.clear()
    TIERS._parts.update(known)


@pytest.fixture
def source(make_bars: Any, tmp_path: Path) -> Path:
    make_bars(n=400).to_csv(tmp_path / "spy.csv")
    return tmp_path / "spy.csv"


def spec_of(source: Path, **keys: Any) -> DataSpec:
    return DataSpec(source=str(source), tier={"name": "mine", **keys})  # type: ignore[arg-type]


def mean_close(bars: AssetBars, config: Keys) -> dict[str, Feature]:
    window = np.full(len(bars.close), np.nan)
    window[config.window - 1 :] = np.convolve(bars.close, np.ones(config.window) / config.window, mode="valid")
    return {"mean": Feature(window, "level"), "volume": Feature(bars.volume, Kind.VOLUME)}


@pytest.mark.parametrize("name", [part.name for part in TIERS])
def test_what_ships_keeps_the_contract(name: str) -> None:
    check_tier(name)


def test_a_tier_of_ones_own_is_built_with_its_config_and_kinds(register: Any, source: Path, tmp_path: Path) -> None:
    register(mean_close)
    check_tier("mine", window=9)
    entry = catalog.prepare(spec_of(source, window=7), tmp_path / "data")
    assert entry.tier.config == {"window": 7}
    assert entry.kinds == {"mean": "level", "volume": "volume"}
    assert entry.tier_sha256 == TIERS.get("mine").source.sha256 != ""
    frame = catalog.load(entry, tmp_path / "data").frame
    assert list(frame.columns) == ["date", "asset", "open", "high", "low", "close", "volume", "mean"]
    assert frame["mean"].iloc[6] == pytest.approx(frame["close"].iloc[:7].mean())
    shown = represent(frame, entry.kinds_of_features, "relative")
    assert shown.values_TF[300, 0] == pytest.approx(frame["mean"][300] / frame["close"][300] - 1)


def test_config_and_version_make_another_dataset(register: Any, source: Path, tmp_path: Path) -> None:
    register(mean_close)
    entries = [catalog.prepare(spec_of(source, window=window), tmp_path / "data") for window in (5, 6)]
    register(mean_close, version=2)
    entries.append(catalog.prepare(spec_of(source), tmp_path / "data"))
    assert len({entry.name for entry in entries}) == len({entry.content_sha256 for entry in entries}) == 3
    assert entries[2].features_version == 2


def test_a_changed_source_under_one_version_is_refused(
    register: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(mean_close)
    catalog.prepare(spec_of(source), tmp_path / "data")
    document = json.loads((tmp_path / "data" / "catalog.json").read_text())
    for entry in document["entries"].values():
        entry["tier_sha256"] = "f" * 64
    (tmp_path / "data" / "catalog.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="the source of the tier 'mine' was changed under version 1"):
        catalog.prepare(spec_of(source), tmp_path / "data")


def test_an_entry_of_before_has_the_kinds_of_its_tier(source: Path, tmp_path: Path) -> None:
    entry = catalog.prepare(DataSpec(source=str(source)), tmp_path / "data")
    before = entry.model_dump(mode="json", exclude={"kinds", "tier_sha256"})
    assert before["tier"] == "a20"
    assert catalog.entry_of(before, "ledger").kinds_of_features == entry.kinds_of_features
    with pytest.raises(DataError, match="the feature mine has no kind"):
        catalog.entry_of({**before, "features": ["mine"]}, "ledger")


def ahead(bars: AssetBars, shift: int) -> np.ndarray:
    """The close so many bars later, the last one repeated."""
    return np.concatenate([bars.close[shift:], np.repeat(bars.close[-1], shift)])


def week_close(bars: AssetBars) -> np.ndarray:
    """The week's last close on each of its days."""
    weeks = bars.daily["close"].groupby(bars.daily.index.to_period("W-SUN")).last()
    return weeks.loc[bars.frame.index.to_period("W-SUN")].to_numpy()


LEAKS: dict[str, Callable[[AssetBars], np.ndarray]] = {
    "one bar ahead": lambda bars: ahead(bars, 1),
    "far ahead": lambda bars: ahead(bars, 30),
    "mean of the whole series": lambda bars: bars.close / bars.close.mean(),
    "centred average": lambda bars: bars.frame["close"].rolling(5, center=True, min_periods=1).mean().to_numpy(),
    "largest of the series": lambda bars: bars.volume / bars.volume.max(),
    "a week's close on its Monday": week_close,
    "order of the whole series": lambda bars: bars.frame["close"].rank(pct=True).to_numpy(),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_column_that_looks_ahead_is_refused_with_column_and_date(
    register: Any, source: Path, tmp_path: Path, name: str
) -> None:
    register(lambda bars, config: {**mean_close(bars, config), "leak": Feature(LEAKS[name](bars), "number")})
    expected = r"spy, bar \d+ \(\d{4}-\d\d-\d\d\): feature tier 'mine': the column 'leak' looks ahead"
    with pytest.raises(DataError, match=expected) as caught:
        catalog.prepare(spec_of(source), tmp_path / "data")
    assert len(caught.value.problems) == 1
    assert not catalog.entries(tmp_path / "data")
    with pytest.raises(AssertionError, match="looks ahead"):
        check_tier("mine")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda bars: {}, "not a dictionary of columns"),
        (lambda bars: {"a": bars.close}, r"column 'a': is ndarray, not isotherm.Feature"),
        (lambda bars: {"a": Feature(bars.close, "price")}, "'price' is no kind; known are close, level"),
        (lambda bars: {"a": Feature(bars.close[1:], "level")}, r"shape \(399,\), not one for each of the 400"),
        (lambda bars: {"a": Feature(["x"] * 400, "level")}, "its values are not numbers"),
        (lambda bars: {"date": Feature(bars.close, "level")}, "not date or asset"),
        (lambda bars: {"high": Feature(bars.close, "level")}, "the name of a bar's own number"),
        (lambda bars: {"a": Feature(bars.open, "close")}, "the kind close is for the close itself"),
        (lambda bars: {"a": Feature(np.full(400, np.nan), "level")}, "a is still warming up"),
        (lambda bars: {"a": Feature(1 / (bars.close - bars.close[300]), "level")}, "a is not finite: inf"),
        (lambda bars: 1 // 0, r"test_tiers.py:\d+: feature tier 'mine': spy: the tier fails with ZeroDivisionError"),
    ],
)
def test_what_a_tier_must_not_return(
    register: Any, source: Path, tmp_path: Path, found: Callable[[AssetBars], Any], message: str
) -> None:
    with np.errstate(divide="ignore"):
        register(lambda bars, config: found(bars))
        with pytest.raises(DataError, match=message):
            catalog.prepare(spec_of(source), tmp_path / "data")


def test_the_kit_finds_a_wrong_kind_changed_bars_and_chance(register: Any) -> None:
    register(lambda bars, config: {"a": Feature(bars.high - bars.low, "number")})
    with pytest.raises(AssertionError, match="a as number depends on the unit"):
        check_tier("mine")

    def changes(bars: AssetBars, config: Keys) -> dict[str, Feature]:
        bars.frame.loc[bars.frame.index[3], "close"] *= 2
        return {"volume": Feature(bars.volume, "volume")}

    register(changes)
    with pytest.raises(AssertionError, match="must not change the bars"):
        check_tier("mine")
    random = np.random.default_rng(0)
    register(lambda bars, config: {"a": Feature(random.normal(size=len(bars.close)), "number")})
    with pytest.raises(AssertionError):
        check_tier("mine")


def test_unknown_tiers_and_keys_are_refused_with_the_nearest(register: Any) -> None:
    register(mean_close)
    with pytest.raises(ConfigError, match=r"no feature tier 'talip' is registered\n.*talib"):
        catalog.name_of(DataSpec(tier={"name": "talip"}))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"data.tier.window: Input should be a valid integer"):
        catalog.name_of(DataSpec(tier={"name": "mine", "window": "wide"}))  # type: ignore[arg-type]


def test_the_indicators_of_talib(make_bars: Any) -> None:
    bars = make_bars(n=400)
    computed = tiers.compute(bars, bars, "talib")
    values = computed.values
    assert len(values.columns) == 148
    complete = np.isfinite(values.to_numpy()).all(axis=1)
    assert int(np.argmax(complete)) == FIRST_COMPLETE
    assert complete[FIRST_COMPLETE:].all()
    assert values["sma"].iloc[399] == pytest.approx(bars["close"].iloc[370:].mean())
    assert values["rocp"].iloc[399] == pytest.approx(bars["close"].iloc[399] / bars["close"].iloc[389] - 1)
    assert values["bbands_middleband"].iloc[399] == pytest.approx(bars["close"].iloc[-20:].mean())
    assert np.isnan(values["cdlabandonedbaby"].iloc[0])  # not the 0 that TA-Lib writes where it knows nothing yet
    shown = represent(bars.join(values).reset_index(), computed.kinds, "relative").values_TF[FIRST_COMPLETE:]
    assert np.abs(shown).max() < 10  # every kind brings its column near 1


def test_nothing_non_finite_reaches_talib(make_bars: Any) -> None:
    bars = make_bars(n=400)
    bars.iloc[310, 1] = np.inf
    with pytest.raises(DataError, match=r"bar 311 .*high is not finite"):
        tiers.compute(bars, bars, "talib")
