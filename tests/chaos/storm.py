"""A sweep through many faults of one kind, started again until it is done, and held against an undisturbed one."""

import json
import random
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.chaos.fault import Fault
from tests.integration.test_search import suggested, winners
from tests.integration.workplace import Workplace, same

STOPPED, FAILED = 3, 1
LONGEST_S = 1200.0
# Faults that leave no time to save: what they cost is known when they strike.
SUDDEN = ("kill", "search", "stall", "tear")


@dataclass
class Outcome:
    """What a storm did."""

    fault: str
    faults: int = 0
    sweeps: int = 1
    starts: int = 0
    attempts: int = 0
    steps_repeated: int = 0
    seconds: float = 0.0
    calm_seconds: float = 0.0
    exits: list[int] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Add another sweep's."""
        for name, value in vars(other).items():
            if name != "fault":
                setattr(self, name, getattr(self, name) + value)

    @property
    def seconds_lost(self) -> float:
        return self.seconds - self.calm_seconds


def calm(place: Workplace, arguments: tuple[str, ...]) -> tuple[Workplace, float]:
    """An undisturbed sweep, and its seconds."""
    started = time.monotonic()
    place.run("sweep", "sweep.yaml", *arguments, "--no-tracking", timeout=LONGEST_S)
    return place, time.monotonic() - started


def through(fault: Fault, count: int, arguments: tuple[str, ...], undisturbed: tuple[Workplace, float]) -> Outcome:
    """Run a sweep with so many faults. Fails where results, suggestions or winners differ, or a cell ended twice."""
    place, outcome = fault.place, Outcome(fault.name, calm_seconds=undisturbed[1])
    began = time.monotonic()
    try:
        fault.prepare()
        _until_done(fault, count, arguments, outcome)
        outcome.seconds = time.monotonic() - began
        fault.finish()
        _check(place, undisturbed[0])
        outcome.attempts = place.attempts()
    finally:
        place.stop()
        fault.clean_up()
    return outcome


def _until_done(fault: Fault, count: int, arguments: tuple[str, ...], outcome: Outcome) -> None:
    place, deadline = fault.place, time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        if fault.name not in SUDDEN:
            outcome.steps_repeated += _behind(place)
        outcome.starts += 1
        process = fault.start("sweep", "sweep.yaml", *arguments, *fault.options)
        while process.poll() is None and outcome.faults < count and time.monotonic() < deadline:
            _strike_once(fault, process, outcome)
        code = process.wait(timeout=max(1.0, deadline - time.monotonic()))
        outcome.exits.append(code)
        if code == 0:
            return
        log = place.log(len(place.started) - 1)
        assert code in (STOPPED, FAILED, -9), log
        assert "Traceback" not in log, log
    raise TimeoutError(f"not done after {LONGEST_S:.0f} s")


def _strike_once(fault: Fault, process: subprocess.Popen[str], outcome: Outcome) -> None:
    """Wait for a random time, and do it if the sweep still runs."""
    time.sleep(fault.rng.uniform(*fault.pause_s))
    reached, kept = _reached(fault.place), _kept(fault.place)
    try:
        struck = process.poll() is None and fault.strike(psutil.Process(process.pid))
    except psutil.NoSuchProcess:  # it ended just now
        return
    if not struck:
        return
    outcome.faults += 1
    if fault.name in SUDDEN:
        outcome.steps_repeated += sum(max(0, steps - kept.get(key, 0)) for key, steps in reached.items())
    time.sleep(fault.rng.uniform(*fault.lasts_s))
    fault.heal()


def _reached(place: Workplace) -> dict[str, int]:
    """The last step that the ledger has of each trial that runs, and of its latest attempt."""
    steps: dict[str, int] = {}
    for record in place.ledger():
        if record["kind"] == "attempt":
            steps[record["key"]] = 0
        elif record["kind"] == "metrics":
            steps[record["key"]] = record["step"]
        elif record["kind"] == "ended":
            steps.pop(record["key"], None)
    return steps


def _behind(place: Workplace) -> int:
    """Steps that the next start will train again: those in the ledger that no checkpoint has."""
    run, reached = place.folder / "runs" / "small", dict[str, int]()
    rescued, kept = run / "ledger.rescued-1.jsonl", _kept(place)
    records = [json.loads(line) for line in rescued.read_text().splitlines()] if rescued.exists() else place.ledger()
    for record in records:
        if record["kind"] == "metrics":
            reached[record["key"]] = max(record["step"], reached.get(record["key"], 0))
        elif record.get("status") == "finished":
            reached.pop(record["key"], None)
    return sum(max(0, steps - kept.get(key, 0)) for key, steps in reached.items())


def _kept(place: Workplace) -> dict[str, int]:
    """The step of each trial's newest checkpoint that can be read."""
    steps: dict[str, int] = {}
    for manifest in (place.folder / "runs" / "small" / "checkpoints").glob("*/checkpoint-*/manifest.json"):
        if not (manifest.parent / "state.pt").is_file():
            continue
        try:
            body = json.loads(manifest.read_bytes())["manifest"]
        except OSError:
            continue  # pruned just now
        steps[body["key"]] = max(steps.get(body["key"], 0), body["step"])
    return steps


def _check(place: Workplace, undisturbed: Workplace) -> None:
    same(undisturbed.results(), place.results())
    ended = [record["key"] for record in place.ledger() if record.get("status") in ("finished", "pruned")]
    assert len(ended) == len(set(ended)), "no cell ends twice"
    assert sorted(suggested(place.ledger())) == sorted(suggested(undisturbed.ledger()))
    assert winners(place.ledger()) == winners(undisturbed.ledger())


def make_place(folder: Path, text: str) -> Workplace:
    """A folder with a sweep file; the run's name is small."""
    folder.mkdir(parents=True)
    place = Workplace(folder, slow=False)
    place.write(text)
    return place


def seeded(seed: int, name: str) -> random.Random:
    """Random numbers of one storm."""
    return random.Random(f"{seed}-{name}")
