"""The gate of trials under Ray: a thread follows the governor of this node."""

import contextlib
from typing import Any

import ray

from runner.thermal.gate import Follower, ThermalGate
from runner.thermal.governor import CALL_TIMEOUT_S, NAMESPACE, governor_name
from runner.thermal.local_gate import cuda_uuid
from runner.thermal.monitor import Published
from runner.thermal.spec import ThermalSpec


class RayGate(ThermalGate):
    """A `ThermalGate` that finds its governor by name, and again when it was replaced."""

    def __init__(self, run: str, spec: ThermalSpec) -> None:
        super().__init__(spec)
        context = ray.get_runtime_context()
        self._name = governor_name(run, context.get_node_id())
        self._devices = _devices(context)
        self._trial = context.get_actor_id() or context.get_worker_id()
        self._governor: Any = None
        with contextlib.suppress(Exception):  # at once, so that a cool trial does not wait; else the follower brings it
            self.take(self._ask())
        self._follower = Follower(self, self._ask, spec.interval_s / 2, "thermal-follower")

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def _ask(self) -> Published:
        try:
            if self._governor is None:
                self._governor = ray.get_actor(self._name, namespace=NAMESPACE)
            published: Published = ray.get(
                self._governor.published.remote(self._devices, self._trial), timeout=CALL_TIMEOUT_S
            )
        except Exception:
            self._governor = None
            raise
        return published


def _devices(context: Any) -> tuple[str, ...]:
    """The GPUs that Ray gave this worker, by UUID as CUDA itself says it; else the CPU."""
    count = len(context.get_accelerator_ids().get("GPU", []))
    return tuple(cuda_uuid(index) for index in range(count)) or ("cpu",)
