"""What the probe's two processes say to each other: one JSON document a line.

The parent sends a `Request`. The worker says ``{"built": ...}`` when the model is on its device, ``{"warm": ...}``
after the first step, then waits for the line `GO` and sends its `Answer`. So whoever asks decides when a
measurement begins: of several workers, all at once. An `Answer` or ``{"error": ...}`` may come at any stage.
"""

from typing import Literal

from trainables.parts import Plugin
from trainables.schema import Spec, TrialSpec

STAGES = ("built", "warm")
GO = "go"


class Request(Spec):
    """What to run.

    Attributes:
        spec: the trial; its data are replaced by random windows of the same shape.
        n_rows, n_windows: size of the table and of the training split.
        measure_s: about how long to time steps, after the first.
        steps: run this many whole steps instead, at the true accumulation; for checks under a real limit.
        device_share: largest share of the GPU's memory that this process may take.
        crowded: other trials run at the same time on purpose.
        plugins: files with parts that the trial may name; loaded first.
    """

    spec: TrialSpec
    n_rows: int
    n_windows: int
    micro_batch: int
    threads: int
    device: Literal["cpu", "cuda"]
    activation_checkpointing: bool = False
    measure_s: float = 0.5
    steps: int | None = None
    device_share: float = 1.0
    crowded: bool = False
    plugins: tuple[Plugin, ...] = ()


class Answer(Spec):
    """What it took.

    Attributes:
        outcome: ``ok``, or ``out_of_memory`` where torch said so.
        peak_bytes: CPU: peak resident size of this process. CUDA: change in the device's used memory, context included.
        allocated_bytes, reserved_bytes: peaks of the CUDA allocator; 0 on a CPU.
        seconds_per_step: one optimizer step over the global batch.
        idle_bytes: resident size of this process once everything was freed; 0 on CUDA, where it counts for nothing.
        others_cores: processors of the host that other processes kept busy while steps were timed.
        span: when steps were timed, from and to, in seconds of the host's monotonic clock.
        seconds: from the first timed step to the end of the evaluation.
    """

    outcome: Literal["ok", "out_of_memory"]
    peak_bytes: int
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    seconds_per_step: float = 0.0
    idle_bytes: int = 0
    others_cores: float = 0.0
    span: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    detail: str = ""
