"""Probe requests and their results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from runner.host.cuda import driver_version
from runner.host.memory_limits import Limit
from runner.probe.batch_size import Measurement, Stop
from trainables.parts import Plugin
from trainables.schema import ExecutionRecord, Measured, TrialSpec

# fp32 parameter, its gradient and two moments of AdamW; bf16 is autocast over fp32 weights.
STATIC_BYTES_PER_PARAMETER = 4 * 4


@dataclass(frozen=True, kw_only=True)
class ProbeRequest:
    """One trial whose execution is to be found.

    Attributes:
        label: for people.
        n_rows: rows of the data's table.
        n_windows: training windows.
        micro_batch, threads, gpu_share: pinned by the user; None where the probe decides.
        whole_batch: the loss compares the windows of a global batch, which is one micro-batch then.
        n_trials: trials that could run at the same time as this one, itself included; None = not known.
        n_alike: trials that will run as decided.
        accelerator: the kind of GPU in a cluster's words; empty on one host. Not part of the measurement.
        plugins: what the measuring process loads first.
        parts: name, version and source hash of the registered parts that are measured.
    """

    label: str
    spec: TrialSpec
    device: Literal["cpu", "cuda"]
    device_name: str
    n_rows: int
    n_windows: int
    micro_batch: int | None = None
    threads: int | None = None
    gpu_share: float | None = None
    whole_batch: bool = False
    accelerator: str = ""
    n_trials: int | None = None
    n_alike: int = 1

    @property
    def steps(self) -> int:
        """Optimizer steps of all trials that will run as decided."""
        return self.n_alike * self.spec.training.total_steps(self.n_windows)

    plugins: tuple[Plugin, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()

    @property
    def batch(self) -> int:
        """Windows in a step: the global batch, or all training windows where they are fewer."""
        return min(self.spec.training.global_batch, self.n_windows)

    @property
    def n_params(self) -> int:
        """Parameters of the model."""
        return self.spec.model.n_params

    @property
    def static_bytes(self) -> int:
        """What parameters, gradients and optimizer state take, whatever the micro-batch."""
        return STATIC_BYTES_PER_PARAMETER * self.n_params

    def identity(self, *, threads: int, activation_checkpointing: bool, copies: int = 1) -> dict[str, Any]:
        """All that a measurement depends on, the micro-batch and the memory limit left out."""
        training = self.spec.training
        return {
            "model": self.spec.model.model_dump(mode="json"),
            "sources": [part["sha256"] for part in self.parts],
            "task": self.spec.task.outcome,
            "loss": [training.model_dump(mode="json")["loss"], training.class_weight],
            "scaling": self.spec.data.scaling,
            "rows": self.n_rows,
            "batch": self.batch,
            "dtype": self.spec.dtype,
            "device": [self.device, self.device_name],
            "driver": driver_version() if self.device == "cuda" else "",
            "torch": torch.__version__,
            "threads": threads,
            "activation_checkpointing": activation_checkpointing,
            "copies": copies,
        }


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
        copies: trials at once that throughput and times below hold for.
        totals: windows a second of all copies on one GPU, by their number; empty where their share is pinned.
        samples_per_second, seconds_per_step: of one trial that runs with `copies - 1` like it.
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
    activation_checkpointing: bool = False
    threads: int = 1
    copies: int = 1
    gpu_share: float = 1.0
    reserved_cores: int = 1
    totals: tuple[tuple[int, float], ...] = ()
    samples_per_second: float = 0.0
    seconds_per_step: float = 0.0
    seconds: float = 0.0

    @property
    def feasible(self) -> bool:
        """Whether it can be run."""
        return self.chosen is not None

    @property
    def accumulation(self) -> int:
        """Micro-batches to a global batch, the last one perhaps smaller; only where it is feasible."""
        assert self.chosen is not None
        return -(-self.question.batch // self.chosen.micro_batch)

    def record(self, checkpoint_interval_s: float) -> ExecutionRecord:
        """The execution record of a trial that runs as decided."""
        assert self.chosen is not None
        return ExecutionRecord(
            micro_batch=self.chosen.micro_batch,
            accumulation=self.accumulation,
            threads=self.threads,
            smallest_micro_batch=self.question.batch if self.question.whole_batch else 1,
            device=self.question.device,
            activation_checkpointing=self.activation_checkpointing,
            checkpoint_interval_s=checkpoint_interval_s,
            gpu_share=self.gpu_share,
            reserved_cores=self.reserved_cores,
            accelerator=self.question.accelerator,
            measured=Measured(
                peak_bytes=self.chosen.peak_bytes + self.extra_bytes, seconds_per_step=self.seconds_per_step
            ),
        )


class Decides(Protocol):
    """Whoever answers questions: this host's prober, or a cluster's."""

    def decide(self, question: ProbeRequest) -> ProbeResult:
        """Find out how a trial can be executed."""
        ...
