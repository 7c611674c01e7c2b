"""A folder of its own for a real sweep, and the command `isotherm` in it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

# Small enough for seconds a trial, long enough to be interrupted.
SWEEP = """\
name: small
data: {source: sp500}
task: {kind: threshold, context: 60}
training: {epochs: 2, global_batch: 128, lr: 1.0e-3}
grid:
  budget: [20k, 60k]
  horizon: [1]
  seed: [0]
execution: {device: cpu, micro_batch: 64, threads: 1, checkpoint_interval_s: 0.5}
thermal: {require_sensors: false}
"""


@dataclass
class Workplace:
    """A folder with a sweep file, and the command `isotherm` in it."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def write(self, text: str = SWEEP) -> None:
        (self.folder / "sweep.yaml").write_text(text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "runner", *arguments]

    def environment(self) -> dict[str, str]:
        """The caller's, without its settings; the probe's cache is this test run's own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ISOTHERM_", "WANDB_"))}
        return {**kept, "ISOTHERM_CACHE_DIR": str(self.folder.parent / "probe-cache")}

    def run(self, *arguments: str, expect: int = 0, timeout: float = 240) -> subprocess.CompletedProcess[str]:
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
                self.command(*arguments), cwd=self.folder, env=self.environment(), stdout=log, stderr=log, text=True
            )
        self.started.append(process)
        return process

    def results(self, run: str = "small") -> pd.DataFrame:
        """The trials' rows, by name; baselines are left out."""
        table = pd.read_parquet(self.folder / "runs" / run / "results.parquet")
        return table[table["kind"] == "model"].set_index("name").sort_index()

    def ledger(self, run: str = "small") -> list[dict[str, Any]]:
        path = self.folder / "runs" / run / "ledger.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """End whatever was started here and still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait(timeout=30)
