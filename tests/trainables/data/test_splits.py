from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.data.ohlcv import resample
from trainables.data.splits import (
    EffectiveSize,
    cover,
    divide,
    effective_size,
    limits,
    overlapped,
    shortfalls,
    window_ends,
)
from trainables.errors import ConfigError
from trainables.schema import SplitSpec

AXIS = pd.date_range("2000-01-03", periods=1000, freq="B").to_numpy()


def spans(**spec):
    fraction = spec.pop("fraction", 1.0)
    return {name: (span.start, span.stop) for name, span in limits(AXIS, SplitSpec(**spec), fraction).items()}


def test_fractions_of_the_axis():
    assert spans() == {"train": (0, 700), "validation": (700, 850), "test": (850, 1000)}
    assert spans(train=0.5, validation=0.2, test=0.1) == {
        "train": (0, 500),
        "validation": (500, 700),
        "test": (700, 800),
    }


def test_the_embargo_is_left_out_at_the_start_of_validation_and_test():
    assert spans(embargo=10) == {"train": (0, 700), "validation": (710, 850), "test": (860, 1000)}


def test_the_data_fraction_is_the_newest_part_of_the_training_span():
    assert spans(fraction=0.25)["train"] == (525, 700)
    assert spans(fraction=1e-9)["train"] == (699, 700)


def test_dates_are_the_last_day_of_each_split():
    found = limits(
        AXIS, SplitSpec(train=date(2000, 12, 31), validation=date(2001, 6, 29), test=date(2002, 3, 1), embargo=2)
    )
    days = {name: (str(AXIS[span.start])[:10], str(AXIS[span.stop - 1])[:10]) for name, span in found.items()}
    assert days == {
        "train": ("2000-01-03", "2000-12-29"),
        "validation": ("2001-01-03", "2001-06-29"),  # two bars after Monday 2001-01-01
        "test": ("2001-07-04", "2002-03-01"),
    }


def test_folds_walk_forward_by_one_test_length():
    folds = [spans(train=0.7, validation=0.1, test=0.1, folds=4, fold=k) for k in range(4)]
    assert folds[3] == spans(train=0.7, validation=0.1, test=0.1)
    assert [fold["test"] for fold in folds] == [(500, 600), (600, 700), (700, 800), (800, 900)]
    assert [fold["train"] for fold in folds] == [(0, 400), (0, 500), (0, 600), (0, 700)]
    assert [fold["validation"] for fold in folds] == [(400, 500), (500, 600), (600, 700), (700, 800)]


def test_test_spans_of_folds_do_not_overlap_and_fraction_applies_to_each():
    found = [spans(train=0.5, validation=0.1, test=0.1, folds=3, fold=k, fraction=0.5)["train"] for k in range(3)]
    assert found == [(150, 300), (200, 400), (250, 500)]


@pytest.mark.parametrize(
    ("spec", "place", "message"),
    [
        ({"folds": 6, "fold": 0}, "data.splits.folds", "no bars are left for train"),
        ({"embargo": 150}, "data.splits", "no bars are left for validation, test"),
        (
            {"train": date(1999, 1, 1), "validation": date(2001, 1, 1), "test": date(2002, 1, 1)},
            "data.splits",
            "train",
        ),
        (
            {"train": date(2001, 1, 1), "validation": date(2010, 1, 1), "test": date(2011, 1, 1)},
            "data.splits",
            "no bars are left for test",
        ),
    ],
)
def test_a_split_without_bars_is_refused(spec, place, message):
    with pytest.raises(ConfigError, match=message) as caught:
        limits(AXIS, SplitSpec(**spec))
    assert caught.value.problems[0].place == place
    assert caught.value.problems[0].fix


