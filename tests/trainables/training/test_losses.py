import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.errors import ConfigError
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior

PRIOR = Prior(0.25, 0.1875)
LOGITS = st.floats(-30, 30)


def loss_of(make_spec, outcome="binary", prior=PRIOR, **training):
    return make_loss(make_spec(**training).training, outcome, prior)


def mean(loss, logits, labels):
    outputs, y = torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)
    return float(loss.weighted_sum(outputs, y) / loss.total_weight(y))


def cross_entropy(logit, label):
    probability = 1 / (1 + math.exp(-logit))
    return -math.log(probability if label else 1 - probability)


def test_cross_entropy_is_the_likelihood_of_the_logit(make_spec):
    logits, labels = [-2.0, 0.0, 1.5, 3.0], [0, 1, 1, 0]
    expected = np.mean([cross_entropy(*pair) for pair in zip(logits, labels, strict=True)])
    assert mean(loss_of(make_spec), logits, labels) == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_give_both_classes_the_same_say(make_spec):
    labels = torch.tensor([1.0] * 25 + [0.0] * 75)
    loss = loss_of(make_spec, class_weight="balanced")
    total = loss.total_weight(labels)
    assert total == pytest.approx(100)  # the mean weight is 1
    assert loss.total_weight(labels[:25]) == pytest.approx(float(total) / 2)


def test_balanced_weights_enter_the_loss(make_spec):
    expected = (2.0 * cross_entropy(0.7, 1) + (2 / 3) * cross_entropy(0.2, 0)) / (2.0 + 2 / 3)
    assert mean(loss_of(make_spec, class_weight="balanced"), [0.7, 0.2], [1, 0]) == pytest.approx(expected, rel=1e-6)


def test_focal_loss_is_that_of_the_paper(make_spec):
    loss = loss_of(make_spec, loss="focal", focal_gamma=2.0)
    p = 1 / (1 + math.exp(-1.2))
    assert mean(loss, [1.2], [1]) == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-5)
    assert mean(loss, [1.2], [0]) == pytest.approx(-(p**2) * math.log(1 - p), rel=1e-5)


@settings(deadline=None)
@given(logits=st.lists(LOGITS, min_size=1, max_size=8), positive=st.booleans())
def test_focal_loss_without_focus_is_cross_entropy(make_spec, logits, positive):
    labels = [float(positive)] * len(logits)
    focal = mean(loss_of(make_spec, loss="focal", focal_gamma=0.0), logits, labels)
    assert focal == pytest.approx(mean(loss_of(make_spec), logits, labels), rel=1e-5, abs=1e-6)


@settings(deadline=None)
@given(logit=st.floats(-200, 200), positive=st.booleans(), gamma=st.floats(0, 5))
def test_the_gradient_of_the_focal_loss_is_finite_however_sure_the_model_is(make_spec, logit, positive, gamma):
    outputs = torch.tensor([logit], dtype=torch.float32, requires_grad=True)
    loss = loss_of(make_spec, loss="focal", focal_gamma=gamma)
    loss.weighted_sum(outputs, torch.tensor([float(positive)])).backward()
    assert torch.isfinite(outputs.grad).all()


def test_regression_learns_the_standardised_label(make_spec):
    loss = loss_of(make_spec, outcome="value", prior=Prior(0.001, 0.0004))
    assert mean(loss, [0.0, 1.0], [0.021, 0.001]) == pytest.approx(1.0, rel=1e-5)  # off by one deviation each
    assert mean(loss, [1.0], [0.021]) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("setting", [{"loss": "focal"}, {"class_weight": "balanced"}])
def test_regression_refuses_what_only_classes_have(make_spec, setting):
    with pytest.raises(ConfigError, match=f"training.{next(iter(setting))}"):
        loss_of(make_spec, outcome="value", **setting)
