"""Days and times of day from the text of a column."""

import pandas as pd

from trainables.data.barfile import values


def test_half_past_midnight_is_no_noon() -> None:
    column = pd.Series([f"01/13/2020 {clock}" for clock in ("12:30 AM", "1:00 AM", "12:30 PM", "1:00 PM", "11:59 PM")])
    stamps, _ = values.moments(column, None)
    assert list(stamps.dt.strftime("%H:%M")) == ["00:30", "01:00", "12:30", "13:00", "23:59"]


def test_days_without_a_clock_are_days_in_any_time_zone() -> None:
    def dated(*cells: object) -> list[str]:
        days, _ = values.dates(pd.Series(cells), None, "America/New_York")
        return list(days.dt.strftime("%Y-%m-%d"))

    assert dated("2010-01-04", "2010-01-05") == ["2010-01-04", "2010-01-05"]
    assert dated("01/13/2010", "01/14/2010") == ["2010-01-13", "2010-01-14"]
    assert dated("2010-01-04 02:00", "2010-01-05 15:00") == ["2010-01-03", "2010-01-05"]
    assert dated("2010-01-04T00:00:00Z") == dated(1262563200) == ["2010-01-03"]
