"""An existing Ray cluster: what its nodes are, whether they can run a sweep, and the probe on each kind of device."""

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.config.settings import RayEnvironment, SweepSettings, UserSettings
from runner.doctor.finding import Diagnosis, ok
from runner.host.device import Device, Site, resolve
from runner.host.versions import code_version
from runner.planning import execution as resources
from runner.probe.request import ProbeRequest, ProbeResult
from runner.thermal import sensors
from runner.thermal.spec import ThermalSpec
from trainables.parts import Plugin, plugins
from trainables.schema import ExecutionSpec

NODES_TIMEOUT_S = 900.0  # a cloud's GPU host takes minutes to start
LOOK_TIMEOUT_S = 120.0  # a node's first worker imports torch
SHARED_WAIT_S = 10.0  # a network file system shows a new file late
log = logging.getLogger(__name__)
ACCELERATOR = "accelerator_type:"  # the resource by which Ray names a node's kind of GPU


@dataclass(frozen=True)
class Node:
    """What a node says of itself.

    Attributes:
        cores: what Ray gives out there; none = no trial is to run there.
        device: what trials would run on.
        accelerator: its kind of GPU in Ray's words; empty without one.
        unseen: the shared folders that it does not see.
        memory_monitor: Ray's setting there; empty = Ray's default, which is on.
        no_sensor: why no temperature can be read; empty where one can.
        error: why it could not be asked; the rest is then empty.
    """

    node_id: str
    address: str
    cores: float = 1.0
    device: Device = field(default_factory=lambda: Device("cpu", "", 0))
    accelerator: str = ""
    version: str = ""
    unseen: tuple[str, ...] = ()
    memory_monitor: str = ""
    no_sensor: str = ""
    error: str = ""

    @property
    def kind(self) -> tuple[str, str, str]:
        """Nodes of one kind are probed once."""
        return (self.device.kind, self.device.name, self.accelerator)


def _look(
    execution: ExecutionSpec, thermal: ThermalSpec, marks: tuple[Path, ...], parts: tuple[Plugin, ...]
) -> dict[str, Any]:
    """Runs on a node."""
    plugins.load(parts)
    anything = execution.model_copy(update={"dtype": "auto", "device": "cpu" if execution.device == "cpu" else "auto"})
    device, _ = resolve(anything)
    deadline = time.monotonic() + SHARED_WAIT_S
    while not all(mark.exists() for mark in marks) and time.monotonic() < deadline:
        time.sleep(0.5)
    return {
        "device": device,
        "version": code_version(),
        "unseen": tuple(str(mark.parent) for mark in marks if not mark.exists()),
        "memory_monitor": RayEnvironment().memory_monitor_refresh_ms,
        "no_sensor": sensors.check(thermal, device.kind),
    }


def survey(
    execution: ExecutionSpec, thermal: ThermalSpec, shared: Sequence[Path], *, patience_s: float = NODES_TIMEOUT_S
) -> tuple[Node, ...]:
    """Ask every living node, and wait for one that can run trials: a cluster may still be growing.

    Args:
        execution: settings.
        thermal: settings.
        shared: folders that all nodes must see under the same path.
        patience_s: how long to wait for a node with cores.
    """
    alive = _alive(patience_s)
    with _marked(shared) as marks:
        asked = [_on(_look, node["NodeID"]).remote(execution, thermal, marks, plugins.loaded()) for node in alive]
        ray.wait(asked, num_returns=len(asked), timeout=LOOK_TIMEOUT_S)
        return tuple(_answer(node, reference) for node, reference in zip(alive, asked, strict=True))


def _alive(patience_s: float) -> list[dict[str, Any]]:
    began, said = time.monotonic(), False
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        if any(node["Resources"].get("CPU") for node in alive) or time.monotonic() - began >= patience_s:
            return alive
        if not said:
            said = True
            log.warning("no node of the cluster has cores yet: waiting for one, at most %.0f s", patience_s)
        time.sleep(1.0)


