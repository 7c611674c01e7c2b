"""What a trial costs beside its own work: time, the driver's memory, bytes in the ledger, at growing numbers of trials.

    .venv/bin/python benchmarks/trial_cost.py 50 500               # prints a table; a minute on two cores
    .venv/bin/python benchmarks/trial_cost.py 50 500 2000 --write  # and writes results/trial_cost.json; three minutes

Each number is a sweep of its own, in a process and a folder of its own, from the plan to the report, whose trials end
with their first answer: no data, no training. Reported are the rounds of Tune alone (`tune_s`), the whole sweep
(`sweep_s`, which also expands the grid and draws the report), the driver's peak resident size, and the ledger.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "trial_cost.json"
SWEEP = """\
name: cost
data: {{source: sp500}}
task: {{kind: threshold, context: 60}}
training: {{epochs: 1, global_batch: 128, lr: 1.0e-3}}
grid:
  budget: [20k]
  horizon: [1]
  seed: [{seeds}]
execution: {{device: cpu, micro_batch: 64, threads: 1}}
thermal: {{require_sensors: false}}
tracking: {{mlflow: null, wandb: null}}
"""


def one(count: int, folder: Path) -> dict[str, Any]:
    """Run a sweep of `count` trials that do nothing, in this process."""
    from runner.terminal.console import Console
    from runner.tune import environment

    environment.prepare()
    from runner import sweep
    from runner.config import sweep_file
    from runner.tune import launch
    from trainables import tune_trainable

    class Idle(tune_trainable.IsothermTrial):
        """Ends at once."""

        def step(self) -> dict[str, Any]:
            base = {"gate": "run", "step": 1, "total_steps": 1, "epoch": 1, "rows": []}
            outcome = {"val_loss": 0.5, "n_params": 20_000, "collapsed": False, "diverged": False}
            return base | {"kind": "ended", "status": "finished", "outcome": outcome, "done": True}

    spent: list[float] = []
    rounds = launch.run_rounds

    def timed(asked: launch.Launch) -> None:
        began = time.perf_counter()
        rounds(asked)
        spent.append(time.perf_counter() - began)

    launch.IsothermTrial, launch.run_rounds = Idle, timed  # type: ignore[misc]
    (folder / "sweep.yaml").write_text(SWEEP.format(seeds=", ".join(map(str, range(count)))))
    os.chdir(folder)
    began = time.perf_counter()
    code = sweep.run(sweep_file.load(Path("sweep.yaml")), Console(file=(folder / "log").open("w")))
    sweep_s = time.perf_counter() - began
    assert code == 0, (folder / "log").read_text()[-2000:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = (folder / "runs/cost/ledger.jsonl").stat().st_size
    return {
        "trials": count,
        "tune_s": round(sum(spent), 1),
        "tune_s_per_trial": round(sum(spent) / count, 3),
        "sweep_s": round(sweep_s, 1),
        "driver_peak_bytes": peak,
        "ledger_bytes": size,
        "ledger_bytes_per_trial": round(size / count),
    }


def child(count: int) -> dict[str, Any]:
    """The same in a process of its own: its peak memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--in", folder, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-4000:])
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="+", metavar="COUNT")
    parser.add_argument("--write", action="store_true", help=f"add to {RESULTS.name}")
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is not None:
        print(json.dumps(one(given.counts[0], given.folder)))
        return
    known = json.loads(RESULTS.read_text())["measured"] if RESULTS.exists() else []
    for count in given.counts:
        found = child(count)
        print(found, flush=True)
        known = sorted([*(old for old in known if old["trials"] != count), found], key=lambda row: row["trials"])
    if given.write:
        about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "python": platform.python_version(), "cores": os.cpu_count()}
        RESULTS.write_text(json.dumps({**about, "measured": known}, indent=1) + "\n")


if __name__ == "__main__":
    main()
