"""A sweep on a bad day: a full disk, a worker that hangs, a second signal, a driver that is killed."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from runner.host.memory_limits import usable_cores
from tests.chaos.files import fill
from tests.integration.workplace import ONE, Workplace, same
from tests.waiting import PATIENCE_S, wait_for
from trainables.data import catalog, windows
from trainables.data.dataset import CatalogEntry
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training.gate import NullGate
from trainables.training.loop import Trainer

pytestmark = pytest.mark.slow

DISK_BYTES = 200_000_000  # with less than 100 MB free the doctor refuses a sweep


class SmallDisk:
    """A file system of its own, in memory, that can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        fill(self._ballast)

    def empty(self) -> None:
        self._ballast.unlink()

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.folder)], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "isotherm-test", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield SmallDisk(tmp_path)
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.fixture
def place(disk: SmallDisk) -> Iterator[Workplace]:
    place = Workplace(disk.folder)
    place.write()
    yield place
    place.stop()


def test_trials_wait_for_a_full_disk_and_go_on(disk: SmallDisk, place: Workplace, calm: pd.DataFrame) -> None:
    process = place.start("sweep", "sweep.yaml", *ONE)
    place.wait_for_checkpoint()
    disk.fill()
    # The log lies on the full disk, too; what tells is that nothing is written any more.
    records = -1
    while records != (records := len(place.ledger())):
        time.sleep(6)
    assert process.poll() is None
    disk.empty()
    assert process.wait(PATIENCE_S) == 0, place.log()
    same(calm, place.results())
    assert list(place.results()["attempts"]) == [1], "nobody was started again"


def test_a_disk_that_stays_full_ends_the_sweep_resumably(disk: SmallDisk, place: Workplace, calm: pd.DataFrame) -> None:
    log = place.folder.parent / f"{place.folder.name}.log"
    command = place.command("sweep", "sweep.yaml", *ONE, "--set", "execution.disk_timeout_s=3")
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=place.folder, env=place.disturbed(), stdout=output, stderr=output, text=True
        )
    place.started.append(process)
    wait_for(place.has_checkpoint)
    disk.fill()
    assert process.wait(PATIENCE_S) == 3, log.read_text()
    text = log.read_text()
    assert "No space left on device" in text
    given = "--set 'grid.budget=[20k]' --set execution.disk_timeout_s=3 --no-tracking"
    assert f"resume with: isotherm sweep sweep.yaml {given}\n" in text
    assert "Traceback" not in text
    disk.empty()
    wait_for(lambda: not place.workers())
    place.run("sweep", "sweep.yaml", *ONE)
    same(calm, place.results())


def test_a_read_only_disk_is_refused_before_anything_starts(disk: SmallDisk, place: Workplace) -> None:
    place.run("data", "prepare", "sweep.yaml")
    disk.remount("ro")
    refused = place.run("sweep", "sweep.yaml", *ONE, expect=2)
    assert "Read-only file system" in refused.stderr
    assert "nothing was started" in refused.stderr
    disk.remount("rw")
    (disk.folder / "runs").write_text("a file where the folder of the runs is to be")
    refused = place.run("sweep", "sweep.yaml", *ONE, expect=2)
    assert "runs is no folder" in refused.stderr
    assert "fix: " in refused.stderr


def test_a_worker_that_hangs_is_ended_and_its_trial_goes_on(workplace: Workplace, calm: pd.DataFrame) -> None:
    process = workplace.start("sweep", "sweep.yaml", *ONE, "--set", "execution.stall_timeout_s=20")
    workplace.wait_for_checkpoint()
    workplace.trial_worker().suspend()
    assert process.wait(PATIENCE_S) == 0, workplace.log()
    same(calm, workplace.results())
    failed, *_ = [record for record in workplace.ledger() if record.get("status") == "failed"]
    assert "no answer for" in failed["reason"]
    assert "stall_timeout_s" in failed["reason"]
    assert 0 < len(failed["log"]) <= 50


def test_a_trial_that_always_dies_is_failed_with_its_last_words(workplace: Workplace) -> None:
    """The predictions' folder of one trial is a file: its worker fails at the end, again and again."""
    process = workplace.start("sweep", "sweep.yaml", "--no-tracking", "--set", "execution.max_attempts=2")
    wait_for(lambda: len([one for one in workplace.ledger() if one["kind"] == "attempt"]) > 0)
    keys = {one["name"]: one["key"] for one in workplace.ledger() if one["kind"] == "cell"}
    (workplace.folder / "runs" / "small" / "predictions" / f"{keys['20k-h1-s0']}.parquet").mkdir()
    assert process.wait(PATIENCE_S) == 1, workplace.log()
    table = workplace.results()
    assert list(table["status"]) == ["failed", "finished"]
    report = (workplace.folder / "runs" / "small" / "report.html").read_text()
    assert "is a folder; a file of this name is to be written" in report, "the last log lines are in the report"


def test_a_second_signal_ends_the_driver_at_once(workplace: Workplace) -> None:
    process = workplace.start("sweep", "sweep.yaml", *ONE)
    workplace.wait_for_checkpoint()
    workplace.trial_worker().suspend()  # so that the drain has to wait for its whole budget
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: "once more: stop at once" in workplace.log())
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM
    wait_for(lambda: not workplace.workers())


@pytest.mark.skipif(usable_cores() < 2, reason="a core for each process of the trial")
def test_a_trial_over_two_processes_goes_on_where_one_is_killed(workplace: Workplace) -> None:
    """It ends with the numbers of one process that was not disturbed."""
    over_two = ("--set", "execution.devices_per_trial=2", "--set", "model.dropout=0")
    process = workplace.start("sweep", "sweep.yaml", *ONE, *over_two)
    workplace.wait_for_checkpoint()
    [rank] = [one for one in workplace.trial_worker().children() if "spawn_main" in " ".join(one.cmdline())]
    rank.kill()
    assert process.wait(PATIENCE_S) == 0, workplace.log()
    assert not rank.is_running()

    [row] = workplace.results().to_dict("records")
    ends = [one for one in workplace.ledger() if one["kind"] == "ended" and one["key"] == row["key"]]
    assert [one["status"] for one in ends] == ["failed", "finished"]
    assert "rank 1 of 2 ended with code -9" in ends[0]["reason"]
    [cell] = [one for one in workplace.ledger() if one["kind"] == "cell" and one["key"] == row["key"]]
    [attempt, again] = [one for one in workplace.ledger() if one["kind"] == "attempt" and one["key"] == row["key"]]
    assert attempt["execution"]["devices"] == again["execution"]["devices"] == 2

    spec, started = TrialSpec.model_validate(cell["spec"]), workplace.ledger()[0]
    entry, record = CatalogEntry.model_validate(started["datasets"][0]), attempt["execution"] | {"devices": 1}
    data = windows.build(catalog.load(entry, workplace.folder / "data"), spec.data, spec.task, torch.device("cpu"))
    trainer = Trainer(spec, ExecutionRecord.model_validate(record), data, gate=NullGate())
    while not trainer.done:
        trainer.advance(10.0)
    alone = trainer.result().columns()
    for name in ("val_loss", "test_loss", "val_auc"):
        assert row[name] == pytest.approx(alone[name], abs=2e-5), name
