"""The governor: one named Ray actor per node that samples and judges, and the driver's side that keeps them alive."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runner.host.cuda import cuda_visible_devices
from runner.thermal.monitor import Published, Sample, ThermalMonitor, together
from runner.thermal.policy import Level
from runner.thermal.sensors import SensorError, open_sensor
from runner.thermal.spec import ThermalSpec
from trainables.errors import ConfigError
from trainables.parts import Plugin, plugins

NAMESPACE = "isotherm"
ORPHANED_S = 600.0  # a governor that no driver has asked for so long ends: its sweep is dead
START_TIMEOUT_S = 60.0  # a first answer needs a worker process and its imports
CALL_TIMEOUT_S = 1.0
NODES_INTERVAL_S = 5.0

log = logging.getLogger(__name__)


def governor_name(run: str, node_id: str) -> str:
    """The actor's name within `NAMESPACE`."""
    return f"governor-{run}-{node_id}"


class Governor:
    """The actor. A thread samples; calls answer from memory, so they answer even while the sensor hangs."""

    def __init__(
        self,
        spec: ThermalSpec,
        device: str,
        stopped: frozenset[str] = frozenset(),
        parts: tuple[Plugin, ...] = (),
    ) -> None:
        self._spec = spec
        self._why = ""
        self._station: ThermalMonitor | None = None
        self._asked_s = time.monotonic()
        self._over = threading.Event()
        try:
            plugins.load(parts)
            self._station = ThermalMonitor(spec, open_sensor(spec, device, cuda_visible_devices()), stopped=stopped)
        except (SensorError, ConfigError) as error:
            self._why = str(error)
        self._sampler = threading.Thread(target=self._sample, name="thermal-sampler", daemon=True)
        self._sampler.start()

    def published(self, devices: tuple[str, ...], trial: str) -> Published:
        """What holds for a trial's devices: the worst of them, with the heat and power of all."""
        if self._station is None:
            return self._without_sensor()
        return together([self._station.published(device, trial) for device in devices])

    def samples_after(self, seq: int) -> list[Sample]:
        """Telemetry with a higher number; also says that a driver is there."""
        self._asked_s = time.monotonic()
        return [] if self._station is None else self._station.samples_after(seq)

    def about(self) -> dict[str, Any]:
        """Process id, watched devices, why there is no sensor, if there is none, and what is not as asked for."""
        devices, notes = ((), ()) if self._station is None else (self._station.devices, self._station.notes)
        return {"pid": os.getpid(), "devices": devices, "why": self._why, "notes": notes}

    def end(self) -> None:
        """Let go of the sensor, which sets power limits again as they were."""
        self._over.set()
        self._sampler.join(CALL_TIMEOUT_S)

    def _without_sensor(self) -> Published:
        period_s, now = self._spec.period_s, time.monotonic()
        if self._spec.require_sensors:
            return Published(-self._spec.unknown_stop_s, Level.HOLD, 0.0, period_s, None, self._why)
        return Published(now, Level.NORMAL, 1.0, period_s, None, f"not protected: {self._why}")

    def _sample(self) -> None:
        while time.monotonic() - self._asked_s < ORPHANED_S and not self._over.is_set():
            started = time.monotonic()
            if self._station is not None:
                self._station.sample()
            self._over.wait(max(0.0, self._spec.interval_s - (time.monotonic() - started)))
        if self._station is not None:
            self._station.sensor.close()
        if not self._over.is_set():
            os._exit(0)


@dataclass
class _Kept:
    """What the driver knows of one node's governor."""

    handle: ActorHandle
    started_s: float
    answered_s: float | None = None
    seq: int = -1
    stopped: frozenset[str] = field(default_factory=frozenset)


