"""Arithmetic of a model, counted on the meta device."""

import logging

import torch
from torch.utils.flop_counter import FlopCounterMode

from trainables.models import registry
from trainables.models.eager import without_compiler
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
        with without_compiler(), FlopCounterMode(display=False) as counter, torch.no_grad():
            built = on_meta(*registry.of_trial(model)).eval()
            stats_BS = torch.empty(1, data.n_window_stats, device="meta") if data.n_window_stats else None
            built(torch.empty(1, data.context, data.n_features, device="meta"), stats_BS)
    except (
        Exception
    ) as error:  # a forward of somebody's own may need values; the trial itself does not need this number
        log.warning("the arithmetic of %s cannot be counted: %s", model.name, error)
        return None
    return float(TRAINING_OVER_FORWARD * counter.get_total_flops())
