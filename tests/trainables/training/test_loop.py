import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from tests.trainables.training.times import TIMES
from trainables.data import catalog, windows
from trainables.errors import ConfigError
from trainables.models import budget, registry
from trainables.schema import DataSpec, EarlyStopping, ExecutionRecord, ModelSpec, ResolvedTask
from trainables.training import precision
from trainables.training.learner import Learner
from trainables.training.step import eval_step


def numbers(trainer):
    columns = trainer.result().columns()
    return {name: value for name, value in columns.items() if name not in TIMES}


@pytest.mark.parametrize("selection", [0.0, 0.4])
def test_a_trial_ends_with_the_numbers_of_its_last_epoch(make_trainer, make_spec, finish, data, selection):
    spec = make_spec(epochs=6, lr=0.03, warmup=0.0, dropout=0.0, selection=selection)  # over-fits: the last is not best
    trainer = make_trainer(spec=spec)
    rows = finish(trainer)
    result = trainer.result()
    steps = len(data.train) // 128
    assert [(row.step, row.epoch) for row in rows] == [(steps * epoch, epoch) for epoch in range(1, 7)]
    assert (result.status, result.reason, result.diverged, result.epochs) == ("finished", "", False, 6)
    assert result.steps == trainer.total_steps == 6 * steps
    best = min(rows, key=lambda row: row.values["selection_loss" if selection else "val_loss"])
    columns = result.columns()
    assert (result.best_epoch, result.judged_epoch) == (best.epoch, 6)
    assert best.epoch < 6
    for name in ("val_loss", "skill", "val_auc", "val_ap", "val_brier", "val_spread"):
        assert columns[name] == rows[-1].values[name]
    assert ("selection_loss" in rows[-1].values) is bool(selection)
    assert columns["val_loss_low"] < columns["val_loss"] < columns["val_loss_high"]
    assert columns["test_loss_low"] < columns["test_loss"] < columns["test_loss_high"]
    assert columns["train_base_rate"] == data.label_mean


@pytest.mark.parametrize(("steps", "evaluated"), [(3, [3]), (16, [7, 14, 16]), (14, [7, 14])])
def test_a_trial_of_so_many_steps_is_evaluated_after_each_epoch_and_at_its_end(
    make_trainer, make_spec, finish, data, steps, evaluated
):
    assert len(data.train) // 128 == 7
    spec = make_spec(epochs=len(evaluated), steps=steps, schedule="constant", warmup=0.0)
    trainer = make_trainer(spec=spec)
    rows = finish(trainer)
    assert [row.step for row in rows] == evaluated
    assert [row.epoch for row in rows] == list(range(1, len(evaluated) + 1))
    result = trainer.result()
    assert (result.steps, trainer.total_steps, result.judged_epoch) == (steps, steps, len(evaluated))
    assert all(0.3 < row.values["train_loss"] < 1 and row.values["lr"] == spec.training.lr for row in rows)


def test_a_slice_ends_after_an_epoch_at_which_somebody_decides(make_trainer, make_spec):
    trainer = make_trainer(spec=make_spec(epochs=4))
    ends = []
    while not trainer.done:
        ends.append([row.epoch for row in trainer.advance(1e9, until=(1, 3)).rows])
    assert ends == [[1], [2, 3], [4]]


def test_training_learns_something(make_trainer, make_spec, finish):
    trainer = make_trainer(spec=make_spec(epochs=8))
    rows = finish(trainer)
    assert rows[-1].values["train_loss"] < 0.95 * rows[0].values["train_loss"]
    assert trainer.result().columns()["val_auc"] > 0.65


def test_the_results_columns_are_all_there(make_trainer, finish):
    from runner.rundir.results import COLUMNS

    trainer = make_trainer()
    finish(trainer)
    known = trainer.result().columns()
    assert {name for name in COLUMNS if name.startswith(("val_", "test_", "skill", "prior"))} <= set(known)
    assert {"steps", "epochs", "best_epoch", "collapsed", "peak_bytes", "samples_per_second"} <= set(known)


def test_the_books_add_up(make_trainer, finish, data):
    trainer = make_trainer()
    finish(trainer)
    result = trainer.result()
    samples = result.steps * 128
    assert result.samples_per_second == pytest.approx(samples / result.train_seconds)
    assert result.evaluation_seconds > 0
    assert (result.held_seconds, result.throttled_seconds) == (0.0, 0.0)
    assert 100e6 < result.peak_bytes < 10e9


