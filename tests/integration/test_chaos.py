"""The short form of `make chaos`: a few kills of the driver, each with torn files. Other faults: test_faults.py."""

from pathlib import Path

import pandas as pd
import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.storm import make_place, seeded, through
from tests.integration.workplace import LONGER, SWEEP

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_sweep_comes_through_kills_and_torn_files_with_the_same_bits(tmp_path: Path, calm: pd.DataFrame) -> None:
    fault = FAULTS["tear"](make_place(tmp_path / "place", SWEEP), seeded(7, "tear"))
    fault.pause_s = (0.2, 1.0)  # the sweep lasts a few seconds
    outcome = through(fault, 2, LONGER[:-1], (calm, 0.0))
    assert outcome.faults >= 1, "on a fast machine the sweep may be over before the second"
    assert outcome.exits[-1] == 0
