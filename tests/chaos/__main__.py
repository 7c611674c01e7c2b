"""Sweeps on many bad days: `make chaos`. Seeded; needs root for the full disk, and nothing else on the machine.

    .venv/bin/python -m tests.chaos                        # 20 kills of a quickstart sweep, 10 of each other fault
    .venv/bin/python -m tests.chaos --faults kill --kills 5

Prints a table: faults, starts, attempts, steps that were trained twice, seconds beyond an undisturbed sweep.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from runner.terminal.console import Console
from tests.chaos.faults import FAULTS
from tests.chaos.storm import Outcome, calm, make_place, seeded, through
from tests.integration.test_search import SEARCHED
from tests.integration.workplace import SWEEP

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "chaos.json"
# Six trials of some seconds each; saved twice a second, so that there is something to resume.
STORMY = ("--set", "grid.budget=[100k, 300k]", "--set", "grid.seed=[0, 1, 2]", "--set", "training.epochs=6")
# More trials than tpe starts with at random, 10; one at a time, so that each suggestion knows the same.
SEARCH = SEARCHED.replace("trials: 4", "trials: 14").replace("epochs: 2", "epochs: 9")
SEARCH = SEARCH.replace("threads: 1", f"threads: {os.cpu_count()}")
LONG = (*STORMY[:-1], "training.epochs=36")  # for faults that the sweep outlasts: it must not be over before the last
# Two trials, for faults that one sweep meets seldom or once.
FEW = ("--set", "grid.budget=[300k, 400k]", "--set", "training.epochs=6")
BRIEF = ("raylet", "gcs", "terminal", "pipe")
OUTLASTED = ("governor", "tracker", *(name for name, fault in FAULTS.items() if fault.lasts_s[1]))


def main() -> int:
    options = _options()
    console = Console(width=None if sys.stdout.isatty() else 140)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="isotherm-chaos-") as scratch:
        base = Path(scratch)
        quickstart = (
            (ROOT / "configs" / "sweeps" / "quickstart.yaml").read_text().replace("name: quickstart", "name: small")
        )
        undisturbed = {}
        for name in options.faults:
            brief = FEW if name in BRIEF else LONG if name in OUTLASTED else STORMY
            other = {"kill": (quickstart, ()), "search": (SEARCH, ())}
            text, arguments = asked = other.get(name, (SWEEP, brief))
            if asked not in undisturbed:
                console.print("an undisturbed sweep first")
                undisturbed[asked] = calm(make_place(base / f"calm-{len(undisturbed)}", text), arguments)
            count = options.kills if name == "kill" else options.count
            console.print(f"{count} x {FAULTS[name].what}")
            outcome, rng = Outcome(name, sweeps=0), seeded(options.seed, name)
            while outcome.faults < count and outcome.sweeps < 2 * count:  # a sweep may be done before the last
                fault = FAULTS[name](make_place(base / name / str(outcome.sweeps) / "place", text), rng)
                outcome.add(through(fault, count - outcome.faults, arguments, undisturbed[asked]))
            outcomes.append(outcome)
            if options.write:
                _write(outcomes[-1:], options.seed)
    console.print(_table(outcomes))
    return 0


def _write(outcomes: list[Outcome], seed: int) -> None:
    """Put outcomes into the results file; other faults' outcomes stay."""
    known = json.loads(RESULTS.read_text())["outcomes"] if RESULTS.exists() else {}
    for one in outcomes:
        known[one.fault] = asdict(one) | {
            "seconds_lost": one.seconds_lost,
            "seed": seed,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, shared with other work",
        }
    RESULTS.write_text(json.dumps({"outcomes": known}, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="A sweep through faults, held against a calm one.")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of the quickstart sweep")
    parser.add_argument("--count", type=int, default=10, help="of each other fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    return parser.parse_args()


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="every result equal to the undisturbed sweep's, bit for bit; no cell ended twice")
    for name in ("fault", "faults", "sweeps", "starts", "attempts", "steps repeated", "seconds", "undisturbed", "lost"):
        table.add_column(name, justify="left" if name == "fault" else "right")
    for one in outcomes:
        numbers = (one.faults, one.sweeps, one.starts, one.attempts, one.steps_repeated)
        seconds = (one.seconds, one.calm_seconds, one.seconds_lost)
        table.add_row(one.fault, *map(str, numbers), *(f"{value:.0f}" for value in seconds))
    return table


if __name__ == "__main__":
    sys.exit(main())
