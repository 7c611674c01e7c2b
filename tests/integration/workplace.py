"""A folder of its own for a real sweep, and the command `isotherm` in it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import psutil

from tests.waiting import PATIENCE_S, wait_for

# Two trials of a second each.
SWEEP = """\
name: small
data: {source: sp500}
task: {kind: threshold, context: 60}
training: {epochs: 2, global_batch: 128, lr: 1.0e-3}
grid:
  budget: [20k, 60k]
  horizon: [1]
  seed: [0]
baselines: [prior]
execution: {device: cpu, micro_batch: 64, threads: 1, checkpoint_interval_s: 0.5}
thermal: {require_sensors: false}
"""
ONE = ("--no-tracking", "--set", "grid.budget=[20k]")  # one trial of them
SLOW_STEPS = Path(__file__).with_name("slow_steps")  # on the path of what is to last long enough to be disturbed

# Seconds, rates and memory differ between runs of the same trial; everything else must not. Of the marks one is of
# seconds, and the others follow from numbers that are compared.
CHANGING = (
    *("seconds", "per_second", "bytes", "started_at", "ended_at", "attempts", "celsius", "joules", "wait_share"),
    "marks",
)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Fail where a table of results differs in a bit of what must not differ from the same trials of another."""
    one = one.loc[other.index]
    columns = [name for name in one.columns if not any(part in name for part in CHANGING)]
    assert len(columns) > 30
    pd.testing.assert_frame_equal(one[columns], other[columns], check_exact=True)


def command_line(process: psutil.Process) -> str:
    """What a process was started with or calls itself; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@dataclass
class Descendants:
    """Processes that a process had started at some moment, with their start times, which tell them from later users."""

    found: list[tuple[int, float]] = field(default_factory=list)

    @classmethod
    def of(cls, pid: int) -> "Descendants":
        found = []
        for child in psutil.Process(pid).children(recursive=True):
            try:
                found.append((child.pid, child.create_time()))
            except psutil.Error:
                continue
        return cls(found)

    @property
    def alive(self) -> list[str]:
        left = []
        for pid, since in self.found:
            try:
                process = psutil.Process(pid)
                if process.create_time() == since and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(" ".join(process.cmdline())[:100])
            except psutil.Error:
                continue
        return left


@dataclass
class Workplace:
    """A folder with a sweep file, and the command `isotherm` in it.

    Attributes:
        slow: whether trials of what is started train for long, to be disturbed; what is run to its end never does.
        step_s: seconds of a step then. A trial has 50 steps.
    """

    probe_cache: ClassVar[Path | None] = None
    folder: Path
    slow: bool = field(default=True, kw_only=True)
    step_s: float = field(default=0.3, kw_only=True)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, text: str = SWEEP) -> None:
        (self.folder / "sweep.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "runner", *arguments]

    def environment(self) -> dict[str, str]:
        """The caller's, without its settings; the probe's cache is one that all tests share, or this test's own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ISOTHERM_", "WANDB_"))}
        own = {"ISOTHERM_STATE_DIR": str(self.folder.parent / "state")}
        return {**kept, **own, "ISOTHERM_CACHE_DIR": str(self.probe_cache or self.folder.parent / "probe-cache")}

    def disturbed(self) -> dict[str, str]:
        """The environment of a sweep that lasts long enough."""
        around = self.environment()
        if not self.slow:
            return around
        paths = filter(None, (str(SLOW_STEPS), *around.get("PYTHONPATH", "").split(os.pathsep)))
        return around | {"PYTHONPATH": os.pathsep.join(paths), "SLOW_STEP_S": str(self.step_s)}

    def run(self, *arguments: str, expect: int = 0, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.folder / f"started-{len(self.started)}.log").open("w") as log:
            process = subprocess.Popen(
                self.command(*arguments), cwd=self.folder, env=self.disturbed(), stdout=log, stderr=log, text=True
            )
        self.started.append(process)
        return process

    def results(self, run: str = "small") -> pd.DataFrame:
        """The trials' rows, by name; baselines are left out."""
        table = pd.read_parquet(self.folder / "runs" / run / "results.parquet")
        return table[table["kind"] == "model"].set_index("name").sort_index()

    def ledger(self, run: str = "small") -> list[dict[str, Any]]:
        path = self.folder / "runs" / run / "ledger.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []  # the last one may be torn
        return [json.loads(line) for line in lines]

    def log(self, number: int = 0) -> str:
        """What a started command has printed."""
        return (self.folder / f"started-{number}.log").read_text()

    def checkpoints(self) -> set[Path]:
        """What trials have saved, as far as it is kept."""
        return set((self.folder / "runs" / "small" / "checkpoints").glob("*/checkpoint-*"))

    def has_checkpoint(self) -> bool:
        """Whether any trial has saved."""
        return bool(self.checkpoints())

    def wait_for_checkpoint(self) -> None:
        """Until a trial of what was started last has saved, which others may have done before."""
        process, before = self.started[-1], self.checkpoints()
        wait_for(lambda: process.poll() is not None or self.checkpoints() - before)
        assert process.poll() is None, f"exit {process.returncode}\n{self.log(len(self.started) - 1)}"

    def attempts(self) -> int:
        """Starts of trials; baselines are left out."""
        records = self.ledger()
        trials = {one["key"] for one in records if one["kind"] == "cell" and one["cell_kind"] == "model"}
        return sum(one["kind"] == "attempt" and one["key"] in trials for one in records)

    def processes(self) -> list[psutil.Process]:
        """Every process that runs in this workplace's folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if self.folder in (path := Path(process.cwd()), *path.parents):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        """Ray's worker processes of this workplace; its small agents take longer to end."""
        found = []
        for process in self.processes():
            name = command_line(process)
            if name.startswith("ray::") and "Agent" not in name:
                found.append(process)
        return found

    def trial_worker(self) -> psutil.Process:
        """A process that trains, as soon as there is one: a trial may be between two attempts."""
        found: list[psutil.Process] = []

        def look() -> bool:
            found.extend(one for one in self.workers() if "Trainable" in command_line(one))
            return bool(found)

        wait_for(look, log=lambda: "\n".join([*map(command_line, self.processes()), self.log(len(self.started) - 1)]))
        return found[0]

    def stop(self) -> None:
        """End whatever was started here and still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE_S)
