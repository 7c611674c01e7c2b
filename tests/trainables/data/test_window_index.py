from datetime import date
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from trainables.data.splits import SPLITS
from trainables.data.window_index import index_windows
from trainables.errors import ConfigError, DataError, InfeasibleError
from trainables.schema import DataSpec, ResolvedData, ResolvedTask, SplitSpec

TIMESCALES = ["daily", "2d", "3d", "5d", "weekly", "2wk", "monthly"]


def data_spec(tier="ohlcv", **values):
    return DataSpec(source="generated", tier=tier, **values)


def thinned(bars, keep, seed):
    """A calendar of its own: some bars are missing."""
    rng = np.random.default_rng(seed)
    return bars[rng.random(len(bars)) < keep]


@st.composite
def problems(draw):
    """Assets with different calendars, starts and lengths, and any split, context and horizon."""
    assets = [
        {
            "n": draw(st.integers(60, 260)),
            "seed": number,
            "start": draw(st.sampled_from(["2000-01-03", "2000-02-14", "2000-05-01"])),
            "freq": draw(st.sampled_from(["B", "D"])),
            "keep": draw(st.sampled_from([1.0, 0.8])),
        }
        for number in range(draw(st.integers(1, 3)))
    ]
    train = draw(st.sampled_from([0.4, 0.6, 0.7]))
    splits = SplitSpec(train=train, validation=0.15, test=0.15, embargo=draw(st.sampled_from([0, 1, 5])))
    if draw(st.booleans()):
        splits = SplitSpec(train=0.5, validation=0.1, test=0.1, folds=3, fold=draw(st.integers(0, 2)))
    splits = splits.model_copy(update={"selection": draw(st.sampled_from([None, 0.0, 1 / 3, 0.7]))})
    data = data_spec(
        splits=splits,
        fraction=draw(st.sampled_from([1.0, 0.5])),
        representation=draw(st.sampled_from(["relative", "raw"])),
    )
    task = ResolvedTask(
        kind=draw(st.sampled_from(["threshold", "direction", "regression"])),
        context=draw(st.integers(2, 12)),
        horizon=draw(st.integers(1, 12)),
    )
    return assets, data, task


@given(problems())
@settings(max_examples=60, deadline=None)
def test_no_window_crosses_an_asset_or_a_split_and_no_training_label_reaches_a_later_split(
    make_bars, make_dataset, problem
):
    assets, data, task = problem
    frames = {}
    for number, asset in enumerate(assets):
        how = {name: value for name, value in asset.items() if name != "keep"}
        frames[f"asset{number}"] = thinned(make_bars(**how), asset["keep"], number)
    frame = make_dataset(frames).frame
    try:
        index = index_windows(make_dataset(frames), data, task)
    except ConfigError:  # the embargo swallows a whole split of the few bars drawn
        reject()
    assert ("selection" in index.splits) is bool(data.splits.selection)
    first_used, last_used, first_label = {}, {}, {}
    for name, part in index.splits.items():
        for end, asset, day, label in zip(part.ends_N, part.assets_N, part.dates_N, part.labels_N, strict=True):
            rows = frame.iloc[end - task.context + 1 : end + task.horizon + 1]  # context and the label's span
            assert len(rows) == task.context + task.horizon
            assert set(rows["asset"]) == {asset}
            assert frame["date"][end] == day
            assert np.isfinite(label)
        if len(part):
            first_used[name] = frame["date"].to_numpy()[part.ends_N - task.context + 1].min()
            last_used[name] = frame["date"].to_numpy()[part.ends_N + task.horizon].max()
            first_label[name] = frame["date"].to_numpy()[part.ends_N + 1].min()
        used = part.rows(task.context)
        assert np.isfinite(index.data.values_TF[used]).all()
        slow = {row for end in part.ends_N for row in range(end - task.context + 1, end + 1)}
        assert used.tolist() == sorted(slow)
    for before, after in combinations(last_used, 2):
        first = first_label if (before, after) == ("selection", "validation") else first_used
        assert last_used[before] < first[after]


def test_windows_of_one_asset_fill_the_splits(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=1019)})  # 1000 bars after the warm-up of the mean volume
    index = index_windows(dataset, data_spec(), ResolvedTask(context=10, horizon=3))
    assert [len(index.splits[name]) for name in SPLITS] == [700 - 12, 150 - 12, 150 - 12]
    assert index.splits["train"].ends_N[[0, -1]].tolist() == [19 + 9, 19 + 700 - 1 - 3]
    assert index.splits["validation"].bars_N[0] == 700 + 9
    assert index.effective["validation"].total == 138 // 3


def test_the_selection_part_is_the_first_of_validation_and_takes_horizon_less_one_windows(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=1019)})
    task = ResolvedTask(context=10, horizon=3)
    whole = index_windows(dataset, data_spec(), task).splits["validation"]
    index = index_windows(dataset, data_spec(splits=SplitSpec(selection=1 / 3)), task)
    chooses, judges = index.splits["selection"], index.splits["validation"]
    assert list(index.splits) == ["train", "selection", "validation", "test"]
    assert np.array_equal(judges.ends_N, whole.ends_N[46:])
    assert np.array_equal(chooses.ends_N, whole.ends_N[: 46 - 2])
    assert np.array_equal(np.r_[chooses.labels_N, judges.labels_N], np.delete(whole.labels_N, [44, 45]))
    assert (index.effective["selection"].total, index.effective["validation"].total) == (44 // 3, 92 // 3)
    with pytest.raises(InfeasibleError, match="the selection part of validation has 14 effective samples"):
        index.check()


def test_the_embargo_separates_the_splits_further(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=1019)})
    index = index_windows(dataset, data_spec(splits=SplitSpec(embargo=20)), ResolvedTask(context=10, horizon=3))
    assert index.splits["validation"].ends_N[0] - 9 - 19 == 720
    assert index.splits["train"].ends_N[-1] + 3 - 19 == 699


