"""The commands that need no sweep: data, status, paths and help, as a user types them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.cli import main
from runner.host.versions import code_version
from runner.rundir.ledger import (
    AttemptStarted,
    CellEnded,
    CellRecorded,
    Ledger,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)
from tests.waiting import PATIENCE_S, wait_for

A, B = "a" * 12, "b" * 12

Write = Callable[..., Path]
ALONE = [
    "plan",
    "sweep",
    "probe",
    "debug",
    "doctor",
    "status",
    "stop",
    "pause",
    "continue",
    "report",
    "compare",
    "sync",
    "fit",
]
COMMANDS = [*ALONE, "data prepare", "data verify", "thermal watch", "thermal simulate"]


@pytest.fixture
def isotherm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["isotherm", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, isotherm: Any) -> None:
    code, text = isotherm(*command.split(), "--help")
    assert code == 0
    assert f"Example: isotherm {command}" in " ".join(text.split())


def test_the_version_names_the_commit(isotherm: Any) -> None:
    code, text = isotherm("--version")
    assert code == 0
    assert text.strip() == f"isotherm {code_version()}"


def test_data_prepare_and_verify(sweep_file: Write, folder: Path, isotherm: Any) -> None:
    sweep_file()
    assert json.loads(isotherm("data", "verify", "--json")[1])["datasets"] == []
    code, text = isotherm("data", "prepare", "sweep.yaml", "--json")
    document = json.loads(text)
    assert code == 0
    path = Path(document["path"])
    assert path.is_file()
    [dataset] = document["datasets"]
    assert dataset["rows"] == 5031
    assert len(dataset["features"]) == 20
    code, text = isotherm("data", "prepare", "sweep.yaml")
    for part in ("5,031", "1999-01-04 to 2018-12-31", "dema_9", dataset["content_sha256"]):
        assert part in text
    assert isotherm("data", "verify")[0] == 0
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))
    code, text = isotherm("data", "verify")
    assert code == 2
    assert text.startswith("BAD")


def test_status_of_a_run_that_was_killed_and_of_one_that_ended(folder: Path, isotherm: Any) -> None:
    ledger = Ledger(folder / "runs" / "r" / "ledger.jsonl")
    ledger.append(SweepStarted(run="r", keys=(A, B), config={}, code_version="1", versions={}))
    for key in (A, B):
        ledger.append(CellRecorded(key=key, name=f"cell-{key}", labels={}, sizes={}, spec={}))
    ledger.append(AttemptStarted(key=A, attempt=1, execution={}))
    ledger.append(MetricsRecorded(key=A, attempt=1, step=9, epoch=1, values={"val_loss": 0.51}))
    status = json.loads(isotherm("status", "r", "--json")[1])
    assert status["state"] == "running", "this process writes the ledger"
    assert status["counts"] == {"running": 1, "waiting": 1}
    ledger.close()
    status = json.loads(isotherm("status", "r", "--json")[1])
    assert status["state"] == "killed"
    assert "run the sweep again to resume it" in isotherm("status", "r", "--watch")[1]
    ledger = Ledger(folder / "runs" / "r" / "ledger.jsonl")
    ledger.append(CellEnded(key=A, attempt=1, status="finished", result={"skill": 0.1, "collapsed": False}))
    ledger.append(CellEnded(key=B, attempt=0, status="infeasible", reason="too few"))
    ledger.append(SweepEnded(exit_code=0, counts={"finished": 1}))
    ledger.close()
    code, text = isotherm("status", "r")
    assert code == 0
    for part in ("ended, exit code 0", "cell-a", "0.5100", "+0.1000", "infeasible", "too few"):
        assert part in text
    assert isotherm("status", "runs/r", "--json")[0] == 0, "a run is found by its folder, too"


def test_a_ledger_of_another_version_is_code_2_with_the_mend(folder: Path, isotherm: Any, capsys: Any) -> None:
    path = folder / "runs" / "r" / "ledger.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"v": 99, "kind": "sweep_started"}\n')
    code, _ = isotherm("status", "r")
    assert code == 2


def test_a_misspelt_run_or_sweep_file_is_answered_with_what_may_be_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["isotherm", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    (folder / "runs" / "quickstart").mkdir(parents=True)
    (folder / "runs" / "quickstart" / "ledger.jsonl").touch()
    assert "did you mean 'quickstart'? runs here: quickstart" in answer("status", "quikstart")
    shipped = folder / "configs" / "sweeps"
    shipped.mkdir(parents=True)
    (shipped / "budget_grid.yaml").touch()
    assert f"did you mean {Path('configs/sweeps/budget_grid.yaml')}?" in answer("plan", "budget_grd.yaml")
    assert "did you mean" in answer("probe", "budget_grd.yaml", "--budget", "2m")


def test_the_shell_can_complete_commands() -> None:
    asked = {"_ISOTHERM_COMPLETE": "complete_bash", "COMP_WORDS": "isotherm swe", "COMP_CWORD": "1"}  # as bash asks
    command = [str(Path(sys.executable).with_name("isotherm"))]
    done = subprocess.run(
        command, env=os.environ | asked, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout == "sweep\n"


@pytest.mark.parametrize(("name", "delay_s"), [("SIGTERM", 0.0), ("SIGTERM", 1.5), ("SIGINT", 0.0)])
def test_a_signal_in_the_first_seconds_of_a_sweep_is_an_end_to_be_resumed(
    sweep_file: Write, folder: Path, name: str, delay_s: float
) -> None:
    command = [sys.executable, "-m", "runner", "sweep", str(sweep_file()), "--no-tracking"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    number = signal.Signals[name]
    handled = re.compile(r"SigCgt:\s*([0-9a-f]+)")
    status = Path(f"/proc/{process.pid}/status")
    wait_for(lambda: int(handled.findall(status.read_text())[0], 16) & 1 << (signal.SIGTERM - 1))
    time.sleep(delay_s)
    process.send_signal(number)
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 3, output
    assert "Traceback" not in output
    assert not (folder / "runs").exists() or not any((folder / "runs").rglob(".running"))