def test_predictions_are_those_that_the_numbers_come_from(make_trainer, finish, data):
    trainer = make_trainer()
    finish(trainer)
    frame = trainer.predictions()
    assert list(frame.columns) == ["date", "asset", "split", "label", "logit"]
    assert frame["split"].value_counts().to_dict() == {"validation": len(data.validation), "test": len(data.test)}
    for split, prefix, part_of in (("validation", "val", data.validation), ("test", "test", data.test)):
        part = frame[frame["split"] == split]
        assert (part["date"].to_numpy() == part_of.dates_N).all()
        loss = np.logaddexp(0, part["logit"]) - part["logit"] * part["label"]
        assert loss.mean() == pytest.approx(trainer.result().columns()[f"{prefix}_loss"])


def test_equal_seeds_give_equal_bits_and_other_seeds_other_ones(make_trainer, make_spec, finish):
    first, second, other = make_trainer(), make_trainer(), make_trainer(spec=make_spec(seed=4))
    rows = [finish(trainer) for trainer in (first, second, other)]
    assert rows[0] == rows[1] != rows[2]
    assert numbers(first) == numbers(second) != numbers(other)
    pd.testing.assert_frame_equal(first.predictions(), second.predictions(), check_exact=True)


def test_other_users_of_random_numbers_neither_disturb_a_trial_nor_are_disturbed(make_trainer, finish):
    alone, disturbed = make_trainer(), make_trainer()
    expected = finish(alone)
    torch.manual_seed(77)
    drawn, rows = [], []
    while not disturbed.done:
        rows += disturbed.advance(0).rows
        drawn.append(float(torch.rand(())))
    assert rows == expected
    torch.manual_seed(77)
    assert drawn == [float(torch.rand(())) for _ in drawn]


def test_the_micro_batch_changes_no_number_but_for_rounding(make_trainer, make_spec, finish, record):
    spec = make_spec(dropout=0.0)
    losses = []
    for micro_batch in (128, 37, 1000):
        trainer = make_trainer(spec=spec, execution=record.model_copy(update={"micro_batch": micro_batch}))
        finish(trainer)
        losses.append(trainer.result().columns()["val_loss"])
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-3)


def test_the_reported_loss_is_unweighted_whatever_the_training_loss(make_trainer, make_spec, finish):
    trainer = make_trainer(spec=make_spec(loss="focal", class_weight="balanced"))
    finish(trainer)
    part = trainer.predictions().query("split == 'validation'")
    loss = np.logaddexp(0, part["logit"]) - part["logit"] * part["label"]
    assert trainer.result().columns()["val_loss"] == pytest.approx(loss.mean())


def test_a_split_smaller_than_the_batch_makes_one_smaller_step_an_epoch(make_trainer, make_spec, finish, data):
    trainer = make_trainer(spec=make_spec(global_batch=10_000, epochs=2))
    finish(trainer)
    assert trainer.result().steps == 2
    assert trainer.result().samples_per_second == pytest.approx(2 * len(data.train) / trainer.result().train_seconds)


def test_an_untrained_model_is_worse_than_the_prior_and_said_to_be_collapsed(make_trainer, make_spec, finish):
    trainer = make_trainer(spec=make_spec(lr=1e-12, epochs=1))
    finish(trainer)
    assert trainer.result().collapsed
    assert trainer.result().columns()["skill_high"] < 0


def test_regression_is_judged_by_its_likelihood(make_trainer, make_spec, make_data, finish):
    spec = make_spec(kind="regression")
    data = make_data(spec.task)
    trainer = make_trainer(spec=spec, on=data)
    rows = finish(trainer)
    columns = trainer.result().columns()
    assert columns["val_auc"] is columns["val_brier"] is columns["test_auc"] is None
    assert "val_auc" not in rows[0].values
    part = trainer.predictions().query("split == 'validation'")
    scaled = ((part["logit"] - part["label"]) ** 2).mean() / columns["train_residual_variance"]
    scale = columns["train_residual_variance"] / data.label_variance
    assert columns["val_loss"] == pytest.approx(0.5 * (np.log(2 * np.pi * scale) + scaled), rel=1e-5)
    assert columns["train_residual_variance"] == pytest.approx(data.label_variance, rel=0.2)


def test_regression_with_a_classification_loss_is_refused_at_once(make_trainer, make_spec, make_data):
    spec = make_spec(kind="regression", loss="focal")
    with pytest.raises(ConfigError, match=r"training\.loss"):
        make_trainer(spec=spec, on=make_data(spec.task))


def test_early_stopping_ends_a_trial_that_does_not_improve(make_trainer, make_spec, finish):
    rule = EarlyStopping(metric="val_loss", patience=2, min_delta=10.0)
    trainer = make_trainer(spec=make_spec(epochs=30, early_stopping=rule))
    rows = finish(trainer)
    assert len(rows) == 3  # the first sets the reference
    assert trainer.result().epochs == trainer.result().judged_epoch == 3
    assert trainer.result().best_epoch == min(rows, key=lambda row: row.values["selection_loss"]).epoch


