import numpy as np
import pandas as pd
import pytest

from trainables.data.columns import to_ours
from trainables.data.validation import find_problems


@pytest.fixture
def table(make_bars):
    return make_bars(n=200).reset_index()


def problems_of(table, mapping=None):
    bars, problems, _ = to_ours(table, mapping or {}, "spy.csv")
    return problems + find_problems(bars, table, mapping or {}, "spy.csv")


def put(table, row, **values):
    """Put values into a data row counted from 1."""
    for name, value in values.items():
        if isinstance(value, str):
            table[name] = table[name].astype(object)
        table.loc[row - 1, name] = value


def test_sound_bars_have_no_problems(table):
    assert problems_of(table) == []


def test_a_single_bar_without_volume_is_sound(table):
    put(table, 50, volume=0)
    assert problems_of(table) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"close": np.nan}, "close is not a finite number: nothing"),
        ({"close": "n/a"}, "close is not a finite number: 'n/a'"),
        ({"high": np.inf}, "high is not a finite number: inf"),
        ({"volume": np.nan}, "volume is not a finite number: nothing"),
        ({"volume": -5.0}, "volume is negative: -5.0"),
        ({"low": 0.0}, "low is not positive: 0.0"),
        ({"low": -1.0}, "low is not positive: -1.0"),
        ({"high": 0.5, "low": 0.4}, "high 0.5 is below one of open "),
        ({"low": 1e9, "high": 1e9}, "low 1000000000 is above one of open "),
    ],
)
def test_a_bad_value_is_named_with_its_row_and_date(table, values, message):
    put(table, 17, **values)
    found = problems_of(table)
    assert len(found) == 1, found
    assert found[0].place == "spy.csv, row 17 (1990-01-23)"
    assert found[0].message.startswith(message)
    assert found[0].fix


def test_high_below_low_breaks_both_rules(table):
    put(table, 17, high=1.0, low=1e9)
    assert [problem.message.split()[0] for problem in problems_of(table)] == ["high", "low"]


def test_a_missing_price_does_not_hide_what_the_others_show(table):
    put(table, 17, high=1.0)
    messages = [problem.message for problem in problems_of(table.drop(columns="open"))]
    assert len(messages) == 2
    assert messages[0].startswith("column open is missing")
    assert messages[1].startswith("high 1 is below one of low ")


def test_dates_unparsable_duplicate_and_unsorted(table):
    table["date"] = table["date"].dt.strftime("%Y-%m-%d")
    put(table, 10, date="1990-02-31")
    put(table, 20, date=table["date"][18])
    put(table, 30, date="1989-01-02")
    found = {problem.place: problem.message for problem in problems_of(table)}
    assert found["spy.csv, row 10"] == "the date cannot be understood: '1990-02-31'"
    assert found["spy.csv, row 20 (1990-01-25)"] == "the date occurs twice"
    assert found["spy.csv, row 30 (1989-01-02)"] == "the date is earlier than the one before it"
    assert len(found) == 3


def test_intraday_bars_are_refused_as_duplicates(table):
    table["date"] = pd.date_range("2020-01-01", periods=len(table), freq="h")
    assert any("data.calendar" in problem.fix for problem in problems_of(table))


def test_too_few_rows(table):
    assert [problem.message for problem in problems_of(table.head(99))] == ["too few rows: 99, at least 100 are needed"]
    assert problems_of(table.head(100)) == []


def test_no_rows_at_all(table):
    assert [problem.message for problem in problems_of(table.head(0))] == ["too few rows: 0, at least 100 are needed"]


@pytest.mark.parametrize("column", ["close"])
def test_a_column_that_never_changes(table, column):
    table[["open", "high", "low", "close"]] += [0, 1e3, 0, 0]
    table["low"] = np.linspace(1, 2, len(table))
    table[column] = 150.0
    assert [problem.message for problem in problems_of(table)] == [f"{column} never changes"]


def test_everything_wrong_is_reported_together(table):
    put(table, 3, close="x")
    put(table, 4, open=-2.0)
    put(table, 5, volume=-1.0)
    put(table, 7, high=1e-3, low=1e-4)
    table["date"] = table["date"].dt.strftime("%Y-%m-%d")
    put(table, 9, date="?")
    put(table, 11, date="1980-01-01")
    text = "\n".join(map(str, problems_of(table.rename(columns={"volume": "turnover"}), {"volume": "Vol"})))
    for part in ("column volume is missing", "row 3 ", "row 4 ", "row 7 ", "row 9", "row 11 "):
        assert part in text
    text = "\n".join(map(str, problems_of(table)))
    assert "row 5 (1990-01-05): volume is negative" in text


def test_long_lists_are_cut_and_counted(table):
    table.loc[20:59, "volume"] = -1
    found = problems_of(table)
    assert len(found) == 6
    assert found[0].place.startswith("spy.csv, row 21 ")
    assert found[-1].message == "35 more rows break the same rule (negative volume)"
