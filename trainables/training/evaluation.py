"""A pass over whole splits, one micro-batch at a time, so that the gate can be asked in between."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainables.data.windows import Windows
from trainables.schema import Dtype
from trainables.training.ranks import ALONE, Ranks
from trainables.training.step import eval_step


class EvaluationPass:
    """Model outputs of every window of some splits."""

    def __init__(self, splits: Mapping[str, Windows], micro_batch: int, ranks: Ranks = ALONE) -> None:
        self._splits, self._micro_batch, self._ranks = splits, micro_batch, ranks
        at_once = micro_batch * ranks.size
        self._pieces: dict[str, list[Tensor]] = {name: [] for name in splits}
        self._todo = [
            (name, start, min(start + at_once, len(windows)))
            for name, windows in splits.items()
            for start in range(0, len(windows), at_once)
        ]
        self._todo.reverse()

    @property
    def done(self) -> bool:
        """Whether every window has been seen."""
        return not self._todo

    def advance(self, model: nn.Module, dtype: Dtype) -> None:
        """Evaluate one micro-batch on each rank."""
        name, start, stop = self._todo.pop()
        self._ranks.tell("evaluate", name, start, stop)
        following = self._todo[-1][1:] if self._todo and self._todo[-1][0] == name else None
        self._pieces[name].append(
            evaluate(model, self._splits[name], (start, stop), self._micro_batch, dtype, self._ranks, following)
        )

    def outputs(self) -> dict[str, npt.NDArray[np.float64]]:
        """Outputs of each split, [N] or [N, K], in the order of its windows; call it when `done`."""
        return {name: torch.cat(pieces).cpu().double().numpy() for name, pieces in self._pieces.items()}


def evaluate(
    model: nn.Module,
    windows: Windows,
    span: tuple[int, int],
    micro_batch: int,
    dtype: Dtype,
    ranks: Ranks,
    following: tuple[int, int] | None = None,
) -> Tensor:
    """Outputs of the windows of a span, at most a micro-batch for each rank; all ranks call it.

    `following` is the next span, gathered meanwhile.
    """
    home = windows.table.home
    next_M = None if following is None else ranks.span(*following, micro_batch, home)
    index_M = ranks.span(*span, micro_batch, home)
    outputs_M = eval_step(model, windows, index_M, next_B=next_M, dtype=dtype)
    return ranks.gathered(outputs_M, span[1] - span[0])
