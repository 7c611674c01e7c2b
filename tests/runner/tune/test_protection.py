"""A trial's gate under Tune, and the end of a sweep in which nothing can work."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from runner.rundir.paths import RunPaths
from runner.thermal import TEMPERATURE
from runner.thermal.gate import ThermalGate
from runner.thermal.monitor import Published
from runner.thermal.policy import Level
from runner.thermal.spec import ThermalSpec
from runner.tune import protection
from runner.tune.drain import Drain, FlagGate, post_lookout
from runner.tune.protection import StuckWatch, SweepGate
from tests.waiting import PATIENCE_S, wait_for
from trainables.checkpoints.object_store import StoragePlace
from trainables.training.gate import Action


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Level, bool], SweepGate]:
    def build(level: Level, draining: bool) -> SweepGate:
        flag = tmp_path / "running"
        if draining:
            flag.unlink(missing_ok=True)
        else:
            flag.touch()
        governed = ThermalGate(ThermalSpec(unknown_hold_s=60, unknown_stop_s=120))
        governed.take(Published(time.monotonic(), level, 0.5, 1e6, 50.0, "because"))
        drain = FlagGate(flag)
        while draining and drain.check() is not Action.DRAIN:
            time.sleep(0.01)
        return SweepGate(drain, governed)

    return build


@pytest.mark.parametrize(
    ("level", "alone", "draining"),
    [
        (Level.NORMAL, Action.RUN, Action.DRAIN),
        (Level.HOLD, Action.HOLD, Action.DRAIN),
        (Level.RELEASE, Action.RELEASE, Action.DRAIN),
        (Level.STOP, Action.STOP, Action.STOP),
    ],
)
def test_a_drain_wins_over_everything_but_a_stop(
    make: Callable[[Level, bool], SweepGate], level: Level, alone: Action, draining: Action
) -> None:
    assert make(level, False).check() is alone
    assert make(level, True).check() is draining


def test_a_held_trial_notices_the_drain(make: Callable[[Level, bool], SweepGate]) -> None:
    gate = make(Level.HOLD, False)
    assert gate.wait(0.3) == pytest.approx(0.3)
    assert make(Level.HOLD, True).wait(3600.0) == 0.0
    assert gate.reason == "because"
    gate.begin()
    assert gate.readings() == {"celsius": 50.0}


def test_a_paused_trial_frees_its_device_and_goes_on_or_drains(tmp_path: Path, make: Any) -> None:
    gate = make(Level.NORMAL, False)
    assert gate.check() is Action.RUN
    (tmp_path / ".paused").touch()
    assert FlagGate(tmp_path / "running").check() is Action.RELEASE, "from its first look on"
    wait_for(lambda: gate.check() is Action.RELEASE)
    assert gate.reason == "paused"
    assert gate.wait(0.3) == pytest.approx(0.3)
    (tmp_path / ".paused").unlink()
    assert gate.wait(3600.0) < 60
    assert gate.check() is Action.RUN
    (tmp_path / ".paused").touch()
    wait_for(lambda: gate.check() is Action.RELEASE)
    (tmp_path / "running").unlink()
    wait_for(lambda: gate.check() is Action.DRAIN)


def trial(key: str) -> Any:
    return SimpleNamespace(config={"job": {"key": key}})


STUCK = {"kind": "waiting", "gate": "stop"}


def test_the_sweep_ends_when_all_that_run_wait_for_a_stopped_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(protection.time, "monotonic", lambda: clock.now)
    drain = Drain(tmp_path / "flag")
    watch = StuckWatch(drain)
    drain.running |= {"a", "b"}

    def report(key: str, result: dict[str, Any], seconds: float = 1.0) -> str:
        clock.now += seconds
        watch.on_trial_result(0, [], trial(key), result)
        return drain.reason

    for _ in range(30):
        assert not report("a", STUCK)
        assert not report("b", {"kind": "progress", "gate": "run"})
    for _ in range(30):
        assert not report("b", {"kind": "waiting", "gate": "hold"}), "a hold ends by itself"
    drain.running.discard("b")
    watch.on_trial_complete(0, [], trial("b"))
    assert not report("a", STUCK)
    assert not report("a", STUCK, protection.STUCK_S / 2), "the next trial may be about to start on another device"
    assert report("a", STUCK, protection.STUCK_S) == TEMPERATURE


@pytest.fixture
def elsewhere(tmp_path: Path) -> StoragePlace:
    """What a node knows that has a disk of its own, with an older driver's files at the same place."""
    (tmp_path / "elsewhere").mkdir()
    for name in ("running", "driver"):
        (tmp_path / "elsewhere" / name).write_text("of an older driver")
    return StoragePlace(uri="s3://x/y", run="z", owner=tmp_path / "elsewhere" / "driver", owner_text="this driver")


def test_a_node_with_another_disk_is_not_drained_by_what_it_cannot_see(elsewhere: StoragePlace) -> None:
    assert elsewhere.owner is not None
    gate = FlagGate(elsewhere.owner.with_name("nothing"), elsewhere)
    time.sleep(0.5)  # the watch has looked twice
    assert gate.check() is Action.RUN


@pytest.fixture(scope="module")
def own_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@dataclass
class Far:
    """A trial's gate on a node with a disk of its own, the flag that it follows, and who tells it."""

    flag: Path
    lookout: Any
    gate: FlagGate


@pytest.fixture
def far(own_ray: None, tmp_path: Path, elsewhere: StoragePlace) -> Far:
    assert elsewhere.owner is not None
    flag = tmp_path / "running"
    flag.touch()
    lookout = post_lookout(flag)
    assert ray.get(lookout.action.remote(), timeout=PATIENCE_S) == "run"
    return Far(flag, lookout, FlagGate(elsewhere.owner.with_name("running"), elsewhere, lookout))


# Slow, as all tests with a Ray in their own process: others there only set what Ray would read.
@pytest.mark.slow
@pytest.mark.xdist_group("protection")
def test_a_node_with_another_disk_is_drained_by_who_sees_the_flag(far: Far) -> None:
    far.gate.wait(0.5)
    assert far.gate.check() is Action.RUN
    far.flag.unlink()
    wait_for(lambda: far.gate.wait(0.05) >= 0 and far.gate.check() is not Action.RUN)
    assert far.gate.check() is Action.DRAIN


@pytest.mark.slow
@pytest.mark.xdist_group("protection")
def test_a_lookout_that_is_lost_drains_nobody(far: Far) -> None:
    ray.kill(far.lookout)
    wait_for(lambda: far.gate._lookout is None)  # its thread has noticed the loss
    assert far.gate.check() is Action.RUN


@pytest.mark.parametrize("required", [True, False])
def test_a_required_sensor_that_fails_at_the_start_leaves_no_trial_unwatched(required: bool, tmp_path: Path) -> None:
    """The plan has read it a minute before; now it cannot be opened."""
    spec = ThermalSpec(sensor="replay", replay=str(tmp_path / "missing.csv"), require_sensors=required)
    recorder, watch = SimpleNamespace(record=lambda _: None), SimpleNamespace(dead=lambda: False)
    paths = RunPaths(tmp_path / "run")
    guard = protection.Protection(spec, "cpu", paths, recorder, watch, cluster=False)  # type: ignore[arg-type]
    made = guard.make_gate(tmp_path / "running", None)
    assert (getattr(made, "func", None) is protection._make_gate) is required
