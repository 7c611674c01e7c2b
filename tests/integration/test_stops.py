"""Stops: a terminal that is gone, commands from another one, files that something else changes or removes."""

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import ONE, Workplace, same
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow


def test_a_terminal_that_is_gone_ends_nothing_and_is_no_disk(workplace: Workplace) -> None:
    """A write to it is an input/output error (EIO), as on a disk that fails; and `nohup` ignores its SIGHUP.

    A signal while the report is built does not change the end, either. Output that nobody reads: test_output.py.
    """
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["nohup", *workplace.command("sweep", "sweep.yaml", *ONE)],
        cwd=workplace.folder, env=workplace.environment() | {"TERM": "xterm"}, stdin=subprocess.DEVNULL,
        stdout=slave, stderr=slave, start_new_session=True, text=True,
    )  # fmt: skip
    workplace.started.append(process)
    os.close(slave)
    os.read(master, 1)
    wait_for(lambda: (workplace.folder / "runs/small/.running").exists())
    os.close(master)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: any(record["kind"] == "sweep_ended" for record in workplace.ledger()))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert list(workplace.results()["status"]) == ["finished"]
    log = (workplace.folder / "runs/small/logs/driver.log").read_text()
    assert "small: 1 finished" in log
    assert "disk" not in log
    assert "SIGHUP" not in log
    assert "SIGTERM: stopping" in log
    built = (workplace.folder / "runs/small/report.html").exists()
    assert ("report   not built: isotherm report runs/small" in log) is not built
    assert "Traceback" not in log


def test_a_sweep_is_paused_loses_a_trial_and_is_stopped_from_another_terminal(
    workplace: Workplace, calm: pd.DataFrame
) -> None:
    workplace.step_s = 1.0  # three commands meet a trial of 50 steps
    process = workplace.start("sweep", "sweep.yaml", "--no-tracking", "--notify", 'echo "$1|$2" > notified')
    workplace.wait_for_checkpoint()

    def rows() -> int:
        return sum(record["kind"] == "metrics" for record in workplace.ledger())

    workplace.run("pause", "small")
    wait_for(lambda: json.loads(workplace.run("status", "small", "--json").stdout)["state"] == "paused")
    time.sleep(3)
    before = rows()
    time.sleep(3)
    assert rows() == before
    # Another driver is refused, also where something has removed the lock's file.
    for removed in (False, True):
        if removed:
            (workplace.folder / "runs" / "small" / ".lock").unlink()
        refused = workplace.run("sweep", "sweep.yaml", "--no-tracking", expect=2)
        assert f"another sweep writes here: process {process.pid}" in refused.stderr
    workplace.run("continue", "small")
    wait_for(lambda: rows() > before)
    cells = json.loads(workplace.run("status", "small", "--json").stdout)["cells"]
    key = next(cell["key"] for cell in cells if cell["status"] == "running")
    workplace.run("stop", "small", key[:6])
    wait_for(lambda: any(r["kind"] == "ended" and "isotherm stop" in r["reason"] for r in workplace.ledger()))
    workplace.run("stop", "small")
    assert process.wait(PATIENCE_S) == 3, workplace.log()
    assert "stopped by isotherm stop" in workplace.log()
    assert (workplace.folder / "notified").read_text() == "small: ended with exit code 3|3\n"
    assert [record["key"] for record in workplace.ledger() if record["kind"] == "attempt"].count(key) == 1
    workplace.run("sweep", "sweep.yaml", "--no-tracking")
    same(calm, workplace.results())
    assert [record["seq"] for record in workplace.ledger()] == list(range(len(workplace.ledger())))


def edited(path: Path) -> None:
    """As editors save: a new file, renamed over the old one; here with a changed line."""
    aside = path.with_suffix(".swp")
    aside.write_bytes(path.read_bytes().replace(b'"attempt":1', b'"attempt":7', 1))
    aside.replace(path)


def removed(path: Path) -> None:
    for _ in range(5):  # a trial may write while the folder is removed
        shutil.rmtree(path.parent, ignore_errors=True)
        time.sleep(0.05)


def test_a_changed_ledger_stops_the_sweep_and_no_record_is_lost(workplace: Workplace, calm: pd.DataFrame) -> None:
    """One trial through an editor and a removal of the whole run folder. More changes: test_rescue.py."""
    path = workplace.folder / "runs" / "small" / "ledger.jsonl"
    changes: tuple[tuple[Callable[[Path], None], str], ...] = (
        (edited, "was replaced by another file by something else"),
        (removed, "was removed by something else"),
    )
    for number, (change, words) in enumerate(changes, start=1):
        process = workplace.start("sweep", "sweep.yaml", *ONE)
        workplace.wait_for_checkpoint()
        before = workplace.ledger()
        change(path)
        assert process.wait(PATIENCE_S) == 3, workplace.log(number - 1)
        said = " ".join(workplace.log(number - 1).split())
        if change is not removed:  # where the folder is gone, something else may fail first
            assert "stopped by a change of the ledger from outside" in said
        assert words in said
        rescued = "ledger.rescued-1.jsonl"  # the next sweep takes it in
        assert f"runs/small/{rescued}" in said
        assert "Traceback" not in said
        assert len((path.parent / rescued).read_text().splitlines()) >= len(before)
        assert b"\0" not in (path.read_bytes() if path.exists() else b"")
        assert rescued in workplace.run("status", "small").stderr
    workplace.run("sweep", "sweep.yaml", *ONE)
    records = workplace.ledger()
    assert records[: len(before)] == before
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert [record["what"] for record in records if record["kind"] == "event"].count("rescued") == len(changes)
    same(calm, workplace.results())
