"""Temperature protection of a sweep under Tune: governors, gates, and the end where nothing can work any more."""

import functools
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from ray import tune

from runner.host.cuda import cuda_visible_devices
from runner.rundir.ledger import EventRecorded
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from runner.thermal import TEMPERATURE
from runner.thermal.gate import ThermalGate
from runner.thermal.governor import Governors
from runner.thermal.monitor import Sample
from runner.thermal.ray_gate import RayGate
from runner.thermal.sensors import check
from runner.thermal.spec import ThermalSpec
from runner.thermal.telemetry import Telemetry
from runner.tune.drain import Drain, FlagGate, post_lookout
from runner.tune.metrics import RayMetrics
from runner.tune.ray_watch import RayWatch
from trainables.checkpoints.object_store import StoragePlace
from trainables.training.gate import Action
from trainables.trial_life import TrialGate

STUCK_S = 10.0  # longer than Ray takes to start the next trial on a device that is free
DRAIN_LOOK_S = 0.2

log = logging.getLogger(__name__)


class SweepGate:
    """A trial's gate under Tune: the governor's, and the drain's. A drain or pause wins over all but a stop."""

    def __init__(self, drain: FlagGate, thermal: ThermalGate) -> None:
        self._drain, self._thermal = drain, thermal

    def begin(self) -> None:
        """See `TrialGate.begin`."""
        self._thermal.begin()

    def readings(self) -> dict[str, float]:
        """See `TrialGate.readings`."""
        return self._thermal.readings()

    @property
    def reason(self) -> str:
        """See `TrialGate.reason`."""
        return self._drain.reason or self._thermal.reason

    def check(self) -> Action:
        """See `StepGate.check`."""
        action, asked = self._thermal.check(), self._drain.check()
        return action if action is Action.STOP or asked is Action.RUN else asked

    def wait(self, max_seconds: float) -> float:
        """See `StepGate.wait`."""
        if self._drain.check() is Action.RELEASE:
            return self._drain.wait(max_seconds)
        waited_s = 0.0
        while waited_s < max_seconds and self._drain.check() is Action.RUN:
            part_s = min(DRAIN_LOOK_S, max_seconds - waited_s)
            now_s = self._thermal.wait(part_s)
            waited_s += now_s
            if now_s < part_s:
                return waited_s
        return min(waited_s, max_seconds)


def _make_gate(make_drain: Callable[[], FlagGate], run: str, spec: ThermalSpec) -> SweepGate:
    return SweepGate(make_drain(), RayGate(run, spec))


class Protection:
    """The governors of a sweep while it runs; a context.

    Without any sensor, where none is required, it does nothing.
    """

    def __init__(
        self,
        spec: ThermalSpec,
        device: str,
        paths: RunPaths,
        recorder: Recorder,
        watch: RayWatch,
        *,
        cluster: bool,
        metrics: RayMetrics | None = None,
    ) -> None:
        """Prepare.

        Args:
            spec: settings.
            device: what trials run on, ``cuda`` or ``cpu``.
            paths: where `thermal.parquet` goes.
            recorder: takes events.
            watch: of Ray's processes.
            cluster: trials run on other hosts, whose governors know whether there are sensors.
            metrics: take the temperatures in, too.
        """
        self._spec, self._recorder, self._metrics = spec, recorder, metrics
        # A driver killed on a shared cluster leaves governors for a while: the next one must not take up their limits.
        self._run = f"{paths.name}-{secrets.token_hex(4)}"
        self._telemetry: Telemetry | None = None
        self._governors: Governors | None = None
        # A sensor that is required and fails now is for the governor, which holds: without one nothing would.
        if cluster or spec.require_sensors or not check(spec, device, cuda_visible_devices()):
            self._telemetry = Telemetry(paths.thermal_parquet)
            self._governors = Governors(
                self._run, spec, device, lost=watch.dead, on_samples=self._on_samples, on_event=self._on_event
            )

    def __enter__(self) -> Self:
        if self._governors is not None:
            self._governors.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._governors is None or self._telemetry is None:
            return
        self._governors.close()
        try:
            self._telemetry.write(now=True)
        except OSError:
            log.exception("the telemetry could not be written")

    def make_gate(self, flag: Path, elsewhere: StoragePlace | None) -> Callable[[], TrialGate]:
        """What makes a trial's gate, in its worker.

        Args:
            flag: of the drain.
            elsewhere: the storage that serves nodes which may not see the flag; None where all do.
        """
        flag = flag.absolute()  # nodes of a cluster have other current directories
        lookout = post_lookout(flag) if elsewhere is not None else None
        make_drain = functools.partial(FlagGate, flag, elsewhere, lookout)
        if self._governors is None:
            return make_drain
        return functools.partial(_make_gate, make_drain, self._run, self._spec)

    def line(self) -> str:
        """The state of the devices, for the live progress."""
        return self._telemetry.line() if self._telemetry is not None else ""

    # ---- called by the governors' thread -------------------------------------------------------------------------

    def _on_samples(self, node: str, samples: list[Sample]) -> None:
        assert self._telemetry is not None
        for words in self._telemetry.add(node, samples):
            self._on_event(words)
        self._telemetry.write()
        if self._metrics is not None:
            self._metrics.on_samples(node, samples)

    def _on_event(self, message: str) -> None:
        self._recorder.record(EventRecorded(what="thermal", message=message))


class StuckWatch(tune.Callback):  # type: ignore[misc]
    """Ends the sweep when every trial that runs waits for a stopped device: nothing can work any more."""

    def __init__(self, drain: Drain) -> None:
        self._drain: Drain | None = drain
        self._waiting: set[str] = set()
        self._since_s: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks into a snapshot that is never read back."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Take note of who waits."""
        key = trial.config["job"]["key"]
        stuck = result.get("kind") == "waiting" and result.get("gate") == Action.STOP.value
        (self._waiting.add if stuck else self._waiting.discard)(key)
        self._look()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It waits no more."""
        self._waiting.discard(trial.config["job"]["key"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """It waits no more."""
        self._waiting.discard(trial.config["job"]["key"])

    def _look(self) -> None:
        drain = self._drain
        if drain is None or not drain.running or not drain.running <= self._waiting:
            self._since_s = None
            return
        self._since_s = self._since_s if self._since_s is not None else time.monotonic()
        if time.monotonic() - self._since_s >= STUCK_S:
            drain.request(TEMPERATURE)
