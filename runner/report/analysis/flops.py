"""What a trial was trained on and with, from what its ledger says of model and training."""

from typing import Any

from runner.rundir.ledger import CellState

FLOP_PER_WEIGHT = 6  # a token: 2 forward and 4 backward (Kaplan et al. 2020, section 2.1)


def training_flop(state: CellState) -> float | None:
    """What the ledger says of a window, times the windows seen; None where it does not say.

    An early ledger does not: there it is 6 x non-embedding parameters x tokens seen. Tokens of a window are its patches
    (of each feature, with independent channels); an MLP sees a window as one. Attention's own products, which grow with
    the number of patches, are left out there, as is customary.
    """
    spec, seen = state.cell.spec, windows_seen(state)
    model, weights = spec.get("model"), state.cell.n_params_non_embedding
    if not (seen and model and weights):
        return None
    per_window = state.cell.flop_per_window
    if per_window is None and spec.get("format", 1) == 1:
        per_window = float(FLOP_PER_WEIGHT * weights * _tokens(model))
    return per_window * seen if per_window else None


def windows_seen(state: CellState) -> int | None:
    """Training windows that went through the model, repeats included; None where the ledger does not say."""
    steps = state.ended.result.get("steps") if state.ended else None
    batch, n_train = state.cell.spec.get("training", {}).get("global_batch"), state.cell.sizes.get("n_train")
    return steps * min(batch, n_train) if steps and batch and n_train else None


def _tokens(model: dict[str, Any]) -> int:
    if model.get("name") != "patchtst":
        return 1
    data, config = model["data"], model["config"]
    patches = max(1, int(data["context"]) // int(config["patch"]))
    return patches * (int(data["n_features"]) if config.get("channels") == "independent" else 1)
