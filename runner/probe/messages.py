"""What the probe's two processes say to each other: one JSON document a line.

The parent sends a `Request`. The worker says ``{"built": ...}`` when the model is on its device, ``{"warm": ...}``
after the first step, then waits for the line `GO` and sends what it measured. So whoever asks decides when a
measurement begins: of several workers, all at once. ``{"measured": ...}`` or
``{"error": ...}`` may come at any stage.
"""

from pathlib import Path
from typing import Literal

from trainables.parts import Plugin
from trainables.schema import ExecutionRecord, Spec, TrialSpec

STAGES = ("built", "warm")
GO = "go"


class _Request(Spec):
    """One size to run.

    Attributes:
        measure_s: about how long to time steps, after the first.
        device_share: largest share of the GPU's memory that this process may take.
        crowded: other trials run at the same time on purpose.
    """

    measure_s: float = 0.5
    device_share: float = 1.0
    crowded: bool = False


class Request(_Request):
    """A size of a trial.

    Attributes:
        spec: the trial; its data are replaced by random windows of the same shape.
        record: how it is executed.
        n_rows, n_windows: size of the table and of the training split.
        steps: run this many whole steps instead, at the true accumulation; for checks under a real limit.
        plugins: files with parts that the trial may name; loaded first.
    """

    spec: TrialSpec
    record: ExecutionRecord
    n_rows: int
    n_windows: int
    steps: int | None = None
    plugins: tuple[Plugin, ...] = ()

    @property
    def batch(self) -> int:
        """Windows in an optimizer step."""
        return min(self.spec.training.global_batch, self.n_windows)

    @property
    def micro_batch(self) -> int:
        """Windows in memory at once."""
        return self.record.micro_batch

    @property
    def threads(self) -> int:
        """Of torch."""
        return self.record.threads

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where it is run."""
        return self.record.device


class StepRequest(_Request):
    """A size of a step function of the user's own.

    Attributes:
        module, file, function: where it is; a module ``__main__`` is loaded from its file.
        path: ``sys.path`` of the process that asks.
        batch: samples in an optimizer step.
    """

    micro_batch: int
    threads: int
    device: Literal["cpu", "cuda"]
    module: str
    file: Path
    function: str
    path: tuple[str, ...]
    batch: int
