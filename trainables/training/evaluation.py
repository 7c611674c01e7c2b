"""A pass over whole splits, one micro-batch at a time, so that the gate can be asked in between."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainables.data.windows import Windows
from trainables.schema import Dtype
from trainables.training.step import eval_step


class EvaluationPass:
    """Model outputs of every window of some splits."""

    def __init__(self, splits: Mapping[str, Windows], micro_batch: int) -> None:
        self._splits = splits
        self._pieces: dict[str, list[Tensor]] = {name: [] for name in splits}
        self._todo = [
            (name, start, min(start + micro_batch, len(windows)))
            for name, windows in splits.items()
            for start in range(0, len(windows), micro_batch)
        ]
        self._todo.reverse()

    @property
    def done(self) -> bool:
        """Whether every window has been seen."""
        return not self._todo

    def advance(self, model: nn.Module, dtype: Dtype) -> None:
        """Evaluate one micro-batch."""
        name, start, stop = self._todo.pop()
        windows = self._splits[name]
        index_B = torch.arange(start, stop, device=windows.labels_N.device)
        self._pieces[name].append(eval_step(model, windows, index_B, dtype=dtype))

    def outputs(self) -> dict[str, npt.NDArray[np.float64]]:
        """Outputs of each split, [N] or [N, K], in the order of its windows; call it when `done`."""
        return {name: torch.cat(pieces).cpu().double().numpy() for name, pieces in self._pieces.items()}
