"""The wall clock jumps by a day, forward and back, while the parts of a driver and of a trial work."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S
from tests.wall_clock import DAY_S, WallClock, available

ROOT = Path(__file__).parents[3]

# Who may read the wall clock: all else measures with the monotonic clock, or takes `runner.host.clock.now`.
READERS = {
    "runner/doctor/storage.py",  # the check of the clock itself
    "runner/doctor/trackers.py",  # the same, against a server's
    "runner/host/clock.py",
    "runner/probe/cache.py",  # ages of files that outlive the process: a jump measures once more
    "runner/rundir/lock.py",  # who holds a lock since when, for a message
    "runner/tracking/mlflow_store.py",  # the end of a run that has none in the ledger
    "runner/tune/scratch.py",  # ages of folders: after a jump one is left for the next sweep, or its lock decides
    "trainables/baseline_conformance.py",
    "trainables/checkpoints/file_store.py",  # `written_at`, for people
    "trainables/data/build.py",  # `created_at`
    "trainables/data/catalog_lock.py",
    "trainables/data/sources.py",  # rows of the future
}

# Everything here that measures a time is used before and after a jump in one process; durations are printed.
WORK = """\
import json, sys, time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from runner.rundir.ledger.records import SweepEnded
from runner.thermal.gate import ThermalGate
from runner.thermal.monitor import Published, ThermalMonitor
from runner.thermal.policy import Level
from runner.thermal.reading import ANY_DEVICE, Channel, Reading
from runner.thermal.spec import ThermalSpec
from trainables.training.checkpoint_schedule import CheckpointSchedule
from trainables.training.gate import Action
from trainables.training.progress import TrialProgress

file, shifts = Path(sys.argv[1]), sys.argv[2:]

class Cool:
    name, channels = "cool", (Channel(ANY_DEVICE, "cpu"),)
    def read(self, load):
        return {self.channels[0]: Reading(50.0)}
    def close(self):
        pass

monitor, spec = ThermalMonitor(ThermalSpec(), Cool()), ThermalSpec()
gate, schedule = ThermalGate(spec), CheckpointSchedule(SimpleNamespace(), None, 60.0)
schedule.begin(TrialProgress())
monitor.sample()
gate.take(monitor.published(ANY_DEVICE))
first, wall = SweepEnded(exit_code=0, counts={}), datetime.now(UTC)
found = []
for shift in shifts:
    file.write_text(shift)
    monitor.sample()
    gate.take(monitor.published(ANY_DEVICE))
    found.append({
        "wall_s": (datetime.now(UTC) - wall).total_seconds(),
        "ledger_s": (SweepEnded(exit_code=0, counts={}).time - first.time).total_seconds(),
        "telemetry_s": (monitor.samples_after(-1)[-1].time - first.time).total_seconds(),
        "waited_s": gate.wait(0.01),
        "runs": gate.check() is Action.RUN,
        "checkpoint_due": schedule.due,
        "level": monitor.published(ANY_DEVICE).level.name,
    })
print(json.dumps(found))
"""


@pytest.mark.skipif(not available(), reason="needs Linux and a C compiler")
def test_a_wall_clock_that_jumps_by_a_day_changes_no_duration(tmp_path: Path) -> None:
    clock = WallClock(tmp_path)
    shifts = [DAY_S, -DAY_S, 0]
    command = [sys.executable, "-c", WORK, clock.variables["CLOCK_SHIFT_FILE"], *map(str, shifts)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | clock.variables, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    for shift, found in zip(shifts, json.loads(done.stdout), strict=True):
        assert abs(found["wall_s"] - shift) < 60, "it did jump"
        assert 0 <= found["ledger_s"] < 60
        assert 0 <= found["telemetry_s"] < 60
        assert (found["runs"], found["level"], found["checkpoint_due"]) == (True, "NORMAL", False)
        assert found["waited_s"] < 1


def test_who_reads_the_wall_clock() -> None:
    reads = re.compile(r"\btime\.time(_ns)?\b|\b(datetime|Timestamp)\.(now|utcnow|today)\b|\bdate\.today\b")
    sources = [path for room in ("runner", "trainables", "isotherm") for path in (ROOT / room).rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in sources if reads.search(path.read_text())} == READERS
