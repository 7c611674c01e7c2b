"""The kit finds what it is made to find, and nothing in what ships or in the example."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import isotherm
from isotherm.testing import check_loss
from trainables.errors import ConfigError
from trainables.parts import plugins
from trainables.training.loss_registry import LOSSES

EXAMPLE = Path(__file__).parents[3] / "examples" / "my_loss.py"
numbers = itertools.count()


def cross_entropy(self, outputs_B, y_B, config):
    return F.binary_cross_entropy_with_logits(outputs_B, y_B, reduction="none")


@pytest.fixture
def register():
    """Registers a class under a name of its own, and forgets it again."""
    known, loaded = dict(LOSSES._parts), dict(plugins._loaded)

    def make(of_windows=cross_entropy, **attributes):
        target = type("Own", (), {"__module__": __name__, "of_windows": of_windows, **attributes})
        return isotherm.loss(f"kit{next(numbers)}")(target)

    yield make
    LOSSES._parts.clear()
    LOSSES._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


@pytest.mark.parametrize("name", [part.name for part in LOSSES])
def test_what_ships_keeps_the_contract(name):
    check_loss(name)


def test_the_example_keeps_the_contract_and_is_short(register):
    plugins.load([plugins.read(EXAMPLE)])
    for q in (0.05, 0.7, 1.0):
        check_loss("robust", q=q)
    with pytest.raises(ConfigError, match="less than or equal to 1"):
        check_loss("robust", q=2)
    assert len(EXAMPLE.read_text().splitlines()) < 60


def naive(self, outputs_B, y_B, config):
    p_B = torch.sigmoid(outputs_B)
    return -(y_B * torch.log(p_B) + (1 - y_B) * torch.log(1 - p_B))


def compared(self, outputs_B, y_B, config):
    return F.softplus(-(outputs_B - outputs_B.mean()) * (2 * y_B - 1))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"of_windows": lambda self, o, y, c: cross_entropy(self, o, y, c).mean()}, "one number a window"),
        ({"of_windows": naive}, "must be finite"),
        ({"of_windows": compared}, "must not depend on how a batch is taken in pieces"),
        ({"of_windows": lambda self, o, y, c: cross_entropy(self, -o, y, c)}, "must have the smaller loss"),
        ({"of_windows": lambda self, o, y, c: torch.ones(len(o))}, "no gradient reaches"),
        ({"of_windows": lambda self, o, y, c: cross_entropy(self, o, y, c) * torch.ones(len(o))}, "on another device"),
        ({"weights": lambda self, y, c: y - 1}, "weights must be at least 0"),
    ],
)
def test_a_broken_loss_is_found(register, parts, expected):
    check_loss(register())
    with pytest.raises(AssertionError, match=expected):
        check_loss(register(**parts))


def test_what_is_no_loss_is_not_registered(register):
    with pytest.raises(ConfigError, match="not a class with a method of_windows"):
        register(of_windows=None)
    with pytest.raises(ConfigError, match="its outcome is 'rank', not 'binary', 'classes' or 'value'"):
        register(outcome="rank")
