"""Runs the stages one after the other, each in a process of its own with a time budget, most important first.

A stage says what it measured row by row, and ``results.json`` is written after every row: what is cut off keeps what
it had. One stage that fails does not end the others.
"""

import contextlib
import json
import os
import platform
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.gpu.stages import STAGES
from trainables.files import replace_text

TOTAL_S = 410.0  # under seven minutes in all


def run(out: Path, device: str, names: list[str]) -> int:
    """Run stages; 0 where all of them ended well."""
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "stages": {},
    }
    deadline = time.monotonic() + TOTAL_S
    for name in names:
        budget_s = min(STAGES[name].budget_s, deadline - time.monotonic())
        stage = results["stages"][name] = {"status": "not run, no time was left", "seconds": 0.0, "rows": []}
        if budget_s > 0:
            _run_stage(command(name, device), out / f"{name}.log", budget_s, stage, lambda: _write(out, results))
        _write(out, results)
        print(f"{name:<14} {stage['status']:<28} {stage['seconds']:6.1f} s  {len(stage['rows'])} rows", flush=True)
    return 0 if all(stage["status"] == "ok" for stage in results["stages"].values()) else 1


def command(name: str, device: str) -> list[str]:
    """The process of one stage."""
    return [sys.executable, "-m", "benchmarks.gpu", "--stage", name, "--device", device]


def _run_stage(
    command: list[str], log_file: Path, budget_s: float, stage: dict[str, Any], write: Callable[[], None]
) -> None:
    began = time.monotonic()
    with log_file.open("w") as log:
        # A session of its own: a stage that is cut off takes the processes that it started with it.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        try:
            for row in _rows(process, began + budget_s):
                stage["rows"].append(row)
                stage["seconds"] = round(time.monotonic() - began, 1)
                write()
                print(f"  {json.dumps(row)}", flush=True)
            code = process.wait(timeout=max(0.1, began + budget_s - time.monotonic()))
            stage["status"] = "ok" if code == 0 else f"failed with code {code}, see {log_file.name}"
        except (TimeoutError, subprocess.TimeoutExpired):
            stage["status"] = "cut off by its budget"
        finally:
            _end(process)
    stage["seconds"] = round(time.monotonic() - began, 1)


def _rows(process: subprocess.Popen[str], deadline: float) -> Iterator[dict[str, Any]]:
    """What the stage says, until it ends.

    Raises:
        TimeoutError: the deadline has passed.
    """
    assert process.stdout is not None
    unread = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            # Not `readline`: what its buffer holds of a second line would not be seen by the selector.
            data = os.read(process.stdout.fileno(), 2**16)
            if not data:
                return
            *lines, unread = (unread + data).split(b"\n")
            yield from map(json.loads, lines)


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def _write(out: Path, results: dict[str, Any]) -> None:
    replace_text(out / "results.json", json.dumps(results, indent=1) + "\n")
