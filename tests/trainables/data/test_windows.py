import subprocess
import sys

import numpy as np
import pytest
import torch

from trainables.data.splits import SPLITS
from trainables.data.windows import build, index_windows
from trainables.errors import DataError, InfeasibleError
from trainables.schema import ResolvedData, ResolvedTask, SplitSpec

CPU = torch.device("cpu")


def resolved(dataset, **values):
    entry = dataset.entry
    known = {
        "content_sha256": entry.content_sha256,
        "assets": entry.assets,
        "features": entry.features,
        "tier": entry.tier,
        "timescale": entry.timescale,
        "representation": "relative",
        "scaling": "zscore",
        "splits": SplitSpec(),
        "fraction": 1.0,
    }
    return ResolvedData(**(known | values))


@pytest.fixture(scope="module")
def dataset(make_bars, make_dataset):
    return make_dataset({"one": make_bars(n=1100, seed=1), "two": make_bars(n=1000, seed=2)}, "a20")


def values_of(dataset):
    """The table a model should see, by hand: relative features, then z-scores over the rows of training windows."""
    data, task = resolved(dataset), ResolvedTask(context=30, kind="direction")
    index = index_windows(dataset, data, task)
    rows = sorted({row for end in index.splits["train"].ends_N for row in range(end - 29, end + 1)})
    shown = index.data.values_TF.astype(np.float64)
    return (shown - shown[rows].mean(axis=0)) / shown[rows].std(axis=0)


@pytest.mark.parametrize("name", SPLITS)
def test_a_batch_equals_naive_slicing(dataset, name):
    table = values_of(dataset)
    trial = build(dataset, resolved(dataset), ResolvedTask(context=30, kind="direction"), CPU)
    windows = getattr(trial, name)
    index = torch.randint(0, len(windows), (64,), generator=torch.Generator().manual_seed(0))
    index[:2] = torch.tensor([0, len(windows) - 1])
    batch = windows.batch(index)
    naive = np.stack([table[end - 29 : end + 1] for end in windows.ends_N[index].tolist()])
    np.testing.assert_allclose(batch.x_BLF, naive, rtol=1e-5, atol=1e-6)
    assert batch.x_BLF.shape == (64, 30, 20)
    assert batch.x_BLF.dtype == batch.y_B.dtype == torch.float32
    assert batch.x_BLF.is_contiguous()
    assert batch.stats_BS is None
    close = dataset.frame["close"].to_numpy()
    ends = windows.ends_N[index].numpy()
    assert batch.y_B.tolist() == (close[ends + 1] > close[ends]).astype(float).tolist()
    assert windows.dates_N[index].tolist() == dataset.frame["date"].to_numpy()[ends].tolist()
    assert windows.assets_N[index].tolist() == dataset.frame["asset"].to_numpy()[ends].tolist()


@pytest.mark.parametrize("representation", ["relative", "raw"])
def test_a_revin_batch_is_normalized_window_by_window(dataset, representation):
    data = resolved(dataset, scaling="revin", representation=representation)
    trial = build(dataset, data, ResolvedTask(context=30, kind="direction"), CPU)
    assert trial.n_window_stats == 40
    batch = trial.validation.batch(torch.arange(len(trial.validation)))
    shown = index_windows(dataset, data, ResolvedTask(context=30, kind="direction")).data
    ends = trial.validation.ends_N.numpy()
    naive = np.stack([shown.values_TF[end - 29 : end + 1] for end in ends]).astype(np.float64)
    scale = np.sqrt(naive.var(axis=1) + (1e-5 * shown.unit_TF[ends]) ** 2)[:, None]
    naive = (naive - naive.mean(axis=1, keepdims=True)) / scale
    # raw: a price of 150 that moves by 0.01 within the window has three digits left in float32
    np.testing.assert_allclose(batch.x_BLF, naive, atol=1e-4 if representation == "relative" else 1e-2)
    assert batch.stats_BS.shape == (len(trial.validation), 40)
    train_stats = trial.train.batch(torch.arange(len(trial.train))).stats_BS
    np.testing.assert_allclose(train_stats.mean(0), 0, atol=1e-5)


