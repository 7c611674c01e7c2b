"""The short form of `make chaos`: a few random kills, and a few torn ends."""

from pathlib import Path

import pandas as pd
import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.storm import make_place, seeded, through
from tests.integration.workplace import LONGER, SWEEP

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize("name", ["kill", "tear"])
def test_a_sweep_comes_through_a_storm_with_the_same_bits(name: str, tmp_path: Path, calm: pd.DataFrame) -> None:
    fault = FAULTS[name](make_place(tmp_path / "place", SWEEP), seeded(7, name))
    fault.pause_s = (0.2, 1.0)  # the sweep lasts a few seconds
    outcome = through(fault, 2, LONGER[:-1], (calm, 0.0))
    assert outcome.faults >= 1, "on a fast machine the sweep may be over before the second"
    assert outcome.exits[-1] == 0
