"""The short form of `make chaos`: a few kills of the driver, each with torn files. Other faults: test_faults.py."""

from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.storm import make_place, seeded, through
from tests.integration.workplace import ONE, SWEEP, Workplace

pytestmark = pytest.mark.slow


def test_a_sweep_comes_through_kills_and_torn_files_with_the_same_bits(tmp_path: Path, finished: Workplace) -> None:
    fault = FAULTS["tear"](make_place(tmp_path / "place", SWEEP), seeded(7, "tear"))
    fault.place.slow = True
    fault.pause_s = (0.2, 1.0)
    outcome = through(fault, 2, ONE[1:], (finished, 0.0))
    assert outcome.faults == 2
    assert outcome.exits[-1] == 0
