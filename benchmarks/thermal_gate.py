"""What asking the thermal gate costs a step while the device is cool.

    .venv/bin/python benchmarks/thermal_gate.py            # prints nanoseconds a check; a few seconds
    .venv/bin/python benchmarks/thermal_gate.py --write    # and writes results/thermal_gate.json

The trainer asks before every optimizer step and evaluation batch. `ThermalGate.check` is the gate of debug mode,
`SweepGate` adds the drain's flag, as under Tune. The smallest of many rounds is given: interruptions only add.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
import timeit
from datetime import UTC, datetime
from pathlib import Path

from runner.tune import environment

environment.prepare()  # before Ray is imported

from runner.thermal.gate import ThermalGate  # noqa: E402
from runner.thermal.monitor import Published  # noqa: E402
from runner.thermal.policy import Level  # noqa: E402
from runner.thermal.spec import ThermalSpec  # noqa: E402
from runner.tune.drain import FlagGate  # noqa: E402
from runner.tune.protection import SweepGate  # noqa: E402
from trainables.training.gate import Action, NullGate, StepGate  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "thermal_gate.json"
CALLS, ROUNDS = 100_000, 30
LIMIT_NS = 1000.0


def cost_ns(gate: StepGate) -> float:
    assert gate.check() is Action.RUN
    return min(timeit.repeat(gate.check, number=CALLS, repeat=ROUNDS)) / CALLS * 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    cool = ThermalGate(ThermalSpec(unknown_hold_s=3600, unknown_stop_s=7200))
    cool.take(Published(time.monotonic(), Level.NORMAL, 1.0, 1.0, 50.0, ""))
    with tempfile.TemporaryDirectory() as folder:
        flag = Path(folder) / "running"
        flag.touch()
        sweep = SweepGate(FlagGate(flag), cool)
        measured = {name: cost_ns(gate) for name, gate in (("null", NullGate()), ("debug", cool), ("sweep", sweep))}
    document = {
        "what": "nanoseconds a check while cool, the smallest of 30 rounds of 100,000",
        **measured,
        "limit": LIMIT_NS,
        "python": platform.python_version(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    print(json.dumps(document, indent=2))
    if given.write:
        RESULTS.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if max(measured.values()) > LIMIT_NS else 0


if __name__ == "__main__":
    sys.exit(main())
