"""A conformance kit: holds a task against what Isotherm relies on.

Array names: T bars.
"""

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.schema import TaskSpec
from trainables.tasks import lookahead, registry
from trainables.tasks.registry import TASKS, Task

BARS = 600
SEEDS = (0, 1)
LONGEST = 200  # bars of lookahead that are checked: further, too few bars would be left before a cut


def check_task(part: str | type[Any], **config: Any) -> None:
    """Return if a task keeps its contract.

    Checked on random bars: one label a bar, of its outcome, with each class among them; no use of bars beyond its
    lookahead, by changing and by taking away the future; labels that are not known exactly where too few bars follow;
    equal labels from equal bars, which it leaves as they are; a config that survives pickle.

    Args:
        part: the registered class, or its name.
        config: keys of the task that differ from their defaults; `horizon`, too.

    Raises:
        AssertionError: it does not; the message says what was expected.
        InputError: it cannot be configured, or fails on the bars.
    """
    name = part if isinstance(part, str) else _name_of(part)
    asked = TaskSpec.model_validate({"kind": name, **config})
    spec, chosen = registry.resolved(asked), Task.of(asked)
    assert pickle.loads(pickle.dumps(chosen.config)) == chosen.config, "the config must survive pickle"
    assert spec.lookahead <= LONGEST, f"a lookahead of {spec.lookahead} bars is too long to be checked; give less"
    found = [_check_labels(chosen, _bars(seed), spec.lookahead, spec.n_classes) for seed in SEEDS]
    known = np.concatenate(found)
    if spec.n_classes:
        missing = sorted(set(range(spec.n_classes)) - set(known.astype(int)))
        assert not missing, f"no label of class {', '.join(map(str, missing))} among {len(known)} random bars"
    else:
        assert known.std() > 0, "all labels are one number"


def _name_of(target: type[Any]) -> str:
    names = [part.name for part in TASKS if part.target is target]
    assert names, f"{target.__name__} is not registered; decorate it with isotherm.task"
    return names[0]


def _check_labels(chosen: Task, bars: pd.DataFrame, ahead: int, n_classes: int) -> npt.NDArray[np.float64]:
    before = bars.copy()
    again_T, labels_T = lookahead.labels(chosen, bars), np.asarray(chosen.labels(bars))
    pd.testing.assert_frame_equal(bars, before, obj="the bars, which labels must not change,")
    assert labels_T.shape == (len(bars),), f"one label a bar, ({len(bars)},), is expected, not {labels_T.shape}"
    same = np.array_equal(labels_T.astype(np.float64), again_T, equal_nan=True)
    assert same, "labels differ from one call to another"
    wrong = lookahead.wrong_values(again_T, len(bars), n_classes)
    assert not wrong, wrong
    assert np.isnan(again_T[-ahead:]).all(), f"the last {ahead} bars must have the label NaN: too few bars follow"
    assert not np.isnan(again_T[: len(bars) - ahead]).all(), "no bar has a label"
    beyond = lookahead.beyond(chosen, bars, ahead)
    assert not beyond, beyond
    _check_short(chosen, bars, ahead, again_T)
    return again_T[~np.isnan(again_T)]


def _check_short(chosen: Task, bars: pd.DataFrame, ahead: int, labels_T: npt.NDArray[np.float64]) -> None:
    """Of few bars, too: a series may be as short as that, and labels must not depend on how far it goes on."""
    for length in (1, ahead, ahead + 1, ahead + 2):
        short_T = lookahead.labels(chosen, bars.iloc[:length])
        assert short_T.shape == (length,), f"of {length} bars {length} labels are expected, not {short_T.shape}"
        expected_T = np.where(np.arange(length) < length - ahead, labels_T[:length], np.nan)
        assert np.array_equal(short_T, expected_T, equal_nan=True), (
            f"of {length} bars the labels are {short_T.tolist()}, expected are {expected_T.tolist()}: a label is known "
            f"once {ahead} bars follow, and not before"
        )


def _bars(seed: int) -> pd.DataFrame:
    """A random walk with daily moves of 2 %, highs and lows around it, and volumes."""
    random = np.random.default_rng(seed)
    close_T = 100 * np.exp(np.cumsum(random.normal(0, 0.02, BARS)))
    open_T = close_T * np.exp(random.normal(0, 0.005, BARS))
    return pd.DataFrame(
        {
            "date": pd.date_range("2015-01-01", periods=BARS, freq="B").astype("datetime64[ns]"),
            "open": open_T,
            "high": np.maximum(open_T, close_T) * np.exp(random.uniform(0, 0.01, BARS)),
            "low": np.minimum(open_T, close_T) * np.exp(-random.uniform(0, 0.01, BARS)),
            "close": close_T,
            "volume": random.integers(10_000, 1_000_000, BARS).astype(np.float64),
        }
    )