class Governors:
    """One governor on every node of the cluster, from the driver: started, asked, replaced when dead, ended.

    `on_samples(node_id, samples)` and `on_event(text)` are called from one thread of this object's own.
    """

    def __init__(
        self,
        run: str,
        spec: ThermalSpec,
        device: str,
        *,
        on_samples: Callable[[str, list[Sample]], None],
        on_event: Callable[[str], None],
        lost: Callable[[], str] = lambda: "",
        spec_of: Callable[[str], ThermalSpec] | None = None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            run: names the governors; different from that of any other driver on the cluster.
            spec: limits and times.
            device: what trials run on, ``cuda`` or ``cpu``.
            on_samples: takes telemetry in.
            on_event: takes in what is worth remembering.
            lost: what has become of Ray, where it cannot be called any more.
            spec_of: settings by node, where they differ.
        """
        self._run, self._device = run, device
        self._spec, self._spec_of = spec, spec_of or (lambda node: spec)
        self._on_samples, self._on_event, self._lost = on_samples, on_event, lost
        self._kept: dict[str, _Kept] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="governors", daemon=True)

    def start(self) -> None:
        """Start a governor on every node, wait until each has answered once, and keep them from now on."""
        self._look_for_nodes()
        deadline = time.monotonic() + START_TIMEOUT_S
        for node, kept in self._kept.items():
            with contextlib.suppress(
                Exception
            ):  # a governor that does not start: trials there hold, the thread retries
                about = ray.get(kept.handle.about.remote(), timeout=max(0.1, deadline - time.monotonic()))
                kept.answered_s = time.monotonic()
                for note in (f"no sensor ({about['why']})" if about["why"] else "", *about["notes"]):
                    if note:
                        self._on_event(f"node {node[:8]}: {note}")
        self._thread.start()

    def close(self) -> None:
        """Fetch the last samples and end all governors."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=0.0 if self._lost() else 10.0)
        if self._lost():
            return
        for node, kept in self._kept.items():
            with contextlib.suppress(Exception):
                self._ask(node, kept)
            with contextlib.suppress(Exception):
                ray.get(kept.handle.end.remote(), timeout=2 * CALL_TIMEOUT_S)
            with contextlib.suppress(Exception):
                ray.kill(kept.handle, no_restart=True)

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        looked_s = time.monotonic()
        while not self._over.wait(self._spec.interval_s) and not self._lost():
            try:
                if time.monotonic() - looked_s >= NODES_INTERVAL_S:
                    self._look_for_nodes()
                    looked_s = time.monotonic()
                for node, kept in list(self._kept.items()):
                    self._visit(node, kept)
            except Exception:  # the cluster is going down, or a listener failed: protection must go on
                log.exception("the governors could not be looked after; tried again")

    def _visit(self, node: str, kept: _Kept) -> None:
        """Ask one governor; replace it where it is dead or has been silent for too long."""
        try:
            self._ask(node, kept)
        except GetTimeoutError:
            since_s = kept.answered_s if kept.answered_s is not None else kept.started_s + START_TIMEOUT_S
            if time.monotonic() - since_s >= self._spec.unknown_hold_s / 2:
                self._replace(node, kept, "does not answer")
        except ray.exceptions.RayError as error:
            self._replace(node, kept, f"died ({type(error).__name__})")

    def _ask(self, node: str, kept: _Kept) -> None:
        samples: list[Sample] = ray.get(kept.handle.samples_after.remote(kept.seq), timeout=CALL_TIMEOUT_S)
        kept.answered_s = time.monotonic()
        if samples:
            kept.seq = samples[-1].seq
            newly = {sample.device for sample in samples if sample.state == Level.STOP.word}
            kept.stopped |= newly
            self._on_samples(node, samples)

    def _replace(self, node: str, kept: _Kept, why: str) -> None:
        self._on_event(f"node {node[:8]}: the governor {why} and is replaced; trials hold until it has a reading")
        with contextlib.suppress(Exception):
            ray.kill(kept.handle, no_restart=True)
        with contextlib.suppress(ray.exceptions.RayError, ValueError):  # the name is not free yet: next time
            self._kept[node] = self._begin(node, kept.stopped)

    def _look_for_nodes(self) -> None:
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        for node in alive - set(self._kept):
            self._kept[node] = self._begin(node, frozenset())
        for node in set(self._kept) - alive:
            del self._kept[node]

    def _begin(self, node: str, stopped: frozenset[str]) -> _Kept:
        actor = ray.remote(num_cpus=0, max_restarts=0)(Governor)
        handle = actor.options(
            name=governor_name(self._run, node),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        ).remote(self._spec_of(node), self._device, stopped, plugins.loaded())
        return _Kept(handle, time.monotonic(), stopped=stopped)
