"""Governors under a real Ray with two nodes: heat on one, death, hanging, replacement."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.thermal.governor import NAMESPACE, Governors, governor_name
from runner.thermal.monitor import Sample
from runner.thermal.ray_gate import RayGate
from runner.thermal.spec import GpuLimits, PlantSpec, ThermalSpec
from tests.waiting import PATIENCE_S, wait_for
from trainables.training.gate import Action

pytestmark = [pytest.mark.xdist_group("governor"), pytest.mark.slow]

# A governor is replaced after half of `unknown_hold_s`: long enough that a busy machine does not look like a dead one.
COOL = ThermalSpec(
    sensor="plant", plant=PlantSpec(ambient_celsius=40), interval_s=0.2, unknown_hold_s=8, unknown_stop_s=60
)
BRIEF = COOL.model_copy(update={"unknown_hold_s": 10.0, "unknown_stop_s": 25.0})


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[str]]:
    """Ids of two nodes on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes()
        yield [node["NodeID"] for node in ray.nodes()]
        ray.shutdown()
        cluster.shutdown()


@ray.remote(num_cpus=0)
class Trial:
    """Stands at the gate of its node."""

    def __init__(self, run: str, spec: ThermalSpec) -> None:
        self.gate = RayGate(run, spec)
        self.gate.begin()

    def look(self) -> tuple[Action, str]:
        return self.gate.check(), self.gate.reason


