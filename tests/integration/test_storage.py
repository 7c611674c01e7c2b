"""Sweeps with a storage behind them: another machine goes on from it, an outage loses nothing, a run can be moved."""

import json
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import ONE, SWEEP, Workplace, same
from tests.s3 import CREDENTIALS, SECRET, S3Server
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow


@dataclass
class Machine(Workplace):
    """A machine of its own: it shares nothing with another one but the storage."""

    storage: str = ""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **CREDENTIALS, "ISOTHERM_STORAGE_PATH": self.storage}

    def events(self) -> str:
        return "\n".join(one["message"] for one in self.ledger() if one.get("what") == "storage")


@pytest.fixture
def make_machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(name: str, storage: str) -> Machine:
        (tmp_path / name).mkdir()
        machines.append(Machine(tmp_path / name, storage=storage))
        machines[-1].write()
        return machines[-1]

    yield make
    for machine in machines:
        machine.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    one = S3Server(tmp_path)
    yield one
    one.kill()


def secret_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_an_empty_machine_goes_on_from_the_storage_alone(
    server: S3Server, make_machine: Callable[..., Machine], calm: pd.DataFrame
) -> None:
    first = make_machine("first", server.uri)
    # A checkpoint has time to arrive before the next one takes its place.
    first.step_s = 1.0
    process = first.start("sweep", "sweep.yaml", *ONE, "--set", "execution.checkpoint_interval_s=3")
    logs = (server.folder / "s3.log").read_text
    # The trial's first checkpoint is whole in the storage: its manifest was put there and read back.
    manifest = re.compile(r"PUT /bucket/sweeps/small/checkpoints/(\w+)/checkpoint-[\d-]+/manifest")
    wait_for(lambda: process.poll() is not None or manifest.search(logs().replace("POST", "PUT")))
    assert process.poll() is None, first.log()

    def rows() -> int:
        return sum(record["kind"] == "metrics" for record in first.ledger())

    before = rows()  # what is added now reaches the storage some seconds later
    wait_for(lambda: process.poll() is not None or rows() > before)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    wait_for(lambda: not first.workers())

    second = make_machine("second", server.uri)
    plan = json.loads(second.run("plan", "sweep.yaml", *ONE[1:], "--json").stdout)
    assert {cell["state"] for cell in plan["cells"]} <= {"resumable", "done"}
    done = second.run("sweep", "sweep.yaml", *ONE)
    assert "lacks a part" not in done.stdout
    same(calm, second.results())
    assert (second.results()["attempts"] > 1).any()
    resumed = (second.folder / "runs/small/logs").glob("*.log")
    assert any("brought checkpoint-0001" in log.read_text() for log in resumed)

    refused = first.run("sweep", "sweep.yaml", *ONE, expect=2)
    assert "went different ways" in refused.stderr, "the first machine's last records never reached the storage"
    shutil.move(first.folder / "runs/small", first.folder / "aside")
    again = first.run("sweep", "sweep.yaml", *ONE)
    assert "nothing to run" in again.stdout
    same(calm, first.results())
    assert not secret_in(first.folder)
    assert not secret_in(second.folder)


def test_a_server_that_is_killed_and_comes_back_empty_loses_nothing(
    server: S3Server, make_machine: Callable[..., Machine], calm: pd.DataFrame
) -> None:
    first = make_machine("first", server.uri)
    process = first.start("sweep", "sweep.yaml", *ONE)
    first.wait_for_checkpoint()
    server.kill()
    wait_for(lambda: "cannot be reached" in first.events())
    server.start()  # it has forgotten everything
    assert process.wait(PATIENCE_S) == 0, (first.folder / "started-0.log").read_text()
    assert "is reachable again" in first.events()
    same(calm, first.results())
    assert first.attempts() == 1, "no trial noticed"
    assert not list((first.folder / "runs/small/checkpoints").glob("*/checkpoint-*"))

    second = make_machine("second", server.uri)
    done = second.run("sweep", "sweep.yaml", *ONE)
    assert "nothing to run" in done.stdout
    same(calm, second.results())
    for machine in (first, second):
        assert sorted(path.name for path in (machine.folder / "runs/small/predictions").iterdir())
    names = [{path.name for path in (one.folder / "runs/small/predictions").iterdir()} for one in (first, second)]
    assert names[0] == names[1]


def test_a_server_that_hangs_holds_up_neither_training_nor_a_signal(
    server: S3Server, make_machine: Callable[..., Machine], calm: pd.DataFrame
) -> None:
    first = make_machine("first", server.uri)
    process = first.start("sweep", "sweep.yaml", *ONE)
    first.wait_for_checkpoint()
    server.hang()
    newest = max(first.folder.glob("runs/small/checkpoints/*/checkpoint-*"))
    wait_for(lambda: max(first.folder.glob("runs/small/checkpoints/*/checkpoint-*")) > newest)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 3, "the server is not waited for"
    assert "lacks a part of this run" in first.log()
    wait_for(lambda: not first.workers())
    server.go_on()
    first.run("sweep", "sweep.yaml", *ONE)
    same(calm, first.results())


def test_a_storage_that_stays_away_is_said_and_brought_level_by_the_next_sweep(
    tmp_path: Path, make_machine: Callable[..., Machine], calm: pd.DataFrame
) -> None:
    folder = tmp_path / "mount"
    folder.mkdir()
    first = make_machine("first", str(folder))
    process = first.start("sweep", "sweep.yaml", *ONE)
    first.wait_for_checkpoint()
    folder.rename(tmp_path / "away")
    code = process.wait(PATIENCE_S)
    assert code == 3, "what is to run after this one must not believe that everything is in the storage"
    text = (first.folder / "started-0.log").read_text()
    assert "lacks a part of this run" in text
    same(calm, first.results())
    (tmp_path / "away").rename(folder)
    done = first.run("sweep", "sweep.yaml", *ONE)
    assert "nothing to run" in done.stdout
    second = make_machine("second", str(folder))
    assert "nothing to run" in second.run("sweep", "sweep.yaml", *ONE).stdout
    same(calm, second.results())


def test_a_store_that_cannot_be_used_is_refused_before_anything_starts(make_machine: Callable[..., Machine]) -> None:
    place = Workplace(make_machine("place", "").folder)
    for path, words in (
        ("s3://user:word@bucket/x", "must not hold user information"),
        ("s3://us:se/cr@bucket/x", "must not hold user information"),
        ("abfs://box/x?account_key=c2VjcmV0", "must not hold user information"),
        ("nosuch://host/x", "pyarrow cannot use it"),
        ("nowhere", "is no folder"),
    ):
        refused = place.run("sweep", "sweep.yaml", "--no-tracking", "--set", f"storage_path={path}", expect=2)
        assert words in refused.stderr
        assert "word@" not in refused.stderr
        assert "cr@" not in refused.stderr
    place.write(SWEEP + "storage_path: nowhere\n")
    assert "is no folder" in place.run("plan", "sweep.yaml", expect=2).stderr
    assert not (place.folder / "runs").exists()
