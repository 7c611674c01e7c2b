"""A real sweep with a search, killed in the middle and run again."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.integration.workplace import SWEEP, Workplace
from tests.waiting import wait_for

SEARCH = """
search:
  space:
    training.lr: {low: 1.0e-4, high: 1.0e-1, log: true}
  trials: 4
  pruner: asha
"""
SEARCHED = (
    SWEEP.replace("context: 60}", "context: 20}\nmodel: {name: mlp}").replace("budget: [20k, 60k]", "budget: [20k]")
    + SEARCH
)


def suggested(records: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(one["study"], one["number"], one["key"]) for one in records if one["kind"] == "suggested"]


def winners(records: list[dict[str, Any]]) -> dict[str, tuple[int, list[str]]]:
    return {one["study"]: (one["number"], one["keys"]) for one in records if one["kind"] == "winner"}


@pytest.fixture
def one_core() -> Iterator[None]:
    """One core, and so one trial at a time: what a suggestion knows is then the same in every run."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.slow
@pytest.mark.usefixtures("one_core")
def test_a_killed_search_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    calm, killed = (Workplace(tmp_path / name, slow=False) for name in ("calm", "killed"))
    for place in (calm, killed):
        place.folder.mkdir()
        place.write(SEARCHED)
    calm.run("sweep", "sweep.yaml", "--no-tracking")
    driver = killed.start("sweep", "sweep.yaml", "--no-tracking")
    try:
        wait_for(lambda: len(suggested(killed.ledger())) >= 2)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        wait_for(lambda: not killed.workers())
    finally:
        killed.stop()
    killed.run("sweep", "sweep.yaml", "--no-tracking")
    assert sorted(suggested(killed.ledger())) == sorted(suggested(calm.ledger()))
    assert winners(killed.ledger()) == winners(calm.ledger())
    for place in (calm, killed):
        table = place.results()
        assert len(suggested(place.ledger())) == 4
        assert (table["role"] == "confirmed").sum() == 1
        assert set(table.loc[table["role"] == "confirmed", "status"]) == {"finished"}
        assert set(table["status"]) <= {"finished", "pruned"}
        assert set(table.loc[table["status"] == "pruned", "epochs"]) == {1}, "no trial trains beyond where it is pruned"
        run = place.folder / "runs" / "small"
        assert "## Winners of the search" in (run / "report.md").read_text()
        assert {"search_losses_1.png"} <= {path.name for path in (run / "figures").glob("search_*.png")}
        won = pd.read_csv(run / "winners.csv")
        assert len(won) == 1
        many = won[won["deflated"].notna()]  # of studies with one finished trial nothing was chosen
        assert (many["deflated"] > many["searched"] - 0.005).all(), "a mean of resamples, which has noise"
        assert (many["deflated_low"] <= many["deflated"]).all()