def _answer(node: dict[str, Any], reference: Any) -> Node:
    names = [name.removeprefix(ACCELERATOR) for name in node["Resources"] if name.startswith(ACCELERATOR)]
    cores = node["Resources"].get("CPU", 0.0)
    found = Node(node["NodeID"], node["NodeManagerAddress"], cores, accelerator=names[0] if names else "")
    try:
        node_says = ray.get(reference, timeout=0.1)
    except Exception as error:  # whatever it is, the node cannot be used
        return replace(found, error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    device = node_says["device"]
    if device.kind == "cpu" and cores >= 1:  # Ray may give out fewer than the host has
        node_says["device"] = replace(device, count=int(cores))
    return replace(found, **node_says)


def _on(work: Any, node_id: str, **options: Any) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(work).options(num_cpus=0, scheduling_strategy=strategy, **options)


@contextmanager
def _marked(folders: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """A new file in each folder, for as long as it lasts."""
    marks = tuple(folder.resolve() / f".seen-{secrets.token_hex(8)}" for folder in folders)
    for mark in marks:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    try:
        yield marks
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


# ---- judged ------------------------------------------------------------------------------------------------------


def check(nodes: Sequence[Node]) -> Iterator[Diagnosis]:
    """What the doctor says of a cluster."""
    own = code_version()
    for node in nodes:
        place = f"node {node.address}"
        problems = list(_problems(place, node, own))
        yield from problems or [ok(place, f"{node.device.count} x {node.device.name}, isotherm {node.version}")]
    if not workers(nodes):
        yield Diagnosis(
            check="cluster",
            level="error",
            what="no node can run trials: none has cores to give",
            why="every trial would wait without end",
            fix="start a node with --num-cpus above 0; let an autoscaled group have at least one",
        )


def _problems(place: str, node: Node, own: str) -> Iterator[Diagnosis]:
    def error(what: str, why: str, fix: str) -> Diagnosis:
        return Diagnosis(check=place, level="error", what=what, why=why, fix=fix)

    image = "start every node from the same image"
    if node.error:
        yield error(
            f"cannot be asked: {node.error}", "every node that gets trials needs this code and its libraries", image
        )
        return
    if node.version != own:
        what = f"has isotherm {node.version}, this node has {own}"
        yield error(what, "trials of one sweep must run the same code", image)
    for folder in node.unseen:
        yield error(
            f"does not see {folder}",
            "checkpoints, predictions and datasets are read and written there by every node",
            "mount the shared file system there, under the same path, on every node",
        )
    if node.memory_monitor != "0":
        yield Diagnosis(
            check=place,
            level="warn",
            what=f"Ray's memory monitor is on (RAY_memory_monitor_refresh_ms is {node.memory_monitor or 'not set'})",
            why="where it kills one worker, the whole sweep ends; each trial has a guard of its own",
            fix="start Ray there with RAY_memory_monitor_refresh_ms=0 in its environment",
        )


def workers(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes that get trials: those with a GPU, or all where none has one."""
    usable = [node for node in nodes if not node.error and node.cores]
    with_gpu = [node for node in usable if node.device.kind == "cuda"]
    return tuple(with_gpu or usable)


def site(nodes: Sequence[Node]) -> Site:
    """The cluster as one device."""
    chosen = workers(nodes)
    names = list(dict.fromkeys(node.device.name for node in chosen))
    kinds = tuple(dict.fromkeys(node.accelerator for node in chosen if node.accelerator))
    blind = [f"node {node.address}: {node.no_sensor}" for node in chosen if node.no_sensor]
    count = sum(node.device.count for node in chosen)
    device = Device(chosen[0].device.kind, " and ".join(names), count, accelerators=kinds)
    return Site(device, "; ".join(blind))


# ---- the probe ---------------------------------------------------------------------------------------------------


class _NodeProber:
    """An actor: the probe on one node, with that user's cache there."""

    def __init__(self, settings: SweepSettings) -> None:
        self._settings = settings
        self._prober = resources.make_prober(
            settings, cache_folder=UserSettings().cache_dir, say=_say_nothing
        ).__enter__()

    def decide(self, question: ProbeRequest) -> ProbeResult:
        device, _ = resolve(self._settings.execution.model_copy(update={"device": question.record.device}))
        most = device.count if question.most_devices > 1 else 1
        return self._prober.decide(replace(question, device_name=device.name, most_devices=most))

    def close(self) -> None:
        self._prober.__exit__()


def _say_nothing(_: str) -> None:
    return


@dataclass
class _Kind:
    """One kind of node, and the seconds of trials that it was given so far, per device."""

    first: Node
    count: int
    prober: Any
    load_s: float = 0.0


@dataclass
class ClusterProber:
    """Asks the probe on one node of each kind, and gives each trial to the kind that will be done first with it.

    A context: the actors end with it. `say` is called with what is being measured.
    """

    nodes: Sequence[Node]
    settings: SweepSettings
    say: Callable[[str], None]
    _kinds: list[_Kind] = field(default_factory=list)

    def __enter__(self) -> "ClusterProber":
        by_kind: dict[tuple[str, str, str], list[Node]] = {}
        for node in workers(self.nodes):
            by_kind.setdefault(node.kind, []).append(node)
        for members in by_kind.values():
            first = members[0]
            gpus = min(first.device.count, self._devices) if first.device.kind == "cuda" else 0
            actor = _on(_NodeProber, first.node_id, num_gpus=gpus)
            count = sum(node.device.count for node in members)
            self._kinds.append(_Kind(first, count, actor.remote(self.settings)))
        return self

    @property
    def _devices(self) -> int:
        """GPUs that a trial may need: the probe asks for no more, as others may use the rest of a cluster's."""
        asked = self.settings.execution.devices_per_trial
        return 1 if asked == "auto" else int(asked)

    def __exit__(self, *_: object) -> None:
        for kind in self._kinds:
            ray.get(kind.prober.close.remote())
            ray.kill(kind.prober)

    def decide(self, question: ProbeRequest) -> ProbeResult:
        """How a trial is to be executed, and on which kind of node.

        Raises:
            ProbeError: a measurement failed for a reason that is neither memory nor time.
        """
        self.say(f"{question.label} on {', '.join(kind.first.device.name for kind in self._kinds)}")
        several = len(self._kinds) > 1  # of one kind, a trial may go anywhere, and to nodes yet to come
        asked = [
            kind.prober.decide.remote(_on_kind(question, kind.first.accelerator if several else ""))
            for kind in self._kinds
        ]
        try:
            decisions: list[ProbeResult] = ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from error
        fitting = [(kind, one) for kind, one in zip(self._kinds, decisions, strict=True) if one.feasible]
        if not fitting:
            return max(decisions, key=lambda one: one.usable_bytes)
        kind, decision = min(fitting, key=lambda pair: pair[0].load_s + _seconds(*pair))
        kind.load_s += _seconds(kind, decision)
        return decision


def _on_kind(question: ProbeRequest, accelerator: str) -> ProbeRequest:
    return replace(question, record=question.record.model_copy(update={"accelerator": accelerator}))


def _seconds(kind: _Kind, decision: ProbeResult) -> float:
    """What a trial adds to the time after which this kind of node is done."""
    question, record = decision.question, decision.execution
    steps = question.spec.training.total_steps(question.n_windows)
    share = record.gpu_share * record.devices if record.device == "cuda" else float(record.cores)
    return steps * decision.seconds_per_step * share / kind.count