def test_windows_lie_inside_the_split_with_context_and_label():
    position = np.arange(100)
    ends = window_ends(position, position, 5, range(20, 50), context=10, lookahead=3)
    assert (ends[0], ends[-1]) == (29, 46)  # context 20..29; label 47..49
    assert (
        window_ends(position, position, 25, range(20, 50), context=10, lookahead=3)[0] == 34
    )  # complete only from row 25
    assert (
        window_ends(position, position, 5, range(20, 200), context=10, lookahead=3)[-1] == 96
    )  # label ends with the data
    assert len(window_ends(position, position, 5, range(20, 32), context=10, lookahead=3)) == 0
    assert len(window_ends(position, position, 95, range(0, 100), context=10, lookahead=3)) == 0


@pytest.mark.parametrize(
    ("positions", "horizon", "total"),
    [
        (range(100), 1, 100),
        (range(100), 5, 20),
        (range(104), 5, 20),
        ([*range(7), *range(10, 17)], 5, 2),  # two spans of 7: floor(7/5) each, not floor(14/5)
        ([*range(3), *range(10, 13)], 5, 0),
        ([*range(4), *range(5, 9)], 8, 0),  # one missing bar parts two spans
        ([*range(50), *range(50)], 5, 10),  # a second asset on the same days adds nothing
        ([*range(50), *range(30, 80)], 5, 16),  # nor where it overlaps
        ([], 5, 0),
    ],
)
def test_effective_samples_by_hand(positions, horizon, total):
    edges = [0, *(np.flatnonzero(np.diff(positions) < 0) + 1), len(positions)]  # one asset after the other
    assets = [np.array(positions[start:stop], dtype=np.int64) for start, stop in pairwise(edges)]
    assert _size(*((one, one + 1, one + horizon) for one in assets)) == EffectiveSize(total, None)


def _size(*assets, labels=(), n_classes=0):
    shortest = np.full(2000, np.inf)
    for positions, nexts, label_ends in assets:
        cover(shortest, positions, nexts, label_ends)
    return effective_size(shortest, np.asarray(labels), n_classes)


def test_the_rarer_class_counts_by_its_share():
    labels = np.array([1.0] * 24 + [0.0] * 76)
    ends = np.arange(100)
    windows = ends, ends + 1, ends + 5
    assert _size(windows, labels=labels, n_classes=2) == EffectiveSize(20, 4)
    assert _size(windows, labels=1 - labels, n_classes=2) == EffectiveSize(20, 4)
    assert _size(labels=[], n_classes=2) == EffectiveSize(0, 0)


@given(st.sets(st.integers(0, 99), max_size=20), st.integers(1, 20))
def test_effective_samples_are_how_many_windows_fit_without_overlap(missing, horizon):
    """Greedily: windows whose labels do not overlap, inside spans without a gap."""
    positions = set(range(100)) - missing
    ordered = sorted(positions)
    fitted, start = 0, None
    for position in ordered:
        if start is None or position - 1 not in positions:
            start = position
        if position - start + 1 == horizon:
            fitted, start = fitted + 1, position + 1
    ends = np.array(ordered, dtype=np.int64)
    assert _size((ends, ends + 1, ends + horizon)).total == fitted


def test_shortfalls_name_number_and_limit():
    assert shortfalls("test", EffectiveSize(100, 30), 500) == []
    assert shortfalls("test", EffectiveSize(100, None), 500) == []
    [few] = shortfalls("validation", EffectiveSize(19, 3), 95)
    assert few == "validation has 19 effective samples (95 windows), 100 are needed"
    [rare] = shortfalls("validation", EffectiveSize(100, 29), 500)
    assert rare == "validation has 29 effective samples of the rarest class (of 100), 30 are needed"


def test_the_part_that_chooses_and_the_part_that_judges_share_no_bar_of_a_label():
    positions, horizon = np.arange(100, 200), 5
    chooses, judges = divide(positions, positions + horizon, 0.3)
    assert positions[judges].tolist() == list(range(130, 200))
    assert positions[chooses].tolist() == list(
        range(100, 126)
    )  # the label of 125 is 126 to 130, that of 130 begins at 131


