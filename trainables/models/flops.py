"""Arithmetic of a model, counted on the meta device."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from trainables.models import registry
from trainables.models.param_count import on_meta
from trainables.schema import ResolvedModel

TRAINING_OVER_FORWARD = 3  # the backward pass takes twice the forward pass's products (Kaplan et al. 2020, section 2.1)

log = logging.getLogger(__name__)


def training_flop_per_window(model: ResolvedModel) -> float | None:
    """Floating-point operations of forward and backward pass for one window; None where they cannot be counted.

    Products of matrices, convolutions and attention are counted, as `torch.utils.flop_counter` does; embedding and head
    are included.
    """
    data = model.data
    try:
        built = on_meta(*registry.of_trial(model)).eval()
        stats_BS = torch.empty(1, data.n_window_stats, device="meta") if data.n_window_stats else None
        with _Products() as counter, torch.no_grad():
            built(torch.empty(1, data.context, data.n_features, device="meta"), stats_BS)
    except (
        Exception
    ) as error:  # a forward of somebody's own may need values; the trial itself does not need this number
        log.warning("the arithmetic of %s cannot be counted: %s", model.name, error)
        return None
    return float(TRAINING_OVER_FORWARD * counter.flop)


class _Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what `torch.utils.flop_counter.FlopCounterMode` counts, by the same formulas.

    That one imports torch's compiler for it, which takes longer than the rest of a plan.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip a compiler, torch would import it

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # what is made of other operations is counted as those
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        if formula := flop_registry.get(func._overloadpacket):
            self.flop += formula(*args, **kwargs, out_val=out)
        return out
