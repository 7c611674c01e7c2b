"""A sweep's numbers among those of Ray: a cluster's Prometheus reads them where it reads Ray's own.

Names begin with ``ray_isotherm_`` there; every one has the tag `run`. Ray without its extra `default` drops them.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ray import tune
from ray.util.metrics import Gauge

from runner.rundir.ledger import AnyRecord, LedgerView, MetricsRecorded
from runner.thermal.monitor import Sample
from runner.thermal.policy import Level

RUNNING, WAITING = "running", "waiting"
STATES = (
    WAITING, RUNNING, "finished", "failed", "diverged", "out_of_memory", "thermal_stop", "interrupted", "infeasible",
    "pruned",
)  # fmt: skip


class RayMetrics(tune.Callback):  # type: ignore[misc]
    """Follows the ledger, the governors and what trials report."""

    def __init__(self, run: str) -> None:
        def gauge(name: str, description: str, *tags: str) -> Gauge:
            made = Gauge(f"isotherm_{name}", description, tag_keys=("run", *tags))
            made.set_default_tags({"run": run})
            return made

        self._trials = gauge("trials", "Trials of the grid by state.", "state")
        self._celsius = gauge("temperature_celsius", "Newest reading of a sensor.", "node", "device", "sensor")
        self._level = gauge(
            "thermal_level", "0 normal, 1 throttle, 2 hold, 3 release, 4 stop.", "node", "device", "sensor"
        )
        self._held = gauge("held_seconds", "Time that a trial has been held so far.", "trial")
        self._rate = gauge("samples_per_second", "Training throughput of a trial since its last report.", "trial")
        self._last: dict[str, tuple[int, float]] = {}  # step, and seconds of training

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks into a snapshot that is never read back."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Held time and throughput."""
        if "train_s" not in result:
            return
        key, batch = trial.config["job"]["key"], trial.config["job"]["global_batch"]
        self._held.set(result["held_s"], tags={"trial": key})
        step, seconds = self._last.get(key, (0, 0.0))
        self._last[key] = result["step"], result["train_s"]
        if result["step"] > step and result["train_s"] > seconds:
            self._rate.set((result["step"] - step) * batch / (result["train_s"] - seconds), tags={"trial": key})

    def on_record(self, record: AnyRecord, view: LedgerView) -> None:
        """Take in a record of the ledger."""
        if isinstance(record, MetricsRecorded):
            return  # changes no state, and is the most frequent of all
        cells = (view.cells.get(key) for key in view.compared_keys)
        counts = Counter(WAITING if cell is None else cell.status or WAITING for cell in cells)
        for state in STATES:
            self._trials.set(counts[state], tags={"state": state})

    def on_samples(self, node: str, samples: Iterable[Sample]) -> None:
        """Take in telemetry of a node."""
        newest = {(one.device, f"{one.sensor} {one.part}".strip()): one for one in samples}
        for (device, sensor), one in newest.items():
            tags = {"node": node[:8], "device": device, "sensor": sensor}
            self._level.set(Level[one.state.upper()], tags=tags)
            if one.celsius is not None:
                self._celsius.set(one.celsius, tags=tags)
