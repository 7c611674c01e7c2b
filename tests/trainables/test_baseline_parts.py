"""Baselines as parts: the conformance kit on what ships and on the example, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isotherm.testing import check_baseline
from trainables.baseline_registry import BASELINES, baseline
from trainables.errors import ConfigError
from trainables.parts import plugins

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "my_baseline.py"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    known, loaded = {part.name: part for part in BASELINES}, dict(plugins._loaded)
    yield
    BASELINES._parts.clear()
    BASELINES._parts.update(known)
    plugins._loaded.clear()
    plugins._loaded.update(loaded)


@pytest.mark.parametrize("name", [part.name for part in BASELINES])
def test_what_ships_keeps_the_contract(name: str) -> None:
    check_baseline(name)


def test_the_example_keeps_the_contract() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60
    plugins.load([plugins.read(EXAMPLE)])
    check_baseline("neighbours", count=5)


class Tried:
    def fit(self, windows: Any, config: Any) -> None:
        self.windows = windows

    def predict(self, windows: Any) -> Any:
        return np.zeros(len(windows))


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda self, windows: windows.labels_N, "must not depend on validation's labels"),
        (lambda self, windows: np.random.default_rng().normal(size=len(windows)), "must give the same outputs"),
        (lambda self, windows: np.zeros(3), "must give finite numbers of shape"),
        (lambda self, windows: np.full(len(windows), np.nan), "must give finite numbers of shape"),
        (lambda self, windows: windows.nothing, "fails with AttributeError"),
    ],
)
def test_the_kit_finds_what_is_wrong(predict: Any, message: str) -> None:
    baseline("tried")(type("Broken", (Tried,), {"predict": predict}))
    with pytest.raises(AssertionError, match=message):
        check_baseline("tried")


def test_a_class_without_predict_is_refused() -> None:
    with pytest.raises(ConfigError, match="it has no method predict"):
        baseline("half")(type("Half", (), {"fit": lambda self, windows, config: None}))
