"""Does `isotherm control` say 'no signal' where there is none, and find the law where there is one?

    PYTHONPATH=. .venv/bin/python benchmarks/control.py --seeds 1 2 3    # both controls of each
    PYTHONPATH=. .venv/bin/python benchmarks/control.py --write          # results/control.json, of all that were run

The whole grid of ``configs/sweeps/control.yaml`` on the bars that `isotherm control` writes, with its baselines and its
report's verdict; the trials one after the other in this process, by the trainer, without Ray. Each control has its own
order of the bars, or teacher, and its own seeds of the trials. The sweep was designed on seed 0, which is left out.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from runner.config import sweep_file
from runner.planning import controls
from runner.report.analysis.collect import collect
from tests.finished import finished_run

ROOT = Path(__file__).parent.parent
SWEEP = ROOT / "configs" / "sweeps" / "control.yaml"
RESULTS = Path(__file__).parent / "results" / "control.json"
RIGHT = {controls.NULL: ("flat", "flat: no learnable signal"), controls.TEACHER: ("power law",)}


def run(kind: str, seed: int) -> dict[str, Any]:
    """One control; its verdict and numbers."""
    started = time.process_time()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        own = sweep_file.load(SWEEP)
        n_seeds = len(own.settings.grid["seed"])
        given = controls.overrides(own, kind, seed=seed)
        given += [f"grid.seed={[seed * n_seeds + number for number in range(n_seeds)]}"]
        found = collect(finished_run(Path(folder), *given, text=SWEEP.read_text()))
    [one] = found.verdicts
    return {
        "kind": kind,
        "seed": seed,
        "seeds_a_size": n_seeds,
        "verdict": one.verdict,
        "direction": one.direction,
        "form": one.form,
        "reason": one.reason,
        "changes": one.changes,
        "alpha": one.fit.intervals.get("alpha") if one.fit else None,
        "loss_by_size": {
            str(size): round(
                sum(losses := [t.val_loss.value for t in found.trials if t.n_params == size]) / len(losses), 5
            )
            for size in sorted({t.n_params for t in found.trials})
        },
        "cpu_seconds": round(time.process_time() - started),
    }


def write(parts: Path) -> None:
    """One document of all controls in a folder, with counts."""
    runs = sorted((json.loads(path.read_text()) for path in parts.glob("*.json")), key=lambda r: (r["kind"], r["seed"]))
    counts = {
        kind: {
            "controls": len(of := [run["verdict"] for run in runs if run["kind"] == kind]),
            "right": sum(word in right for word in of),
            "verdicts": dict(Counter(of)),
        }
        for kind, right in RIGHT.items()
    }
    machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": 1}
    RESULTS.write_text(json.dumps({"machine": machine, "results": counts, "runs": runs}, indent=1) + "\n")
    print(json.dumps(counts, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--parts", type=Path, default=Path(tempfile.gettempdir()) / f"isotherm-control-{os.getuid()}")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} from what was run")
    options = parser.parse_args()
    options.parts.mkdir(parents=True, exist_ok=True)
    for kind, seed in [(kind, seed) for seed in options.seeds for kind in controls.KINDS]:
        done = options.parts / f"{kind}-{seed}.json"
        if not done.exists():
            done.write_text(json.dumps(found := run(kind, seed)))
            print(kind, seed, found["verdict"], f"{found['cpu_seconds']} s", flush=True)
    if options.write:
        write(options.parts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