def test_early_stopping_by_auc_also_chooses_the_best_epoch_by_it(make_trainer, make_spec, finish):
    rule = EarlyStopping(metric="val_auc", patience=3, min_delta=0.0)
    trainer = make_trainer(spec=make_spec(epochs=12, early_stopping=rule, judged_epoch="best"))
    rows = finish(trainer)
    best = max(rows, key=lambda row: row.values["selection_auc"])
    result = trainer.result()
    assert result.best_epoch == result.judged_epoch == best.epoch
    assert result.columns()["val_auc"] == best.values["val_auc"]
    assert len(rows) in (12, best.epoch + 3)


@pytest.mark.parametrize(("metric", "best_of"), [("hit_rate", max), ("ece", min), ("brier", min)])
def test_any_metric_stops_and_chooses_its_own_way(metric, best_of, make_trainer, make_spec, finish):
    rule = EarlyStopping(metric=f"val_{metric}", patience=3, min_delta=0.0)
    trainer = make_trainer(spec=make_spec(epochs=5, early_stopping=rule, judged_epoch="best"))
    rows = finish(trainer)
    best = best_of(rows, key=lambda row: row.values[f"selection_{metric}"])
    assert trainer.result().judged_epoch == best.epoch
    assert len(rows) in (5, best.epoch + 3)


def test_what_chooses_judges_nothing(make_trainer, make_spec, make_data, finish):
    spec = make_spec(epochs=6, lr=0.03, warmup=0.0, judged_epoch="best")
    data, whole = make_data(spec.task, spec), make_data(spec.task)
    trainer = make_trainer(spec=spec)
    rows = finish(trainer)
    result, frame = trainer.result(), trainer.predictions()
    best = min(rows, key=lambda row: row.values["selection_loss"])
    assert result.best_epoch == result.judged_epoch == best.epoch < 6
    assert result.columns()["val_loss"] == best.values["val_loss"]
    sizes = frame["split"].value_counts().to_dict()
    assert sizes == {"selection": len(data.selection), "validation": len(data.validation), "test": len(data.test)}
    assert sizes["selection"] + sizes["validation"] == len(whole.validation)
    for split, loss in (("selection", best.values["selection_loss"]), ("validation", result.columns()["val_loss"])):
        part = frame[frame["split"] == split]
        assert loss == pytest.approx((np.logaddexp(0, part["logit"]) - part["logit"] * part["label"]).mean())


def test_without_a_choice_validation_is_whole(make_trainer, make_spec, make_data):
    assert make_data(make_spec().task, make_spec()).selection is None
    for training in ({"judged_epoch": "best"}, {"early_stopping": EarlyStopping()}):
        spec = make_spec(**training)
        with pytest.raises(ValueError, match=r"data\.splits\.selection"):
            make_spec(**training, selection=0.0)
        assert spec.key != make_spec().key
        assert len(make_data(spec.task, spec).selection) > 200


def test_a_loss_that_explodes_ends_the_trial_as_diverged(make_trainer, make_spec, finish):
    trainer = make_trainer(spec=make_spec(lr=1e25, warmup=0.0))
    rows = finish(trainer)
    result = trainer.result()
    assert rows == []
    assert (result.status, result.diverged, result.best_epoch, result.collapsed) == ("diverged", True, None, None)
    assert result.judged_epoch is None
    assert "is not finite at optimizer step" in result.reason
    assert trainer.predictions().empty
    assert trainer.advance(1).done


def test_a_trial_that_diverges_late_keeps_what_is_known_and_leaves_test_alone(make_trainer, finish):
    trainer = make_trainer()
    rows = []
    while not rows:
        rows = trainer.advance(0).rows
    with torch.no_grad():
        trainer._learner.model.head.weight.fill_(float("nan"))
    assert finish(trainer) == []
    result = trainer.result()
    assert (result.status, result.epochs, result.best_epoch, result.judged_epoch) == ("diverged", 1, 1, 1)
    assert result.columns()["val_loss"] == rows[0].values["val_loss"]
    assert result.columns()["val_loss_low"] < rows[0].values["val_loss"]
    assert "test_loss" not in result.columns()
    assert set(trainer.predictions()["split"]) == {"validation"}
    assert trainer.judged_weights is None


class CountingWindows:
    """Windows that note when they are gathered."""

    def __init__(self, windows, log):
        self._windows, self._log = windows, log

    def __len__(self):
        return len(self._windows)

    def __getattr__(self, name):
        return getattr(self._windows, name)

    def batch(self, index_B, next_B=None):
        self._log.extend(index_B.tolist())
        return self._windows.batch(index_B, next_B)


