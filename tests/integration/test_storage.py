"""Sweeps with a storage behind them: another machine goes on from it, an outage loses nothing, a run can be moved."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import LONGER, SWEEP, Workplace, same, wait_for
from tests.s3 import CREDENTIALS, SECRET, S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


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
    process = first.start("sweep", "sweep.yaml", *LONGER)
    logs = (server.folder / "s3.log").read_text
    # Both trials' first checkpoints are whole in the storage: their manifests were put there and read back.
    manifest = re.compile(r"PUT /bucket/sweeps/small/checkpoints/(\w+)/checkpoint-[\d-]+/manifest")
    wait_for(lambda: len(set(manifest.findall(logs().replace("POST", "PUT")))) == 2)
    time.sleep(2)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=180)
    wait_for(lambda: not first.workers())

    second = make_machine("second", server.uri)
    plan = json.loads(second.run("plan", "sweep.yaml", *LONGER[:-1], "--json").stdout)
    assert {cell["state"] for cell in plan["cells"]} <= {"resumable", "done"}
    done = second.run("sweep", "sweep.yaml", *LONGER)
    assert "lacks a part" not in done.stdout
    same(calm, second.results())
    assert (second.results()["attempts"] > 1).any()
    resumed = (second.folder / "runs/small/logs").glob("*.log")
    assert any("brought checkpoint-0001" in log.read_text() for log in resumed)

    refused = first.run("sweep", "sweep.yaml", *LONGER, expect=2)
    assert "went different ways" in refused.stderr, "the first machine's last records never reached the storage"
    shutil.move(first.folder / "runs/small", first.folder / "aside")
    again = first.run("sweep", "sweep.yaml", *LONGER)
    assert "nothing to run" in again.stdout
    same(calm, first.results())
    assert not secret_in(first.folder)
    assert not secret_in(second.folder)


def test_a_server_that_is_killed_and_comes_back_empty_loses_nothing(
    server: S3Server, make_machine: Callable[..., Machine], calm: pd.DataFrame
) -> None:
    first = make_machine("first", server.uri)
    process = first.start("sweep", "sweep.yaml", *LONGER)
    wait_for(first.has_checkpoint)
    server.kill()
    wait_for(lambda: "cannot be reached" in first.events())
    server.start()  # it has forgotten everything
    assert process.wait(timeout=300) == 0, (first.folder / "started-0.log").read_text()
    assert "is reachable again" in first.events()
    same(calm, first.results())
    assert first.attempts() == 2, "no trial noticed"
    assert not list((first.folder / "runs/small/checkpoints").glob("*/checkpoint-*"))

    second = make_machine("second", server.uri)
    done = second.run("sweep", "sweep.yaml", *LONGER)
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
    process = first.start("sweep", "sweep.yaml", *LONGER)
    wait_for(first.has_checkpoint)
    server.hang()
    newest = max(first.folder.glob("runs/small/checkpoints/*/checkpoint-*"))
    wait_for(lambda: max(first.folder.glob("runs/small/checkpoints/*/checkpoint-*")) > newest)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 3  # the server is not waited for
    assert "lacks a part of this run" in first.log()
    wait_for(lambda: not first.workers())
    server.go_on()
    first.run("sweep", "sweep.yaml", *LONGER)
    same(calm, first.results())
    second = make_machine("second", server.uri)
    assert "nothing to run" in second.run("sweep", "sweep.yaml", *LONGER).stdout
    same(calm, second.results())


def test_a_storage_that_stays_away_is_said_and_brought_level_by_the_next_sweep(
    tmp_path: Path, make_machine: Callable[..., Machine], calm: pd.DataFrame
) -> None:
    folder = tmp_path / "mount"
    folder.mkdir()
    first = make_machine("first", str(folder))
    process = first.start("sweep", "sweep.yaml", *LONGER)
    wait_for(first.has_checkpoint)
    folder.rename(tmp_path / "away")
    code = process.wait(timeout=300)
    assert code == 3, "what is to run after this one must not believe that everything is in the storage"
    text = (first.folder / "started-0.log").read_text()
    assert "lacks a part of this run" in text
    same(calm, first.results())
    (tmp_path / "away").rename(folder)
    done = first.run("sweep", "sweep.yaml", *LONGER)
    assert "nothing to run" in done.stdout
    second = make_machine("second", str(folder))
    assert "nothing to run" in second.run("sweep", "sweep.yaml", *LONGER).stdout
    same(calm, second.results())


def test_a_run_directory_can_be_moved_and_resumed(make_machine: Callable[..., Machine], calm: pd.DataFrame) -> None:
    first, second = (Workplace(make_machine(name, "").folder) for name in ("first", "second"))
    process = first.start("sweep", "sweep.yaml", *LONGER)
    wait_for(first.has_checkpoint)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=180)
    wait_for(lambda: not first.workers())
    (second.folder / "runs").mkdir()
    shutil.move(first.folder / "runs/small", second.folder / "runs/small")
    shutil.rmtree(first.folder)
    second.run("sweep", "sweep.yaml", *LONGER)
    same(calm, second.results())
    assert (second.results()["attempts"] > 1).any()


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
        place.write(SWEEP + f"storage_path: {path}\n")
        assert words.split()[-1] in place.run("plan", "sweep.yaml", expect=2).stderr
        place.write()
    assert not (place.folder / "runs").exists()
