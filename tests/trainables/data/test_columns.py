import pandas as pd
import pytest

from trainables.data.columns import to_ours


def table(dates, **other):
    n = len(dates)
    return pd.DataFrame(
        {"Date": dates, "OPEN": [1.0] * n, "High": [1.0] * n, " low": [1.0] * n, "Close": [1.0] * n, "VOLUME": [1] * n}
        | other
    )


def days(frame):
    return ["NaT" if pd.isna(day) else f"{day:%Y-%m-%d}" for day in frame["date"]]


def test_columns_are_matched_in_any_case_and_numbered_from_one():
    frame, problems, _ = to_ours(table(["2020-01-02", "2020-01-03"]), {}, "x")
    assert not problems
    assert list(frame.columns) == ["date", "open", "high", "low", "close", "volume"]
    assert frame.index.tolist() == [1, 2]
    assert str(frame["date"].dtype) == "datetime64[ns]"


def test_mapped_columns_are_used_instead():
    raw = table(["2020-01-02"], **{"Adj Close": [7.0], "Day": ["2021-05-06"]})
    frame, problems, _ = to_ours(raw, {"close": "adj close", "date": "Day"}, "x")
    assert not problems
    assert frame["close"].tolist() == [7.0]
    assert days(frame) == ["2021-05-06"]


def test_missing_and_ambiguous_columns_are_all_named():
    raw = table(["2020-01-02"], close=[2.0]).rename(columns={"Close": "CLOSE", "close": "cLose"}).drop(columns="VOLUME")
    _, problems, _ = to_ours(raw, {"high": "Top"}, "x")
    messages = [problem.message for problem in problems]
    assert any("high is missing: there is no 'Top'" in text for text in messages)
    assert any("more than one column could be close: CLOSE, cLose" in text for text in messages)
    assert len(problems) == 2  # bars without volume are no problem


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_an_index_without_a_name_is_the_date(name):
    frame, problems, _ = to_ours(table(["2020-01-02"]).rename(columns={"Date": name}), {}, "x")
    assert not problems
    assert days(frame) == ["2020-01-02"]


def test_a_datetime_index_is_the_date():
    raw = table(["2020-01-02"]).drop(columns="Date").set_index(pd.DatetimeIndex(["2020-01-02 16:00"]))
    frame, problems, _ = to_ours(raw, {}, "x")
    assert not problems
    assert days(frame) == ["2020-01-02"]


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2020-01-02", "2020-1-3"], ["2020-01-02", "2020-01-03"]),
        (["20200102", "20200103"], ["2020-01-02", "2020-01-03"]),
        ([20200102, 20200103], ["2020-01-02", "2020-01-03"]),
        (["1/31/2020", "2/3/2020"], ["2020-01-31", "2020-02-03"]),
        (["31/1/2020", "3/2/2020"], ["2020-01-31", "2020-02-03"]),
        (["2020-01-02 00:00:00-05:00", "2020-07-02 23:00:00-04:00"], ["2020-01-02", "2020-07-02"]),  # local days
        (["2020-01-02T10:00:00Z", "2020-01-03 10:00:00.5+0100"], ["2020-01-02", "2020-01-03"]),
        (["2020-01-02", "2020-02-30"], ["2020-01-02", "NaT"]),
        (["2020-01-02", None], ["2020-01-02", "NaT"]),
        (["2020", "1577923200"], ["NaT", "NaT"]),  # a year or seconds since 1970 are not dates
        ([1577923200.0, 20200102.0], ["NaT", "NaT"]),
        (["1600-01-01", "2400-01-01", "2020-01-02"], ["NaT", "NaT", "2020-01-02"]),  # beyond 64-bit nanoseconds
    ],
)
def test_dates(dates, expected):
    frame, problems, _ = to_ours(table(dates), {}, "x")
    assert not problems
    assert days(frame) == expected


def test_dates_that_can_be_read_two_ways_are_refused():
    firsts_of_months = [f"1/{month}/2001" for month in range(1, 13)]  # or twelve days of January
    _, problems, _ = to_ours(table(firsts_of_months), {}, "x")
    assert ["month/day/year and as day/month/year" in problem.message for problem in problems] == [True]


def test_text_that_is_no_number_becomes_nan():
    frame, problems, _ = to_ours(table(["2020-01-02", "2020-01-03"], Close=["n/a", "3.5"]), {}, "x")
    assert not problems
    assert frame["close"].isna().tolist() == [True, False]
