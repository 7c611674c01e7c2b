"""A trial's model with the weights that were kept of it."""

from pathlib import Path

import torch
from torch import nn

from runner.rundir.ledger import CellState
from runner.rundir.paths import RunPaths
from trainables.checkpoints.file_store import load_best
from trainables.errors import CheckpointError, ConfigError, Problem
from trainables.models.registry import build
from trainables.schema import TrialSpec


def spec_of(paths: RunPaths, state: CellState) -> TrialSpec:
    """Everything that defines a trial's result.

    Raises:
        ConfigError: the ledger's specification is none that this version reads.
    """
    try:
        return TrialSpec.model_validate(state.cell.spec)
    except ValueError as error:
        message = f"the specification of {state.cell.key} cannot be read: {error}"
        raise ConfigError(Problem(place=str(paths.ledger), message=message)) from error


def load(spec: TrialSpec, folder: Path, key: str) -> nn.Module:
    """Build a model and load its weights, on the CPU, in eval mode; torch's global generator stays as it is.

    Raises:
        ConfigError: its architecture is not registered here, in this version.
        CheckpointError: no weights are kept in the folder, or they are damaged or of another model.
    """
    weights = load_best(folder, key)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        model = build(spec.model)
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        message = f"{folder}: the weights are not those of the model that the ledger describes: {error}"
        raise CheckpointError(message) from error
    return model.eval()
