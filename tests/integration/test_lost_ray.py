"""Ray's own processes killed or suspended in mid-run: the sweep says so, ends with 3, and leaves nothing behind."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.integration.workplace import ONE, Descendants, Workplace, command_line, same
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def folder_of_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r-") as base:
        monkeypatch.setenv("RAY_TMPDIR", base)
        monkeypatch.setenv("TMPDIR", base)  # Tune's
        yield Path(base)


@pytest.mark.parametrize(
    ("process", "name", "number"),
    [
        ("raylet/raylet", "raylet", signal.SIGKILL),
        ("gcs_server", "GCS", signal.SIGKILL),
        ("DashboardAgent", "agent", signal.SIGKILL),
        ("raylet/raylet", "raylet", signal.SIGSTOP),
    ],
)
def test_a_lost_process_of_ray_ends_the_sweep_with_the_reason(
    workplace: Workplace, calm: pd.DataFrame, folder_of_ray: Path, process: str, name: str, number: signal.Signals
) -> None:
    # one that is suspended is noticed after 30 s
    longer = () if number is signal.SIGKILL else ("--set", "training.epochs=20")
    driver = workplace.start("sweep", "sweep.yaml", *ONE, *longer)
    workplace.wait_for_checkpoint()
    started = Descendants.of(driver.pid)
    children = psutil.Process(driver.pid).children(recursive=True)
    [victim] = [one for one in children if process in command_line(one).split(" ")[0]]
    victim.send_signal(number)
    assert driver.wait(PATIENCE_S) == 3, workplace.log()
    log = " ".join(workplace.log().split())
    assert "stopped by the loss of Ray's" in log
    assert f"Ray's {name} (process {victim.pid})" in log, "and others that ended with it"
    assert ("which died or w" if number is signal.SIGKILL else "suspended for 30 s") in log
    assert "resume with: isotherm sweep sweep.yaml" in log
    assert "Traceback" not in log
    assert "failed" not in log
    ends = [record for record in workplace.ledger() if record["kind"] in ("ended", "sweep_ended")]
    assert ends[-2]["status"] == "interrupted"
    assert ends[-1]["exit_code"] == 3
    assert set(workplace.results()["status"]) == {"interrupted"}
    wait_for(lambda: not started.alive)
    assert not list(folder_of_ray.glob("isotherm-*")), "Ray's folder and Tune's"
    if (name, number) == ("raylet", signal.SIGKILL):
        workplace.run("sweep", "sweep.yaml", *ONE)
        same(calm, workplace.results())
