"""Probe requests and their results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from runner.host.cuda import driver_version, mps_runs
from runner.host.memory_limits import Limit
from runner.probe.batch_size import Measurement, Stop
from trainables.parts import Plugin
from trainables.schema import ExecutionRecord, Measured, TrialSpec

GRADIENT_BYTES = 4 + 4  # fp32 parameter and its gradient; bf16 is autocast over fp32 weights
BUILT_BYTES_PER_PARAMETER = 4  # the whole model is on each device before it is sharded


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """One trial whose execution is to be found.

    Attributes:
        label: for people.
        record: how it would be executed without the probe.
        pinned: those of `micro_batch`, `threads`, `gpu_share` and `devices` that the user has chosen; the probe finds
            the others.
        most_devices: that one host has for a trial.
        n_rows: rows of the data's table.
        n_windows: training windows.
        n_trials: trials that could run at the same time as this one, itself included; None = not known.
        n_alike: trials that will run as decided.
        plugins: what the measuring process loads first.
        parts: name, version and source hash of the registered parts that are measured.
    """

    label: str
    spec: TrialSpec
    record: ExecutionRecord
    pinned: frozenset[str] = frozenset()
    device_name: str
    n_rows: int
    n_windows: int
    most_devices: int = 1
    n_trials: int | None = None
    n_alike: int = 1
    plugins: tuple[Plugin, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()

    @property
    def steps(self) -> int:
        """Optimizer steps of all trials that will run as decided."""
        return self.n_alike * self.spec.training.total_steps(self.n_windows)

    @property
    def whole_batch(self) -> bool:
        """Whether the loss compares the windows of a global batch, which is one micro-batch then."""
        return self.record.smallest_micro_batch > 1

    @property
    def batch(self) -> int:
        """Windows in a step: the global batch, or all training windows where they are fewer."""
        return min(self.spec.training.global_batch, self.n_windows)

    @property
    def n_params(self) -> int:
        """Parameters of the model."""
        return self.spec.model.n_params

    def static_bytes(self, record: ExecutionRecord) -> int:
        """What parameters, gradients and optimizer state take of a device, whatever the micro-batch."""
        share = (GRADIENT_BYTES + self.spec.moment_bytes) / (record.devices if record.sharded else 1)
        return round(self.n_params * max(BUILT_BYTES_PER_PARAMETER, share))

    def layouts(self) -> list[ExecutionRecord]:
        """Records that are tried, in this order: the first in which a micro-batch fits is used.

        The whole model on each device, then in parts over the devices that are pinned, or over 2, 3, ... of a host.
        """
        one = self.record.devices
        counts = [one] if "devices" in self.pinned else range(2, self.most_devices + 1)
        tried = [(one, False), *((count, True) for count in counts if count > 1)]
        return [
            self.record.model_copy(update={"devices": count, "sharded": parts, "activation_checkpointing": frugal})
            for count, parts in tried
            for frugal in (False, True)
            if not self.cannot_split(count)
        ]

    def cannot_split(self, devices: int) -> str:
        """Why a trial cannot run over so many devices; empty where it can."""
        if devices > self.most_devices:
            return f"{devices} devices are asked for, and a host has {self.most_devices}"
        if devices > 1 and self.whole_batch:
            return "the loss compares the windows of a batch, which cannot be split over devices"
        return f"the {self.batch} windows of a step cannot be split over {devices}" if self.batch % devices else ""

    def identity(self, record: ExecutionRecord, copies: int = 1) -> dict[str, Any]:
        """All that a measurement depends on, the micro-batch and the memory limit left out."""
        training = self.spec.training
        return {
            "model": self._measured_model(),
            "sources": [part["sha256"] for part in self.parts],
            "task": self.spec.task.outcome,
            "loss": [training.model_dump(mode="json")["loss"], training.class_weight],
            "scaling": self.spec.data.scaling,
            "rows": self.n_rows,
            "batch": self.batch,
            "dtype": self.spec.dtype,
            "device": [record.device, self.device_name],
            "driver": driver_version() if record.device == "cuda" else "",
            "torch": torch.__version__,
            "threads": record.threads,
            "activation_checkpointing": record.activation_checkpointing,
            "copies": copies,
            **({"optimizer_states": "bf16"} if self.spec.optimizer_states == "bf16" else {}),
            **({"cuda_graph": True} if record.cuda_graph else {}),
            **({"mps": True} if copies > 1 and record.device == "cuda" and mps_runs() else {}),
            **({"devices": [record.devices, record.sharded]} if record.devices > 1 else {}),
        }

    def _measured_model(self) -> dict[str, Any]:
        """The model; a rate of dropout takes memory and time as any other above 0, and a search tries many of them."""
        model = self.spec.model.model_dump(mode="json")
        if isinstance(rate := model["config"].get("dropout"), float):
            model["config"]["dropout"] = rate > 0
        return model


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """How to probe.

    Attributes:
        margin: share of the limit that stays free.
        memory_limit: a limit in bytes below what the device has.
        reserve_bytes: what else will need memory while trials run (CPU only).
        extra_bytes: what a trial's worker takes beyond the probe's (CPU only).
        cores: of the host.
        seconds_per_model: no size is begun that would not end within so much measuring time, or within 2 % of the
            training that follows where that is more, but at most two minutes.
        timeout_s: of one size: of its first step, and of its measurement.
    """

    margin: float = 0.1
    minimum: int = 1
    maximum: int | None = None
    memory_limit: int | None = None
    reserve_bytes: int = 0
    extra_bytes: int = 0
    cores: int = 1
    seconds_per_model: float = 10.0
    timeout_s: float = 60.0
    cache_folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """How a trial is to be executed, or why it cannot be.

    Attributes:
        reason: why it is not feasible; empty where it is.
        extra_bytes: what a trial takes beyond the probe's process.
        needed_bytes: at the smallest micro-batch; where that could not be run, a lower bound.
        usable_bytes: the limit less margin and reserve.
        measured: every size that the answer rests on, from the cache or not.
        n_new: sizes measured now.
        disturbed: other programs took processors while it was measured; it may be faster.
        execution: how it is to be executed; the request's where it cannot be.
        copies: trials at once that the throughput below holds for.
        totals: windows a second of all copies on one GPU, by their number; empty where their share is pinned.
        samples_per_second: of one trial that runs with `copies - 1` like it.
        seconds: that answering took, with the start of processes.
    """

    question: ProbeRequest
    reason: str = ""
    stopped: Stop | Literal["static"]
    chosen: Measurement | None = None
    measured: tuple[Measurement, ...] = ()
    n_new: int = 0
    n_oom: int = 0
    limit: Limit
    usable_bytes: int
    needed_bytes: int
    extra_bytes: int = 0
    disturbed: bool = False
    execution: ExecutionRecord
    copies: int = 1
    totals: tuple[tuple[int, float], ...] = ()
    samples_per_second: float = 0.0
    seconds: float = 0.0

    @property
    def feasible(self) -> bool:
        """Whether it can be run."""
        return self.chosen is not None

    @property
    def seconds_per_step(self) -> float:
        """Of one optimizer step."""
        return self.question.batch / self.samples_per_second if self.samples_per_second else 0.0

    @property
    def record(self) -> ExecutionRecord:
        """The execution record of a trial that runs as decided; only where it is feasible."""
        assert self.chosen is not None
        peak = self.chosen.peak_bytes + self.extra_bytes
        peak *= self.execution.devices if self.execution.device == "cpu" else 1  # processes share the host's memory
        measured = Measured(peak_bytes=peak, seconds_per_step=self.seconds_per_step)
        return self.execution.model_copy(update={"measured": measured})


class Decides(Protocol):
    """Whoever answers questions: this host's prober, or a cluster's."""

    def decide(self, question: ProbeRequest) -> ProbeResult:
        """Find out how a trial can be executed."""
        ...