def test_the_axis_is_common_to_all_assets(make_bars, make_dataset):
    """An asset that starts late does not have its own 70 %: the limits are dates."""
    frames = {"old": make_bars(n=1019), "young": make_bars(n=400, start="1992-01-01", seed=3)}
    index = index_windows(make_dataset(frames), data_spec(), ResolvedTask(context=10))
    train, validation = index.splits["train"], index.splits["validation"]
    assert set(train.assets_N) == set(validation.assets_N) == {"old", "young"}
    assert train.dates_N.max() < validation.dates_N[validation.assets_N == "young"].min()
    both = validation.dates_N[validation.assets_N == "old"]
    assert np.array_equal(both, validation.dates_N[validation.assets_N == "young"])
    assert index.effective["validation"].total == len(both)  # two assets on the same days count once


def test_splits_by_date(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=1000)})
    splits = SplitSpec(train=date(1992, 6, 30), validation=date(1993, 3, 31), test=date(1999, 1, 1))
    index = index_windows(dataset, data_spec(splits=splits), ResolvedTask(context=10))
    assert index.splits["train"].dates_N[-1] == np.datetime64("1992-06-29")
    assert index.splits["validation"].dates_N[-1] == np.datetime64("1993-03-30")
    assert index.splits["test"].ends_N[-1] == 998


def test_enough_samples_pass_and_too_few_are_refused_with_every_number(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=1019)})
    index_windows(dataset, data_spec(), ResolvedTask(context=10, kind="direction")).check()
    with pytest.raises(InfeasibleError) as caught:
        index_windows(dataset, data_spec(), ResolvedTask(context=10, horizon=3, kind="direction")).check()
    text = str(caught.value)
    assert "horizon 3" in text
    assert "validation has 46 effective samples" in text
    assert "test has 46 effective samples" in text
    assert "100 are needed" in text


def test_a_rare_class_is_refused_by_its_share(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=4000)})
    with pytest.raises(InfeasibleError, match="of the rarest class"):
        index_windows(dataset, data_spec(), ResolvedTask(context=10, threshold=0.04)).check()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ResolvedTask(context=900, kind="regression"), "train has no window of 900 bars with a label 1 bars ahead"),
        (ResolvedTask(context=10, horizon=1000, kind="regression"), "train has no window"),
        (ResolvedTask(context=10, threshold=0.9), "train holds one class only"),
    ],
)
def test_a_training_split_of_no_use_is_refused(make_bars, make_dataset, task, message):
    index = index_windows(make_dataset({"x": make_bars(n=1019)}), data_spec(), task)
    with pytest.raises(InfeasibleError, match=message):
        index.check()


@pytest.mark.parametrize("timescale", TIMESCALES)
def test_every_timescale_of_thirty_years(make_bars, make_dataset, timescale):
    dataset = make_dataset({"x": make_bars(n=30 * 261)}, timescale=timescale)
    index = index_windows(dataset, data_spec(timescale=timescale), ResolvedTask(kind="direction", context=4))
    bars = {"daily": 7830, "2d": 3915, "3d": 2610, "5d": 1566, "weekly": 1566, "2wk": 783, "monthly": 360}[timescale]
    assert bars - 2 <= dataset.entry.rows <= bars + 1
    sizes = {name: size.total for name, size in index.effective.items()}
    if timescale == "monthly":  # 340 usable months hold 51 for validation: honest, and refused
        with pytest.raises(InfeasibleError, match=r"validation has \d\d effective samples"):
            index.check()
    else:
        index.check()
        assert sizes["train"] > 500


@pytest.mark.parametrize(("timescale", "years", "horizon"), [("2wk", 120, 3), ("monthly", 120, 1), ("daily", 120, 30)])
def test_coarse_bars_and_long_horizons_of_all_indicators(make_bars, make_dataset, timescale, years, horizon):
    dataset = make_dataset({"x": make_bars(n=years * 261, start="1880-01-01")}, "a20", timescale)
    data = data_spec("a20", timescale=timescale)
    index = index_windows(dataset, data, ResolvedTask(kind="direction", context=24, horizon=horizon))
    index.check()
    assert np.isfinite(index.data.values_TF[index.splits["train"].rows(24)]).all()


def test_a_dataset_of_other_content_is_refused(make_bars, make_dataset):
    dataset = make_dataset({"x": make_bars(n=1000)})
    values = data_spec().model_dump(include=set(ResolvedData.model_fields) - {"features"})
    entry = dataset.entry
    same = ResolvedData(**values, content_sha256=entry.content_sha256, assets=entry.assets, features=entry.features)
    index_windows(dataset, same, ResolvedTask(context=10))
    for change in ({"content_sha256": "0" * 64}, {"assets": ("y",)}, {"timescale": "weekly"}):
        with pytest.raises(DataError, match="not the one the trial was resolved for"):
            index_windows(dataset, same.model_copy(update=change), ResolvedTask(context=10))


def test_indexing_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, trainables.data.window_index\n"
        "assert not {'torch', 'talib', 'pandera', 'ray'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_labels_and_dates_belong_to_the_window(make_bars, make_dataset):
    bars = make_bars(n=500)
    index = index_windows(
        make_dataset({"x": bars}), data_spec(), ResolvedTask(kind="regression", context=10, horizon=4)
    )
    part = index.splits["validation"]
    ahead = np.log(bars["close"].shift(-4) / bars["close"])
    expected = ahead[pd.DatetimeIndex(part.dates_N)]
    np.testing.assert_allclose(part.labels_N, expected, rtol=1e-12)
