"""Stops: signals to all processes at once, a closed terminal, output that nobody reads, files removed in mid-run."""

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from contextlib import suppress

import pandas as pd
import psutil
import pytest

from tests.integration.workplace import LONGER, Workplace, same, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def everybody(driver: int) -> list[psutil.Process]:
    process = psutil.Process(driver)
    return [*process.children(recursive=True), process]


def ended(place: Workplace) -> list[str]:
    return [record["status"] for record in place.ledger() if record["kind"] == "ended"]


def test_signals_to_all_processes_at_once_save_every_trial(workplace: Workplace, calm: pd.DataFrame) -> None:
    """SIGTERM: systemd and Slurm; SIGHUP: a closed terminal; SIGINT: Ctrl-C in it. One sweep goes through all three."""
    for number, name in enumerate(("SIGTERM", "SIGHUP", "SIGINT")):
        before = workplace.checkpoints()
        process = workplace.start("sweep", "sweep.yaml", *LONGER)
        wait_for(lambda: workplace.checkpoints() - before)  # noqa: B023
        for one in everybody(process.pid):
            with suppress(psutil.Error):
                one.send_signal(signal.Signals[name])
        assert process.wait(timeout=180) == 3, workplace.log(number)
        assert ended(workplace).count("interrupted") > number
        assert "failed" not in ended(workplace)
        assert f"stopped by {name}" in workplace.log(number)
        assert "Traceback" not in workplace.log(number)
        wait_for(lambda: not workplace.workers())
    workplace.run("sweep", "sweep.yaml", *LONGER)
    same(calm, workplace.results())


def test_an_ignored_sighup_stays_ignored(workplace: Workplace) -> None:
    command = workplace.command("sweep", "sweep.yaml", "--no-tracking")
    with (workplace.folder / "out").open("w") as out:
        process = subprocess.Popen(
            ["nohup", *command], cwd=workplace.folder, env=workplace.environment(), stdout=out, stderr=out, text=True
        )
    workplace.started.append(process)
    wait_for(lambda: (workplace.folder / "runs/small/.running").exists())
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=240) == 0, (workplace.folder / "out").read_text()


def test_a_reader_that_has_seen_enough_ends_nothing(workplace: Workplace) -> None:
    """`isotherm sweep sweep.yaml 2>&1 | head -1`."""
    process = subprocess.Popen(
        workplace.command("sweep", "sweep.yaml", "--no-tracking"),
        cwd=workplace.folder, env=workplace.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    workplace.started.append(process)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=240) == 0
    assert list(workplace.results()["status"]) == ["finished", "finished"]
    log = (workplace.folder / "runs/small/logs/driver.log").read_text()
    assert "small: 2 finished" in log
    assert "report.html" in log


def test_a_terminal_that_is_gone_ends_nothing_and_is_no_disk(workplace: Workplace) -> None:
    """A write to it is an input/output error (EIO), as on a disk that fails."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["nohup", *workplace.command("sweep", "sweep.yaml", "--no-tracking")],
        cwd=workplace.folder, env=workplace.environment() | {"TERM": "xterm"}, stdin=subprocess.DEVNULL,
        stdout=slave, stderr=slave, start_new_session=True, text=True,
    )  # fmt: skip
    workplace.started.append(process)
    os.close(slave)
    os.read(master, 1)
    wait_for(lambda: (workplace.folder / "runs/small/.running").exists())
    os.close(master)
    assert process.wait(timeout=240) == 0
    assert list(workplace.results()["status"]) == ["finished", "finished"]
    log = (workplace.folder / "runs/small/logs/driver.log").read_text()
    assert "small: 2 finished" in log
    assert "disk" not in log


def test_a_signal_while_the_report_is_built_does_not_change_the_end(workplace: Workplace) -> None:
    process = workplace.start("sweep", "sweep.yaml", "--no-tracking")
    wait_for(lambda: any(record["kind"] == "sweep_ended" for record in workplace.ledger()), timeout=240)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=180) == 0, workplace.log()
    assert "SIGTERM: stopping" in workplace.log()
    built = (workplace.folder / "runs/small/report.html").exists()
    assert ("report   not built: isotherm report runs/small" in workplace.log()) is not built
    assert "Traceback" not in workplace.log()


def test_a_sweep_is_paused_loses_a_trial_and_is_stopped_from_another_terminal(
    workplace: Workplace, calm: pd.DataFrame
) -> None:
    process = workplace.start("sweep", "sweep.yaml", *LONGER, "--notify", 'echo "$1|$2" > notified')
    wait_for(workplace.has_checkpoint)

    def rows() -> int:
        return sum(record["kind"] == "metrics" for record in workplace.ledger())

    workplace.run("pause", "small")
    wait_for(lambda: json.loads(workplace.run("status", "small", "--json").stdout)["state"] == "paused")
    time.sleep(3)
    before = rows()
    time.sleep(3)
    assert rows() == before
    workplace.run("continue", "small")
    wait_for(lambda: rows() > before)
    cells = json.loads(workplace.run("status", "small", "--json").stdout)["cells"]
    key = next(cell["key"] for cell in cells if cell["status"] == "running")
    workplace.run("stop", "small", key[:6])
    wait_for(lambda: any(r["kind"] == "ended" and "isotherm stop" in r["reason"] for r in workplace.ledger()))
    workplace.run("stop", "small")
    assert process.wait(timeout=180) == 3, workplace.log()
    assert "stopped by isotherm stop" in workplace.log()
    assert (workplace.folder / "notified").read_text() == "small: ended with exit code 3|3\n"
    assert [record["key"] for record in workplace.ledger() if record["kind"] == "attempt"].count(key) == 1
    workplace.run("sweep", "sweep.yaml", *LONGER)
    same(calm.drop(columns="marks"), workplace.results().drop(columns="marks"))  # of the throughput, while it waited


def test_a_removed_run_folder_stops_the_sweep_and_every_record_is_kept(workplace: Workplace) -> None:
    process = workplace.start("sweep", "sweep.yaml", *LONGER)
    wait_for(workplace.has_checkpoint)
    before = len(workplace.ledger())
    for _ in range(5):  # a trial may write while it is removed
        shutil.rmtree(workplace.folder / "runs" / "small", ignore_errors=True)
        time.sleep(0.05)
    assert process.wait(timeout=180) == 3, workplace.log()
    assert "ledger.jsonl was removed by something else" in workplace.log().replace("\n", " ")
    rescued = workplace.folder / "runs/small/ledger.rescued-1.jsonl"
    assert len(rescued.read_text().splitlines()) > before
    assert "Traceback" not in workplace.log()
    workplace.run("sweep", "sweep.yaml", *LONGER)
    assert list(workplace.results()["status"]) == ["finished", "finished"]
