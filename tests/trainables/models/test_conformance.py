"""The kit finds what it is made to find, and nothing in what ships or in the example."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

import isotherm
from isotherm.testing import check_architecture
from trainables.errors import ConfigError
from trainables.models.registry import ARCHITECTURES
from trainables.parts import plugins

EXAMPLE = Path(__file__).parents[3] / "examples" / "my_architecture.py"
numbers = itertools.count()


class Net(nn.Module):
    """A small model that keeps the contract; tests break one thing each."""

    def __init__(self, shape, config, data):
        super().__init__()
        self.embedding = nn.Linear(data.context * data.n_features + data.n_window_stats, shape.width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(shape.width, shape.feed_forward), nn.GELU(), nn.Linear(shape.feed_forward, shape.width)
            )
            for _ in range(shape.depth)
        )
        self.head = nn.Linear(shape.width, data.n_outputs)

    def forward(self, x_BLF, stats_BS=None):
        inputs = [x_BLF.flatten(1)] if stats_BS is None else [x_BLF.flatten(1), stats_BS]
        x_BD = self.embedding(torch.cat(inputs, dim=1))
        for block in self.blocks:
            x_BD = x_BD + block(x_BD)
        return self.head(x_BD).squeeze(-1)


@pytest.fixture
def register():
    """Registers a class under a name of its own, and forgets it again."""
    names = []

    def make(net, **attributes):
        attributes = {"Shape": isotherm.Blocks, "build": lambda self, *parts: net(*parts)} | attributes
        name = f"kit{next(numbers)}"
        names.append(name)
        return isotherm.architecture(name)(type("Own", (), {"__module__": __name__, **attributes}))

    yield make
    for name in names:
        ARCHITECTURES._parts.pop(name, None)


@pytest.mark.parametrize("name", [part.name for part in ARCHITECTURES])
def test_what_ships_keeps_the_contract(name):
    check_architecture(name)


def test_the_example_keeps_the_contract_and_is_short():
    plugins.load([plugins.read(EXAMPLE)])
    check_architecture("tcn", kernel=5)
    assert len(EXAMPLE.read_text().splitlines()) < 60


def test_a_sound_class_passes(register):
    check_architecture(register(Net), target=20_000)


def test_a_model_without_feed_forward_meets_budgets_by_its_width(register):
    class Plain(Net):
        def __init__(self, shape, config, data):
            super().__init__(shape, config, data)
            self.blocks = nn.ModuleList(nn.Linear(shape.width, shape.width) for _ in range(shape.depth))

    for target in (30_000, 200_000, 1_000_000):
        check_architecture(register(Plain), target=target)


class Unused(Net):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.extra = nn.Linear(3, 3)


class Unseeded(Net):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.head.weight.data.fill_(float(next(numbers)))


class Batchwise(Net):
    def forward(self, x_BLF, stats_BS=None):
        return super().forward(x_BLF - x_BLF.mean(0), stats_BS)


class Column(Net):
    def forward(self, x_BLF, stats_BS=None):
        return super().forward(x_BLF, stats_BS)[:, None]


class Infinite(Net):
    def forward(self, x_BLF, stats_BS=None):
        return super().forward(x_BLF, stats_BS) / 0.0


class Stray(Net):
    def forward(self, x_BLF, stats_BS=None):
        return super().forward(x_BLF + torch.ones(x_BLF.shape[1:]), stats_BS)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (Unused, "no gradient reaches extra.weight"),
        (Unseeded, "head.weight differs between two models of one seed"),
        (Batchwise, "must not depend on its neighbours"),
        (Column, "outputs have shape"),
        (Infinite, "must be finite"),
        (Stray, "on another device the forward pass fails"),
    ],
)
def test_a_breach_is_found_and_named(register, net, expected):
    with pytest.raises(AssertionError, match=expected):
        check_architecture(register(net), target=20_000)


def test_a_ladder_that_falls_is_found(register):
    def ladder(self, config, data):
        return [isotherm.Blocks(width=width, depth=1, feed_forward=8) for width in (16, 8, 64)]

    with pytest.raises(AssertionError, match="the ladder must ascend"):
        check_architecture(register(Net, ladder=ladder), target=20_000)


def test_a_build_that_reads_values_is_refused_with_the_way_out(register):
    def build(self, shape, config, data):
        return Net(shape, config, data).head.weight.sum().item()

    with pytest.raises(ConfigError, match=r"build fails at .* on the meta device") as caught:
        check_architecture(register(Net, build=build), target=20_000)
    assert "read no values while building" in str(caught.value)