def test_revin_does_not_see_the_unit_of_price_and_volume(make_bars, make_dataset):
    bars = make_bars(n=1100)
    batches = []
    for frame in (bars, bars * [1000, 1000, 1000, 1000, 0.01]):
        dataset = make_dataset({"x": frame}, "a20")
        trial = build(
            dataset,
            resolved(dataset, scaling="revin", representation="raw"),
            ResolvedTask(context=30, kind="direction"),
            CPU,
        )
        batches.append(trial.test.batch(torch.arange(len(trial.test))))
    torch.testing.assert_close(batches[1].x_BLF, batches[0].x_BLF, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(batches[1].stats_BS, batches[0].stats_BS, atol=1e-4, rtol=1e-3)


def test_z_scores_come_from_training_rows_only(make_bars, make_dataset):
    bars = make_bars(n=1100)
    task = ResolvedTask(context=30, kind="direction")
    before = make_dataset({"x": bars}, "a20")
    train_before = build(before, resolved(before), task, CPU)
    later = bars.copy()
    first_validation_row = int(train_before.validation.ends_N[0]) - 29
    later.iloc[first_validation_row:] *= [5, 5, 5, 5, 3]
    after = make_dataset({"x": later}, "a20")
    train_after = build(after, resolved(after), task, CPU)
    everything = torch.arange(len(train_before.train))
    assert torch.equal(train_before.train.batch(everything).x_BLF, train_after.train.batch(everything).x_BLF)
    everything = torch.arange(len(train_before.validation))
    assert not torch.equal(
        train_before.validation.batch(everything).x_BLF, train_after.validation.batch(everything).x_BLF
    )


def test_no_scaling_leaves_the_representation(dataset):
    data = resolved(dataset, scaling="none")
    trial = build(dataset, data, ResolvedTask(context=30, kind="direction"), CPU)
    shown = index_windows(dataset, data, ResolvedTask(context=30)).data.values_TF
    np.testing.assert_array_equal(trial.train.table.values_TF, shown)


def test_all_splits_share_one_table(dataset):
    trial = build(dataset, resolved(dataset), ResolvedTask(context=30, kind="direction"), CPU)
    assert trial.validation.table is trial.test.table is trial.train.table
    table = trial.train.table
    assert table._x_WLF.untyped_storage().data_ptr() == table.values_TF.untyped_storage().data_ptr()  # no copy


def test_base_rate_and_target_moments_come_from_training_labels(dataset):
    classes = build(dataset, resolved(dataset), ResolvedTask(context=30, kind="direction"), CPU)
    positives = float(classes.train.labels_N.mean())
    assert classes.label_mean == pytest.approx(positives)
    assert classes.label_shares == pytest.approx((1 - positives, positives))
    returns = build(dataset, resolved(dataset), ResolvedTask(context=30, kind="regression"), CPU)
    assert returns.label_shares == ()
    assert returns.label_mean == pytest.approx(float(returns.train.labels_N.mean()), abs=1e-7)
    assert returns.label_variance == pytest.approx(float(returns.train.labels_N.var(correction=0)), rel=1e-4)
    assert set(returns.effective) == set(SPLITS)


def test_the_data_fraction_shortens_training_from_its_oldest_end(dataset):
    task = ResolvedTask(context=30, kind="direction")
    whole, half = (build(dataset, resolved(dataset, fraction=f), task, CPU) for f in (1.0, 0.5))
    assert len(half.train) < 0.55 * len(whole.train)
    assert half.train.dates_N.max() == whole.train.dates_N.max()
    assert torch.equal(half.validation.ends_N, whole.validation.ends_N)


def test_too_little_data_is_refused_before_any_tensor(make_bars, make_dataset):
    small = make_dataset({"x": make_bars(n=400)})
    with pytest.raises(InfeasibleError, match="effective samples"):
        build(small, resolved(small), ResolvedTask(context=30, horizon=5), CPU)


def test_a_feature_constant_in_training_is_refused_by_name(make_bars, make_dataset):
    bars = make_bars(n=1100)
    bars["open"] = bars["close"]  # relative to the close, such an open is 0 throughout
    dataset = make_dataset({"x": bars})
    task = ResolvedTask(context=30, kind="direction")
    with pytest.raises(DataError, match="feature open: never changes"):
        build(dataset, resolved(dataset), task, CPU)
    with pytest.raises(DataError, match=r"feature level\(open\): never changes"):
        build(dataset, resolved(dataset, scaling="revin"), task, CPU)


def test_loading_a_trial_imports_neither_pandera_nor_ta_lib():
    code = (
        "import sys, trainables.data.windows, trainables.data.catalog\n"
        "assert not {'pandera', 'talib', 'arch', 'ray'} & set(sys.modules), 'imported'"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("scaling", ["zscore", "revin"])
def test_taken_windows_are_the_same_windows(dataset, scaling):
    trial = build(dataset, resolved(dataset, scaling=scaling), ResolvedTask(context=30, kind="direction"), CPU)
    chosen = torch.tensor([5, 2, 2, 40])
    taken = trial.train.take(chosen)
    assert len(taken) == 4
    ours, theirs = taken.batch(torch.tensor([3, 0, 1])), trial.train.batch(chosen[[3, 0, 1]])
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    np.testing.assert_array_equal(taken.dates_N, trial.train.dates_N[chosen.numpy()])
    assert taken.table is trial.train.table
