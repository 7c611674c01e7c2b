"""Own columns of a source and series of a context: values bar by bar, kinds, gaps, and no row of the future."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trainables.data import catalog, context
from trainables.data.representation import represent
from trainables.data.spilled import Spilled
from trainables.errors import DataError
from trainables.schema import ContextSpec, DataSpec, FeaturesSpec

N = 160


@pytest.fixture(scope="module")
def bars(make_bars):
    """Bars with columns of every kind of unit that can be found out, and a label."""
    frame = make_bars(N)
    random = np.random.default_rng(3)
    return frame.assign(
        mean_5=frame["close"].rolling(5).mean(),
        score=random.uniform(0, 1, N),
        sentiment=random.uniform(5, 95, N),
        **{"Order flow": random.normal(0, 900, N)},
        note="text",
    )


def built(tmp_path: Path, frame: pd.DataFrame, name: str = "own", **data) -> catalog.Dataset:
    frame.to_csv(tmp_path / f"{name}.csv")
    spec = DataSpec.model_validate({"source": str(tmp_path / f"{name}.csv"), "tier": "none", **data})
    return catalog.load(catalog.prepare(spec, tmp_path / "data"), tmp_path / "data")


def test_all_numeric_columns_are_features_as_given_with_a_kind_by_their_values(bars, tmp_path):
    dataset = built(tmp_path, bars, features={"columns": "*"})
    assert dataset.features == ("mean_5", "score", "sentiment", "Order_flow")
    assert dataset.entry.given == {
        "mean_5": "level (by its values)",
        "score": "share (by its values)",
        "sentiment": "percent (by its values)",
        "Order_flow": "as is (by its values)",
    }
    assert dataset.entry.unused_columns == {str(tmp_path / "own.csv"): ("note",)}
    own = ["mean_5", "score", "sentiment", "Order flow"]
    np.testing.assert_array_equal(dataset.frame[list(dataset.features)], bars[own])
    presented = represent(dataset.frame, dataset.entry.kinds_of_features, "relative").values_TF
    np.testing.assert_allclose(presented[4:, 0], (bars["mean_5"] / bars["close"] - 1)[4:], rtol=1e-12)
    np.testing.assert_allclose(presented[:, 2], bars["sentiment"] / 100 - 0.5, rtol=1e-12)


def test_some_columns_with_the_tiers_lagged_and_of_a_kind(bars, tmp_path):
    asked = {"columns": ["score"], "kind": {"*": "as is"}, "lag": 2}
    dataset = built(tmp_path, bars, tier="ohlcv", features=asked)
    assert dataset.features == ("open", "high", "low", "close", "volume", "score")
    assert dataset.entry.given == {"score": "as is"}
    np.testing.assert_array_equal(dataset.frame["score"][2:], bars["score"][:-2])
    assert "sentiment" in dataset.entry.unused_columns[str(tmp_path / "own.csv")]


def test_a_coarser_bar_has_the_value_of_its_last_day(bars, tmp_path):
    dataset = built(tmp_path, bars, features={"columns": "score"}, timescale="2d")
    np.testing.assert_array_equal(dataset.frame["score"], bars["score"][1::2])


def test_gaps_are_refused_filled_up_to_a_length_or_masked(bars, tmp_path):
    frame = bars[["open", "high", "low", "close", "volume", "score"]].copy()
    frame.iloc[[0, 50, 51, 90], 5] = np.nan  # the first is no gap, it warms up
    with pytest.raises(DataError, match="3 values are missing, the first on 1990-03-12"):
        built(tmp_path, frame, features={"columns": "score"})
    with pytest.raises(DataError, match="1 values are missing that 1 bars do not fill"):
        built(tmp_path, frame, features={"columns": "score", "gaps": {"score": 1}})
    dataset = built(tmp_path, frame, features={"columns": "score", "gaps": {"*": 2}})
    assert dataset.entry.given["score"] == "share (by its values); 3 gaps filled"
    np.testing.assert_array_equal(dataset.frame["score"][1:], frame["score"].ffill()[1:])
    dataset = built(tmp_path, frame, features={"columns": "score", "gaps": {"score": "mask"}})
    assert dataset.features == ("score", "score_known")
    assert np.flatnonzero(dataset.frame["score_known"] == 0).tolist() == [50, 51, 90]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"columns": ["nope"]}, "no numeric column 'nope'"),
        ({"columns": ["note"]}, "no numeric column 'note'"),
        ({"columns": "score", "kind": {"scor": "share"}}, "is no column in use"),
        ({"columns": "Order flow", "kind": {"Order flow": "change"}}, "not positive"),
    ],
)
def test_what_is_wrong_is_said(bars, tmp_path, features, message):
    with pytest.raises(DataError, match=message):
        built(tmp_path, bars, features=features)


def test_another_value_of_a_column_makes_another_content_and_none_keeps_it(bars, tmp_path):
    plain = built(tmp_path, bars, tier="ohlcv").entry.content_sha256
    one = built(tmp_path, bars, tier="ohlcv", features={"columns": "score"}).entry.content_sha256
    bars = bars.copy()
    bars.iloc[-1, bars.columns.get_loc("score")] /= 2
    other = built(tmp_path, bars, "other", tier="ohlcv", features={"columns": "score"})
    renamed = other.entry.content_sha256
    assert len({plain, one, renamed}) == 3


def series(tmp_path: Path, dates: pd.DatetimeIndex, values: object, **more: object) -> str:
    path = tmp_path / "vix.csv"
    pd.DataFrame({"DATE": dates.strftime("%Y-%m-%d"), "VIXCLS": values, **more}).to_csv(path, index=False)
    return str(path)


def test_a_context_is_joined_as_of_the_bar_from_what_was_published(bars, tmp_path):
    """A daily series with a delay of a day, and a lag of a row more."""
    ohlcv = bars[["open", "high", "low", "close", "volume"]]
    days = pd.DatetimeIndex(bars.index)
    numbers = np.linspace(10, 40, N)
    source = series(tmp_path, days, [*numbers[:-1].tolist(), "."])  # the last one is missing, as FRED writes it
    late = built(tmp_path, ohlcv, context={"vix": {"source": source}})
    assert late.features == ("vix",)
    assert late.entry.given["vix"] == f"percent (by its values); of {source}, known 1 days after its date"
    assert source in late.entry.source_sha256
    np.testing.assert_allclose(late.frame["vix"][1:], numbers[:-1])
    assert np.isnan(late.frame["vix"][0])
    at_once = built(tmp_path, ohlcv, context={"vix": {"source": source, "delay_days": 0, "lag": 3}})
    np.testing.assert_allclose(at_once.frame["vix"][3:-1], numbers[:-4])


def test_a_monthly_series_is_known_from_its_publication_and_restated_rows_change_nothing_before(bars, tmp_path):
    months = pd.date_range("1989-11-30", periods=9, freq="ME")
    published = months + pd.Timedelta(days=20)
    source = series(tmp_path, months, np.arange(9) + 200.0, published=published.strftime("%Y-%m-%d"))
    block = {"source": source, "published": "published", "delay_days": 0, "kind": {"*": "as is"}}
    rates = built(tmp_path, bars, context={"rate": block}).frame
    for month, day, value in zip(months, published, np.arange(9) + 200.0, strict=True):
        seen = rates.loc[rates["rate"] == value, "date"]
        assert seen.empty or seen.min() >= day > month
    with pytest.raises(DataError, match="values are missing"):
        built(tmp_path, bars, context={"rate": block | {"max_age_days": 20}})


def test_bars_within_a_day_do_not_see_the_value_of_a_day_that_is_not_over(tmp_path):
    days, hours = pd.date_range("2020-01-06", periods=3), pd.date_range("2020-01-06 15:00", periods=48, freq="h")
    source = series(tmp_path, days, [10.0, 20.0, 30.0])
    frames = Spilled()
    frames["x"] = pd.DataFrame(index=hours)

    def seen(**block: object) -> pd.DataFrame:
        spec = ContextSpec.model_validate({"source": source, **block})
        return context.settle("vix", spec, context.read("vix", spec, DataSpec(source="sp500")), frames, ()).values["x"]

    late = seen()["vix"]
    assert late[:"2020-01-06 23:00"].isna().all()
    assert (late["2020-01-07"] == 10).all()
    assert (late["2020-01-08"] == 20).all()
    for early in ({"delay_days": 0}, {"delay_days": 0.5}, {"published": "DATE", "delay_days": 0}):
        with pytest.raises(DataError, match=r"delay_days: .* hours are not read: .* before its day is over"):
            seen(**early)


def test_no_row_of_the_future_is_seen(bars, tmp_path):
    """Whatever is changed after a cut, in the series and in the own columns, moves nothing before it."""
    days = pd.DatetimeIndex(bars.index)
    asked = {"features": {"columns": "*"}, "context": {"vix": {"source": str(tmp_path / "vix.csv"), "delay_days": 0}}}
    series(tmp_path, days, np.linspace(10, 40, N))
    whole = built(tmp_path, bars, "a", **asked).frame
    for cut in (80, 81, 82, 130):
        future = bars.copy()
        future.iloc[cut:, 5:8] = future.iloc[cut:, 5:8].to_numpy()[::-1] * 0.9
        series(tmp_path, days, np.where(np.arange(N) < cut, np.linspace(10, 40, N), 77.0))
        changed = built(tmp_path, future, f"b{cut}", **asked).frame
        pd.testing.assert_frame_equal(changed.iloc[:cut, 2:], whole.iloc[:cut, 2:])
        assert not changed.iloc[cut:]["vix"].equals(whole.iloc[cut:]["vix"])


def test_the_blocks_are_specs():
    spec = DataSpec(features=FeaturesSpec(columns="*"), context={"vix": ContextSpec(source="x.csv")})
    assert spec.context["vix"].columns == ("close",)
    with pytest.raises(ValueError, match="is no name"):
        DataSpec(context={"V I X": ContextSpec(source="x.csv")})


def slashed(tmp_path: Path, name: str, rows: list[str]) -> str:
    (tmp_path / name).write_text("\n".join(["date,value", *rows, ""]))
    return str(tmp_path / name)


def test_days_and_months_that_can_be_exchanged_are_refused_whatever_else_the_column_holds(bars, tmp_path):
    """A footer, or a blank, is no date in either order, and decides nothing: December would be seen in January."""
    ohlcv = bars[["open", "high", "low", "close", "volume"]]
    rows = [f"01/{month:02d}/1989,{month}" for month in range(1, 13)]
    for name, more in (("plain", []), ("footer", ["Source: somebody,"]), ("blank", [",7"])):
        source = slashed(tmp_path, f"{name}.csv", [*rows, *more])
        with pytest.raises(DataError, match="month/day/year and as day/month/year"):
            built(tmp_path, ohlcv, context={"pmi": {"source": source}})
    sources = slashed(tmp_path, "footer.csv", [*rows, "Source: somebody,"])
    asked = {"dates": "%d/%m/%Y"}  # of the context: the dates of the bars are ISO
    read = built(tmp_path, ohlcv, "asked", context={"pmi": {"source": sources, "kind": {"*": "as is"}}}, format=asked)
    known = read.frame.set_index("date")["pmi"]
    assert known.loc["1990-01-22"] == 12


def test_values_without_a_date_are_refused_among_others_and_named_at_the_end(bars, tmp_path, caplog):
    ohlcv = bars[["open", "high", "low", "close", "volume"]]
    days = [day.strftime("%Y-%m-%d") for day in pd.DatetimeIndex(bars.index)]
    rows = [f"{day},{number}" for number, day in enumerate(days, start=10)]
    hole = slashed(
        tmp_path, "hole.csv", [row.replace("-", "x", 1) if 20 <= n < 25 else row for n, row in enumerate(rows)]
    )
    with pytest.raises(DataError, match="5 rows have a value and no date that can be understood, the first is row 21"):
        built(tmp_path, ohlcv, "hole_", context={"v": {"source": hole}})
    total = slashed(tmp_path, "total.csv", [*rows, "sum,99"])
    built(tmp_path, ohlcv, "total_", context={"v": {"source": total}})
    assert "1 rows have a value and no date" in caplog.text


def test_the_decimal_sign_is_one_for_bars_and_own_columns(bars, tmp_path):
    trades = np.where(np.arange(N) % 2, 1673, 802)
    columns = {"trades": [f"{one:,}".replace(",", ".") for one in trades], "words": "a,b"}
    german = bars[["open", "high", "low", "close", "volume"]].map(lambda x: f"{x:.4f}".replace(".", ","))
    german.assign(**columns).to_csv(tmp_path / "german.csv", sep=";")
    spec = {"source": str(tmp_path / "german.csv"), "tier": "none", "features": {"columns": "trades"}}
    read = catalog.load(catalog.prepare(DataSpec.model_validate(spec), tmp_path / "data"), tmp_path / "data")
    np.testing.assert_array_equal(read.frame["trades"], trades)
    grouped = built(tmp_path, bars.assign(trades=[f"{one:,}" for one in trades]), features={"columns": "trades"})
    np.testing.assert_array_equal(grouped.frame["trades"], trades)


@pytest.mark.parametrize(
    ("sign", "cells", "cell"),
    [
        (".", ["0,02", "1"], "0,02"),
        (".", ["1,234", "0,500"], "0,500"),
        (".", ["1,234", "-1,25"], "-1,25"),
        (",", ["1.234", "1.5M"], "1.5M"),
        (",", ["1", "1,234.5"], "1,234.5"),
        (".", ["1,234", "12,34,567.5"], None),
        (",", ["1.234", "1.234.567,5"], None),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_another_decimal_sign_than_that_of_the_bars_is_refused(bars, tmp_path, sign, cells, cell, suffix):
    ohlcv = bars[["open", "high", "low", "close", "volume"]].reset_index()
    if sign == ",":
        ohlcv = ohlcv.astype(str).apply(lambda column: column.str.replace(".", ","))
    ohlcv["own"] = np.resize(cells, N)
    source = tmp_path / f"x.{suffix}"
    ohlcv.to_csv(source, index=False, sep=";") if suffix == "csv" else ohlcv.to_parquet(source)
    spec = {"source": str(source), "tier": "none", "features": {"columns": "own"}}
    if cell is None:
        catalog.prepare(DataSpec.model_validate(spec), tmp_path / "data")
        return
    with pytest.raises(DataError, match=f"'{re.escape(cell)}' of the column 'own' has another decimal sign"):
        catalog.prepare(DataSpec.model_validate(spec), tmp_path / "data")
    # What is asked for holds, whatever the bars look like.
    spec["format"] = {"decimal": sign}
    catalog.prepare(DataSpec.model_validate(spec), tmp_path / "data")


def test_numbers_that_can_be_read_in_two_ways_are_refused(bars, tmp_path):
    ohlcv = bars[["open", "high", "low", "close", "volume"]]
    days = pd.DatetimeIndex(bars.index)
    with pytest.raises(DataError, match="can be read with a decimal comma"):
        built(tmp_path, ohlcv, context={"v": {"source": series(tmp_path, days, [f"1,{n:03d}" for n in range(N)])}})
    whole = (ohlcv * 0 + 100).astype(int).assign(trades=[f"1,{n:03d}" for n in range(N)])
    with pytest.raises(DataError, match="can be read with a decimal comma"):
        built(tmp_path, whole, "whole", features={"columns": "trades"})


@pytest.mark.parametrize("lacking", ["aaa", "ccc"])
def test_a_column_that_one_asset_lacks_is_refused_whichever_comes_first(bars, tmp_path, lacking):
    (tmp_path / "many").mkdir()
    for name in ("aaa", "bbb", "ccc"):
        frame = bars[["open", "high", "low", "close", "volume", "score", "sentiment"]]
        frame.assign(**({"score": np.nan} if name == lacking else {})).to_csv(tmp_path / "many" / f"{name}.csv")
    spec = DataSpec.model_validate({"source": str(tmp_path / "many"), "tier": "none", "features": {"columns": "*"}})
    with pytest.raises(DataError, match=f"{lacking}: has no values in 'score', which another asset has"):
        catalog.prepare(spec, tmp_path / "data")
