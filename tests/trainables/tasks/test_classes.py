"""Three classes from bars to results: labels, effective samples, baselines, losses, training, scores, predictions."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from trainables import baselines
from trainables.data.labels import check_lookahead, make_labels
from trainables.data.window_index import index_windows
from trainables.models import budget
from trainables.schema import DataShape, ModelSpec, ResolvedTask, TaskSpec
from trainables.tasks import registry
from trainables.training import predictions
from trainables.training.losses import make_loss
from trainables.training.metrics import Intervals, Prior, Scorer, is_collapsed

BANDS = registry.resolved(TaskSpec.model_validate({"kind": "bands", "context": 20, "loss": -0.003, "gain": 0.004}))
RANDOM = np.random.default_rng(4)


def days(n):
    return (np.datetime64("2001-01-01") + np.arange(n)).astype("datetime64[ns]")


def test_labels_of_bands_and_drawdowns_equal_their_definition():
    close = [100.0, 99.0, 99.0, 100.98, 100.98, 50.0]
    frame = pd.DataFrame({"close": close, "low": [c - 1 for c in close], "high": close})
    bands = registry.resolved(TaskSpec.model_validate({"kind": "bands", "gain": 0.02}))
    assert make_labels(frame, bands)[:-1].tolist() == [0, 1, 2, 1, 0]
    for price, expected in (("low", [1, 1, 0, 0, 1]), ("close", [0, 0, 0, 0, 1])):
        asked = {"kind": "drawdown", "price": price, "threshold": 0.01 if price == "low" else 0.011}
        assert make_labels(frame, registry.resolved(TaskSpec.model_validate(asked)))[:-1].tolist() == expected


def test_a_label_that_looks_too_far_is_found_before_anything_is_trained(dataset, monkeypatch):
    check_lookahead(dataset, BANDS)
    monkeypatch.setattr(registry.TASKS.get("bands").target, "lookahead", lambda self, config: 1)
    far = registry.resolved(TaskSpec(kind="bands", horizon=3))
    assert far.lookahead == 1
    with pytest.raises(Exception, match=r"task bands: the label of bar \d+ changes with bars from \d+ on, [23] bars"):
        check_lookahead(dataset, far)


def test_the_rarest_class_counts_and_a_missing_one_is_refused(dataset, resolved):
    index = index_windows(dataset, resolved, BANDS)
    part, size = index.splits["validation"], index.effective["validation"]
    rarest = min(np.sum(part.labels_N == number) for number in range(3))
    assert size.rarer_class == size.total * rarest // len(part)
    never = registry.resolved(TaskSpec.model_validate({"kind": "bands", "context": 20, "gain": 0.9}))
    with pytest.raises(Exception, match="train holds no window of gain"):
        index_windows(dataset, resolved, never).check()


def test_scores_agree_with_scikit_learn():
    labels = RANDOM.choice(3, 500, p=[0.2, 0.5, 0.3]).astype(float)
    logits = np.eye(3)[labels.astype(int)] + RANDOM.standard_normal((500, 3))
    probability = softmax(logits, axis=1)
    scorer = Scorer(labels, days(500), task=BANDS, prior=Prior.of(labels, BANDS))
    scores, intervals = scorer.scores(logits), scorer.intervals(logits)
    assert scores.loss == pytest.approx(log_loss(labels, probability))
    assert scores.auc == pytest.approx(roc_auc_score(labels, probability, multi_class="ovr", average="macro"))
    each = [brier_score_loss(labels == number, probability[:, number]) for number in range(3)]
    assert scores.brier == pytest.approx(sum(each))
    shares = np.bincount(labels.astype(int)) / 500
    assert scores.prior_loss == pytest.approx(-(shares * np.log(shares)).sum()) == scores.own_rate_loss
    assert intervals.loss_low < scores.loss < intervals.loss_high
    assert intervals.auc_low < scores.auc < intervals.auc_high
    assert not is_collapsed(scores, intervals)
    assert not scores.squashed
    assert scorer.scores(probability).squashed
    constant = np.tile(np.log(shares), (500, 1))
    prior = scorer.scores(constant)
    assert (prior.skill, prior.auc) == (pytest.approx(0), pytest.approx(0.5))
    assert is_collapsed(prior, Intervals(**dict.fromkeys(vars(intervals))))
    two = Scorer(labels[labels < 2], days(500)[labels < 2], task=BANDS, prior=Prior.of(labels, BANDS))
    assert two.scores(logits[labels < 2]).auc is None, "a class is absent"


@pytest.mark.parametrize("name", ["bce", "cross_entropy", "label_smoothing", "focal"])
def test_losses_of_classes(make_spec, name):
    prior = Prior(1.0, 0.5, (0.5, 0.25, 0.25))
    y_B, outputs_BK = torch.tensor([0.0, 1.0, 2.0, 0.0]), torch.randn(4, 3)
    plain = make_loss(make_spec(loss=name, focal_gamma=0.0).training, "classes", prior)
    if name != "label_smoothing":  # without focusing all of them are the cross-entropy
        expected = torch.nn.functional.cross_entropy(outputs_BK, y_B.long(), reduction="sum")
        assert plain.weighted_sum(outputs_BK, y_B) == pytest.approx(float(expected), rel=1e-5)
    balanced = make_loss(make_spec(loss=name, class_weight="balanced").training, "classes", prior)
    assert balanced.total_weight(y_B) == pytest.approx(2 / 1.5 + 2 / 0.75)


def test_the_binary_focal_loss_is_that_of_two_classes(make_spec):
    spec = make_spec(loss="focal").training
    logit_B, y_B = torch.randn(6), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    binary = make_loss(spec, "binary", Prior(0.5, 0.25)).of_windows(logit_B, y_B)
    both_BK = torch.stack([torch.zeros(6), logit_B], dim=1)
    classes = make_loss(spec, "classes", Prior(0.5, 0.25, (0.5, 0.5))).of_windows(both_BK, y_B)
    torch.testing.assert_close(binary, classes)


def test_a_trial_on_classes_trains_and_is_judged(dataset, make_spec, make_trainer, make_data, finish):
    data = DataShape(n_features=len(dataset.features), context=20, n_outputs=3)
    shape = {"width": 16, "depth": 1, "heads": 2, "feed_forward": 32}
    model = budget.model_of(ModelSpec.model_validate({"patch": 10}), shape, data)
    spec = make_spec(epochs=2).model_copy(update={"task": BANDS, "model": model})
    trainer = make_trainer(spec=spec)
    rows = finish(trainer)
    assert rows[-1].values["val_auc"] > 0.5
    columns, frame = trainer.result().columns(), trainer.predictions()
    assert list(frame) == ["date", "asset", "split", "label", "logit_0", "logit_1", "logit_2"]
    validation = frame[frame["split"] == "validation"]
    probability = softmax(predictions.outputs(validation), axis=1)
    assert columns["val_loss"] == pytest.approx(log_loss(validation["label"], probability))
    assert columns["val_loss_low"] < columns["val_loss"] < columns["val_loss_high"]
    shares = make_data(BANDS, spec).label_shares
    assert [columns[f"train_share_{number}"] for number in range(3)] == pytest.approx(shares)


def test_baselines_of_classes_give_a_logit_each(dataset, resolved):
    index = index_windows(dataset, resolved, BANDS)
    found = {one.name: one for one in baselines.predict(dataset, index)}
    prior = Prior.of(index.splits["train"].labels_N, BANDS)
    part = index.splits["validation"]
    scorer = Scorer(part.labels_N, part.dates_N, task=BANDS, prior=prior)
    scores = {name: scorer.scores(one.outputs["validation"]) for name, one in found.items()}
    assert scores["prior"].skill == pytest.approx(0)
    assert scores["volatility"].auc > 0.55, "how much prices move says how often a band is left"
    assert all(one.outputs["test"].shape == (len(index.splits["test"]), 3) for one in found.values())


def test_specifications_of_before_say_what_they_said_and_their_text_stays():
    old = {"kind": "regression", "threshold": 0.01, "price": "high", "context": 60, "horizon": 5}
    task = ResolvedTask.model_validate(old)
    assert (task.outcome, task.lookahead, task.n_classes, task.n_outputs) == ("value", 5, 0, 1)
    assert task.model_dump(mode="json") == old
    new = BANDS.model_dump(mode="json")
    assert new["classes"] == ["loss", "neutral", "gain"]
    assert ResolvedTask.model_validate(new) == BANDS
    with pytest.raises(ValueError, match="three classes or more"):
        ResolvedTask.model_validate({**old, "classes": ["a", "b"]})
