"""What the probe's two processes say to each other: one JSON document a line.

The parent sends a `Request`. The worker says ``{"built": ...}`` when the model is on its device, ``{"warm": ...}``
after the first step, then waits for the line `GO` and sends its `Answer`. So whoever asks decides when a
measurement begins: of several workers, all at once. An `Answer` or ``{"error": ...}`` may come at any stage.
"""

from pathlib import Path
from typing import Literal

from trainables.parts import Plugin
from trainables.schema import Spec, TrialSpec

STAGES = ("built", "warm")
GO = "go"


class _Request(Spec):
    """One size to run.

    Attributes:
        measure_s: about how long to time steps, after the first.
        device_share: largest share of the GPU's memory that this process may take.
        crowded: other trials run at the same time on purpose.
    """

    micro_batch: int
    threads: int
    device: Literal["cpu", "cuda"]
    measure_s: float = 0.5
    device_share: float = 1.0
    crowded: bool = False


class Request(_Request):
    """A size of a trial.

    Attributes:
        spec: the trial; its data are replaced by random windows of the same shape.
        n_rows, n_windows: size of the table and of the training split.
        steps: run this many whole steps instead, at the true accumulation; for checks under a real limit.
        plugins: files with parts that the trial may name; loaded first.
    """

    spec: TrialSpec
    n_rows: int
    n_windows: int
    activation_checkpointing: bool = False
    steps: int | None = None
    plugins: tuple[Plugin, ...] = ()

    @property
    def batch(self) -> int:
        """Windows in an optimizer step."""
        return min(self.spec.training.global_batch, self.n_windows)


class StepRequest(_Request):
    """A size of a step function of the user's own.

    Attributes:
        module, file, function: where it is; a module ``__main__`` is loaded from its file.
        path: ``sys.path`` of the process that asks.
        batch: samples in an optimizer step.
    """

    module: str
    file: Path
    function: str
    path: tuple[str, ...]
    batch: int


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
