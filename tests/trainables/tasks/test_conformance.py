"""The kit finds what it is made to find, and nothing in what ships or in the example."""

import itertools
from pathlib import Path

import numpy as np
import pytest

import isotherm
from isotherm.testing import check_task
from trainables.errors import ConfigError
from trainables.parts import plugins
from trainables.tasks.registry import TASKS

EXAMPLE = Path(__file__).parents[3] / "examples" / "my_task.py"
numbers = itertools.count()


class Config(isotherm.PartConfig):
    horizon: int = 1


def rises(self, bars, config):
    later = bars["close"].shift(-config.horizon)
    return (later > bars["close"]).astype(float).where(later.notna()).to_numpy()


@pytest.fixture
def register():
    """Registers a class under a name of its own, and forgets it again."""
    known, loaded = {part.name: part for part in TASKS}, dict(plugins._loaded)

    def make(labels=rises, lookahead=lambda self, config: config.horizon, **attributes):
        parts = {"__module__": __name__, "Config": Config, "labels": labels, "lookahead": lookahead, **attributes}
        return isotherm.task(f"kit{next(numbers)}")(type("Own", (), parts))

    yield make
    TASKS._parts.clear()
    TASKS._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


@pytest.mark.parametrize("horizon", [1, 5])
@pytest.mark.parametrize("name", [part.name for part in TASKS])
def test_what_ships_keeps_the_contract(name, horizon):
    check_task(name, horizon=horizon)


def test_the_example_keeps_the_contract_and_is_short(register):
    plugins.load([plugins.read(EXAMPLE)])
    check_task("burst")
    check_task("burst", horizon=3, times=1.0, memory=20)
    with pytest.raises(ConfigError, match="greater than 0"):
        check_task("burst", times=0)
    assert len(EXAMPLE.read_text().splitlines()) < 60


def too_far(self, bars, config):
    return rises(self, bars, Config(horizon=config.horizon + 1))


def complete(self, bars, config):
    return np.nan_to_num(rises(self, bars, config))


def scaled_by_all(self, bars, config):
    labels = rises(self, bars, config).copy()
    labels[~np.isnan(labels)] = (bars["close"] > bars["close"].mean())[~np.isnan(labels)]
    return labels


def changing(self, bars, config):
    bars["close"] = 1.0
    return rises(self, bars, config)


def late(self, bars, config):
    labels = rises(self, bars, config).copy()
    labels[-2 - config.horizon :] = np.nan
    return labels


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"labels": too_far}, "changes with bars from"),
        ({"labels": scaled_by_all}, "changes with bars from"),
        ({"labels": complete}, "must have the label NaN"),
        ({"labels": late}, "changes with bars from"),
        ({"labels": changing}, "must not change"),
        ({"labels": lambda self, bars, config: rises(self, bars, config)[:-1]}, "one label a bar"),
        ({"labels": lambda self, bars, config: 2 * rises(self, bars, config)}, "a label is 2; 2 classes are numbered"),
        ({"labels": lambda self, bars, config: 0 * rises(self, bars, config)}, "no label of class 1"),
        ({"labels": lambda self, bars, config: rises(self, bars, config) * np.random.rand()}, "differ from one call"),
        ({"outcome": "classes", "classes": ("a", "b", "c")}, "no label of class 2"),
        ({"lookahead": lambda self, config: 900}, "too long to be checked"),
    ],
)
def test_a_broken_task_is_found(register, parts, expected):
    check_task(register())
    with pytest.raises(AssertionError, match=expected):
        check_task(register(**parts))


def test_what_is_no_task_is_not_registered_or_not_configured(register):
    with pytest.raises(ConfigError, match="not a class with a method labels"):
        register(labels=None)
    with pytest.raises(ConfigError, match="its outcome is 'rank', not 'binary', 'classes' or 'value'"):
        register(outcome="rank")
    with pytest.raises(ConfigError, match="three different names or more"):
        register(outcome="classes", classes=("up", "down"))
    with pytest.raises(ConfigError, match="the key context, which has a meaning of its own"):
        register(Config=type("Config", (Config,), {"__annotations__": {"context": int}, "context": 3}))
    with pytest.raises(ConfigError, match="looks 0 bars ahead"):
        check_task(register(lookahead=lambda self, config: 0))
    with pytest.raises(ConfigError, match=r"failed on 600 bars: KeyError: 'clsoe'"):
        check_task(register(labels=lambda self, bars, config: bars["clsoe"]))
    with pytest.raises(ConfigError, match=r"no task 'drowdown' is registered\n.*did you mean 'drawdown'"):
        check_task("drowdown")