def test_test_data_is_touched_once_at_the_end(make_trainer, data):
    touched: list[int] = []
    watched = dataclasses.replace(data, test=CountingWindows(data.test, touched))
    trainer = make_trainer(on=watched)
    while (report := trainer.advance(0)).epoch < 3:
        assert touched == []
    while not report.done:
        report = trainer.advance(0)
    assert touched == list(range(len(data.test)))


@pytest.mark.parametrize("judged_epoch", ["last", "best"])
def test_the_result_is_that_of_the_weights_that_were_asked_for(
    make_trainer, make_spec, data, judged_epoch, monkeypatch
):
    spec = make_spec(epochs=6, lr=0.03, warmup=0.0, dropout=0.0, judged_epoch=judged_epoch)  # overfits at once
    trainer = make_trainer(spec=spec)
    rows, weights, copied = [], {}, []
    copy_of = Learner.weights
    monkeypatch.setattr(Learner, "weights", lambda learner: copied.append(len(rows)) or copy_of(learner))
    while not trainer.done:
        rows += trainer.advance(0).rows
        if len(rows) > len(weights):
            weights[len(rows)] = copy_of(trainer._learner)
    result = trainer.result()
    losses = [row.values.get("selection_loss", 0.0) for row in rows]
    better = [epoch for epoch in range(1, 6) if losses[epoch - 1] < min([math.inf, *losses[: epoch - 1]])]
    assert copied == ([6] if judged_epoch == "last" else better), "where a step follows, and at the end"
    assert result.best_epoch < 6
    assert result.judged_epoch == (6 if judged_epoch == "last" else result.best_epoch)
    assert result.columns()["val_loss"] == rows[result.judged_epoch - 1].values["val_loss"]
    model = registry.build(spec.model)
    kept = trainer.judged_weights
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights[result.judged_epoch].items())
    model.load_state_dict(kept)
    part = trainer.predictions().query("split == 'test'")
    logits = torch.cat(
        [eval_step(model, data.test, index_B, dtype="fp32") for index_B in torch.arange(len(part)).split(50)]
    )
    assert np.array_equal(part["logit"].to_numpy(), logits.double().numpy())


def test_advance_makes_one_unit_at_least_and_reports_where_it_is(make_trainer):
    trainer = make_trainer()
    report = trainer.advance(0)
    assert (report.kind, report.step, report.epoch, report.rows, report.done) == ("progress", 1, 0, [], False)
    assert report.total_steps == trainer.total_steps
    assert report.loss > 0
    assert not report.saved
    assert trainer.advance(0).step == 2


def test_threads_are_those_of_the_record(make_trainer):
    record = ExecutionRecord(micro_batch=64, accumulation=2, threads=2, device="cpu", checkpoint_interval_s=60)
    make_trainer(execution=record).advance(0)
    assert torch.get_num_threads() == 2


def test_a_finished_trial_holds_no_memory(make_trainer, finish):
    trainer = make_trainer()
    trainer.advance(0)
    model, optimizer = trainer._learner.model, trainer._learner.optimizer
    finish(trainer)
    assert sum(parameter.numel() for parameter in model.parameters()) == 0
    assert not optimizer.state


@pytest.mark.parametrize("name", [part.name for part in registry.ARCHITECTURES])
def test_two_assets_with_window_stats_train_with_every_model(
    name, data_root, resolved, make_spec, make_trainer, finish
):
    asked = DataSpec(source=("sp500", "nasdaq"), scaling="revin", fraction=0.3)
    both = catalog.load(catalog.prepare(asked, data_root), data_root)
    entry = both.entry
    update = {"content_sha256": entry.content_sha256, "assets": entry.assets, "scaling": "revin"}
    spec = make_spec()
    on = windows.build(both, resolved.model_copy(update=update), spec.task, torch.device("cpu"))
    shaped = spec.model.data.model_copy(update={"n_window_stats": on.n_window_stats})
    model = budget.solve(20_000, spec=ModelSpec(name=name), data=shaped)
    trainer = make_trainer(spec=spec.model_copy(update={"model": model}), on=on)
    rows = finish(trainer)
    assert rows[-1].values["train_loss"] < rows[0].values["train_loss"]
    predictions = trainer.predictions()
    assert set(predictions["asset"]) == set(entry.assets)
    assert len(predictions) == len(on.validation) + len(on.test)


NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NO_CUDA)])
def test_bf16_trains_as_fp32_does(dataset, resolved, make_trainer, make_spec, finish, record, monkeypatch, device):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)  # where it is emulated, it is slower
    on = windows.build(dataset, resolved, ResolvedTask(context=20), torch.device(device))
    there = record.model_copy(update={"device": device})
    losses = []
    for dtype in ("fp32", "bf16"):
        trainer = make_trainer(spec=make_spec(dtype=dtype, dropout=0.0), execution=there, on=on)
        finish(trainer)
        losses.append(trainer.result().columns()["val_loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