@given(
    ends=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=80),
    share=st.floats(0.01, 0.99),
)
def test_no_division_shares_a_bar_whatever_bars_an_asset_lacks(ends, share):
    positions = np.array([end for end, _ in ends], dtype=np.int64)
    label_ends = np.array([end + more for end, more in ends], dtype=np.int64)
    chooses, judges = divide(positions, label_ends, share)
    assert not (chooses & judges).any()
    if chooses.any() and judges.any():
        assert label_ends[chooses].max() < positions[judges].min() + 1
    assert judges.any() == bool(ends)


def test_a_part_that_is_too_small_is_named_in_words():
    (reason,) = shortfalls("selection", EffectiveSize(80, 40), 90)
    assert reason == "the selection part of validation has 80 effective samples (90 windows), 100 are needed"


def test_labels_of_assets_with_different_hours_are_as_long_as_they_last() -> None:
    """Two exchanges whose hours do not meet, 6 bars a day each: a label of 12 bars lasts two days for both."""
    axis = np.arange(12 * 100).reshape(100, 12)
    first, second = axis[:, :6].ravel(), axis[:, 6:].ravel()
    of_asset = [(positions[:-12], positions[1:-11], positions[12:]) for positions in (first, second)]
    assert _size(*of_asset).total in (48, 49)  # 98 days
    alone = of_asset[0][0]
    assert _size((alone, alone + 1, alone + 12)).total == 0  # without its calendar every day would be a span of its own


def test_an_asset_without_weekends_and_one_with_them() -> None:
    days = np.arange(700)
    weekdays = days[days % 7 < 5]
    spans = [(one[:-5], one[1:-4], one[5:]) for one in (weekdays, days)]
    assert _size(spans[0]).total == 99  # a week each
    assert _size(*spans).total == 139  # as the one with weekends alone


def test_the_embargo_is_as_many_of_an_assets_own_bars() -> None:
    """Two exchanges whose hours do not meet, 6 bars a day each: 6 bars are a day for each, not half of one."""
    axis = np.arange(12 * 20).reshape(20, 12)
    for own in (axis[:, :6].ravel(), axis[:, 6:].ravel()):
        later = range(12 * 10 + 6, 12 * 20)  # from the eleventh day, and the embargo
        ends = window_ends(own, own, 0, later, 1, 1, 6)
        assert own[ends[0]] // 12 == 11
    alone = np.arange(100)
    assert window_ends(alone, alone, 0, range(56, 100), 1, 1, 6)[0] == 56


def test_bars_that_share_time_with_others_are_purged() -> None:
    ns = "datetime64[ns]"
    axis = np.array(["2021-03-01T12:00", "2021-03-01T14:30", "2021-03-01T16:00", "2021-03-01T18:30"], dtype=ns)
    begun, over = overlapped(axis, axis[[0, 2]], "4h")
    assert (begun.tolist(), over.tolist()) == ([0, 2], [1, 3])
    assert len(window_ends(begun, over, 0, range(3), 1, 1)) == 0  # its label is over after the split
    assert len(window_ends(begun, over, 0, range(4), 1, 1)) == 1
    fridays, sundays = (
        pd.date_range(day, periods=9, freq="7D").to_numpy().astype(ns) for day in ("2021-03-05", "2021-03-07")
    )
    weeks = np.union1d(fridays, sundays)
    assert overlapped(weeks, sundays, "weekly")[0].tolist() == np.searchsorted(weeks, fridays).tolist()
    assert overlapped(fridays, fridays, "weekly")[0].tolist() == list(range(9))
    assert overlapped(fridays, fridays, "monthly")[0].tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("timescale", ["2d", "3d", "5d", "weekly", "2wk", "monthly", "daily", "1h"])
def test_bars_of_one_calendar_share_time_with_no_other(timescale: str) -> None:
    days = pd.bdate_range("2000-01-03", periods=1000)
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0), index=days)
    if timescale == "1h":
        dates = (days + pd.Timedelta(hours=15)).union(days + pd.Timedelta(hours=16)).to_numpy()
    else:
        dates = pd.DatetimeIndex(resample(frame, timescale).index).to_numpy()
    dates = dates.astype("datetime64[ns]")
    for found in overlapped(dates, dates, timescale):
        assert found.tolist() == list(range(len(dates)))
