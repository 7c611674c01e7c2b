"""What trackers cost the driver's loop while their servers answer, are slow, out of order or away.

    .venv/bin/python benchmarks/tracker_cost.py             # prints; two minutes
    .venv/bin/python benchmarks/tracker_cost.py --write     # and writes results/tracker_cost.json
    .venv/bin/python benchmarks/tracker_cost.py --sweeps 3  # instead: whole sweeps with a wrong key and no network

A loop records metrics as a sweep of a dozen trials does, eight rows a second, into a real ledger, with the sweep's own
tracker callbacks as listeners. Measured is the time inside the callbacks once their processes are being started:
each call's, their share of the loop's time, and their share of recording alone, the waits between rows left out.
With ``--sweeps`` two small sweeps are run in turn: one without trackers, and one with W&B online, a key that is none
and an address that does not answer. The median of the ratios of their seconds says what that costs a user.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' servers

from runner.config.settings import MlflowSpec, TrackingSpec, WandbSpec
from runner.rundir.ledger import AnyRecord, AttemptStarted, CellRecorded, LedgerView, MetricsRecorded, SweepStarted
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from runner.tracking import session
from tests.integration.workplace import ONE, SWEEP, Workplace
from tests.servers import HttpServer

RESULTS = Path(__file__).parent / "results" / "tracker_cost.json"
KEY = "a" * 12
SECONDS, EVERY_S = 20.0, 0.125
AWAY = "http://127.0.0.1:9"  # nothing listens there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--sweeps", type=int, default=0, help="pairs of whole sweeps, in place of the loop")
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.sweeps:
        with tempfile.TemporaryDirectory(prefix="isotherm-cost-") as folder:
            ratios = []
            for number in range(options.sweeps):
                ratios.append(paired_sweeps(Path(folder) / str(number)))
                print("seconds without trackers, with the wrong key:", *ratios[-1], flush=True)
        known["sweeps with a wrong key of W&B and no network"] = {
            "seconds": ratios,
            "median_ratio": round(statistics.median(wrong / without for without, wrong in ratios), 3),
        }
        print(json.dumps(known["sweeps with a wrong key of W&B and no network"]))
        if options.write:
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
        return
    found: dict[str, Any] = {}
    for name, place in states():
        with place as (spec, variables), patch.dict(os.environ, variables):
            found[name] = measure(spec)
        print(name, json.dumps(found[name]))
    if options.write:
        machine = f"{os.cpu_count()} cores, {platform.machine()}, shared with other work"
        date = datetime.now(UTC).isoformat(timespec="seconds")
        known |= {"states": found, "machine": machine, "date": date}
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")


def paired_sweeps(folder: Path) -> tuple[float, float]:
    """Seconds of a sweep without trackers, and of the same one with W&B's wrong key and without a network."""
    seconds = []
    for name, variables, options in (  # in a place of its own each, so that both begin alike
        ("without", {}, ("--no-tracking",)),
        ("wrong", {"WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": AWAY}, ("--set", "tracking.mlflow=null")),
    ):
        place = Workplace(folder / name, slow=False)
        place.folder.mkdir(parents=True)
        place.write(SWEEP)
        place.run("plan", "sweep.yaml", *ONE[1:])  # prepares the data and measures
        command, environment = place.command("sweep", "sweep.yaml", *ONE[1:], *options), place.environment() | variables
        started = time.perf_counter()
        done = subprocess.run(command, cwd=place.folder, env=environment, capture_output=True, text=True, check=True)
        seconds.append(round(time.perf_counter() - started, 1))
        assert (name == "wrong") == ("wandb" in done.stdout), done.stdout
    return seconds[0], seconds[1]


def states() -> Iterator[tuple[str, Any]]:
    """Each state of the servers, with the settings and the environment that lead there."""
    yield "MLflow's own store", fixed(TrackingSpec(mlflow=MlflowSpec(), wandb=None))
    yield "MLflow away", fixed(TrackingSpec(mlflow=MlflowSpec(uri=AWAY), wandb=None))
    yield "MLflow takes 10 s a call", served(200, delay_s=10.0)
    yield "MLflow answers 500", served(500)
    online = TrackingSpec(mlflow=None, wandb=WandbSpec(mode="online"))
    yield "W&B away", fixed(online, WANDB_API_KEY="x" * 40, WANDB_BASE_URL=AWAY)


@contextmanager
def fixed(spec: TrackingSpec, **variables: str) -> Iterator[tuple[TrackingSpec, dict[str, str]]]:
    yield spec, variables


@contextmanager
def served(status: int, delay_s: float = 0.0) -> Iterator[tuple[TrackingSpec, dict[str, str]]]:
    def answer(*_: object) -> tuple[int, bytes]:
        time.sleep(delay_s)
        return status, b"{}"

    server = HttpServer(answer)
    try:
        yield TrackingSpec(mlflow=MlflowSpec(uri=server.url), wandb=None), {}
    finally:
        server.close()


def measure(spec: TrackingSpec) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder) / "runs" / "measured")
        paths.root.mkdir(parents=True)
        recorder = Recorder(paths)
        callbacks = session.make(spec, paths)
        spent: list[float] = []

        def listen(record: AnyRecord, view: LedgerView) -> None:
            started = time.perf_counter()
            for callback in callbacks:
                callback.on_trial_result(1, [], None, {})
            spent.append(time.perf_counter() - started)

        recorder.listen(listen)
        recorder.record(SweepStarted(run="measured", keys=(KEY,), config={}, code_version="x", versions={}))
        recorder.record(CellRecorded(key=KEY, name="20k", labels={"budget": "20k"}, n_params=20_000, sizes={}, spec={}))
        recorder.record(AttemptStarted(key=KEY, attempt=1, execution={}))
        spent.clear()
        worked_s, step, began = 0.0, 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            step += 1
            values = {"step_loss": 0.5, "samples_per_second": 9000.0}
            started = time.perf_counter()
            recorder.record(MetricsRecorded(key=KEY, attempt=1, step=step, epoch=1, values=values))
            worked_s += time.perf_counter() - started
            time.sleep(EVERY_S)
        session.close(callbacks, 0.5)
        recorder.close()
        return {
            "rows": len(spent),
            "median_microseconds": round(1e6 * statistics.median(spent), 1),
            "worst_microseconds": round(1e6 * max(spent), 1),
            "share_of_recording": round(sum(spent) / worked_s, 4),
            "share_of_the_loop": round(sum(spent) / SECONDS, 7),
        }


if __name__ == "__main__":
    main()