class Place:
    """Governors with their telemetry, and a trial on each node."""

    def __init__(self, run: str, spec: ThermalSpec, nodes: list[str], **specs: ThermalSpec) -> None:
        self.run = run
        self.samples: dict[str, list[Sample]] = {}
        self.events: list[str] = []
        self.governors = Governors(
            run,
            spec,
            "cpu",
            on_samples=lambda node, samples: self.samples.setdefault(node, []).extend(samples),
            on_event=self.events.append,
            spec_of=lambda node: specs.get(node, spec),
        )
        self.governors.start()
        self.trials = {
            node: Trial.options(  # type: ignore[attr-defined]
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(run, specs.get(node, spec))
            for node in nodes
        }

    def open(self, node: str) -> bool:
        """Whether the node's trial may train; a gate is closed until it has heard from its governor."""
        return self.look(node)[0] in (Action.RUN, Action.THROTTLE)

    def wait_until_open(self, node: str) -> None:
        wait_for(lambda: self.open(node))

    def look(self, node: str) -> tuple[Action, str]:
        found: tuple[Action, str] = ray.get(self.trials[node].look.remote())
        return found

    def pid(self, node: str) -> int:
        governor = ray.get_actor(governor_name(self.run, node), namespace=NAMESPACE)
        about: dict[str, Any] = ray.get(governor.about.remote(), timeout=PATIENCE_S)
        return int(about["pid"])

    def strike(self, node: str, number: signal.Signals) -> int:
        """Signal the node's governor; its process id."""
        pid = self.pid(node)
        os.kill(pid, number)
        return pid

    def leave_alone(self) -> None:
        """From now on nobody replaces a governor."""
        self.governors._over.set()
        self.governors._thread.join(timeout=PATIENCE_S)

    def close(self) -> None:
        for trial in self.trials.values():
            ray.kill(trial)
        self.governors.close()


@pytest.fixture
def make(nodes: list[str]) -> Iterator[Callable[..., Place]]:
    places: list[Place] = []

    def build(run: str, spec: ThermalSpec, **specs: ThermalSpec) -> Place:
        places.append(Place(run, spec, nodes, **specs))
        return places[-1]

    yield build
    for place in places:
        place.close()


def test_heat_on_one_node_leaves_the_others_trials_running(
    nodes: list[str], make: Callable[..., Place], tmp_path: Path
) -> None:
    # A busy machine takes seconds to start the trials that look.
    traces = {"cool": "0,50\n600,60\n", "hot": "0,50\n60,50\n75,85\n90,50\n105,95\n"}
    specs = {}
    for name, rows in traces.items():
        (tmp_path / name).write_text(f"time_s,celsius\n{rows}")
        replayed = {"sensor": "replay", "replay": str(tmp_path / name), "min_hold_s": 1.0}
        specs[name] = ThermalSpec.model_validate({**COOL.model_dump(), **replayed})
    place = make("heat", specs["cool"], **{nodes[1]: specs["hot"]})
    assert place.pid(nodes[0]) != place.pid(nodes[1])
    seen: dict[str, list[Action]] = {node: [] for node in nodes}
    for node in nodes:
        place.wait_until_open(node)

    def stopped() -> bool:
        for node in nodes:
            seen[node].append(place.look(node)[0])
        return Action.STOP in seen[nodes[1]]

    wait_for(stopped)
    assert set(seen[nodes[0]]) == {Action.RUN}
    order = [action for action in dict.fromkeys(seen[nodes[1]]) if action is not Action.THROTTLE]
    assert order == [Action.RUN, Action.HOLD, Action.STOP]
    assert seen[nodes[1]].index(Action.HOLD) < len(seen[nodes[1]]) - seen[nodes[1]][::-1].index(Action.RUN), "resumed"
    wait_for(lambda: any(sample.state == "stop" for sample in place.samples[nodes[1]]))
    assert {sample.state for sample in place.samples[nodes[0]]} == {"normal"}


def test_a_governor_that_is_killed_is_replaced_and_the_trials_go_on(
    nodes: list[str], make: Callable[..., Place]
) -> None:
    place = make("killed", COOL)
    place.wait_until_open(nodes[1])
    before = place.strike(nodes[1], signal.SIGKILL)
    wait_for(lambda: bool(place.events))
    place.wait_until_open(nodes[1])
    assert all("is replaced" in event for event in place.events)
    time.sleep(1.5 * COOL.unknown_hold_s)
    assert place.open(nodes[1]), "it follows the successor"
    assert place.pid(nodes[1]) != before


def test_a_governor_that_hangs_is_replaced(nodes: list[str], make: Callable[..., Place]) -> None:
    place = make("hung", COOL)
    place.strike(nodes[0], signal.SIGSTOP)
    wait_for(lambda: any("does not answer" in event for event in place.events))
    place.wait_until_open(nodes[0])
    time.sleep(1.5 * COOL.unknown_hold_s)
    assert place.open(nodes[0])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_without_a_replacement_trials_hold_and_then_stop(
    number: signal.Signals, nodes: list[str], make: Callable[..., Place]
) -> None:
    place = make(f"alone-{number.name}", BRIEF)
    for node in nodes:
        place.wait_until_open(node)
    place.leave_alone()
    place.strike(nodes[0], number)
    seen: list[Action] = []
    wait_for(lambda: seen.append(place.look(nodes[0])[0]) or Action.STOP in seen)
    order = [action for action in dict.fromkeys(seen) if action is not Action.THROTTLE]
    assert order == [Action.RUN, Action.HOLD, Action.STOP]
    assert "no word from the governor" in place.look(nodes[0])[1]
    assert place.open(nodes[1])


def test_a_stop_outlives_its_governor(nodes: list[str], make: Callable[..., Place]) -> None:
    hot = COOL.model_copy(update={"plant": PlantSpec(ambient_celsius=100)})
    place = make("stop", COOL, **{nodes[0]: hot})
    wait_for(lambda: place.look(nodes[0])[0] is Action.STOP)
    wait_for(lambda: bool(place.samples.get(nodes[0])))
    cooler = hot.model_copy(update={"gpu": GpuLimits(target=120, hold=130, resume=110, stop=140)})
    place.governors._spec_of = lambda node: cooler
    os.kill(place.pid(nodes[0]), signal.SIGKILL)
    wait_for(lambda: bool(place.events))
    time.sleep(3)
    assert place.look(nodes[0])[0] is Action.STOP


def test_a_node_without_a_sensor_holds_unless_told_otherwise(nodes: list[str], make: Callable[..., Place]) -> None:
    blind = ThermalSpec.model_validate({**COOL.model_dump(), "sensor": "replay", "replay": "/nonexistent.csv"})
    place = make("blind", COOL, **{nodes[0]: blind})
    assert "no sensor" in place.events[0]
    assert place.look(nodes[0])[0] is Action.HOLD
    told = make("told", COOL, **{nodes[0]: blind.model_copy(update={"require_sensors": False})})
    told.wait_until_open(nodes[0])
