"""Training compute of a trial, from what its ledger says of model and training."""

from typing import Any

from runner.rundir.ledger import CellState

FLOP_PER_WEIGHT = 6  # a token: 2 forward and 4 backward (Kaplan et al. 2020, section 2.1)


def training_flop(state: CellState) -> float | None:
    """What the ledger says of a window, times the windows seen; None where it does not say.

    An early ledger does not: there it is 6 x non-embedding parameters x tokens seen. Tokens of a window are its patches
    (of each feature, with independent channels); an MLP sees a window as one. Attention's own products, which grow with
    the number of patches, are left out there, as is customary.
    """
    spec, ended = state.cell.spec, state.ended
    steps = ended.result.get("steps") if ended else None
    model, batch = spec.get("model"), spec.get("training", {}).get("global_batch")
    weights, n_train = state.cell.n_params_non_embedding, state.cell.sizes.get("n_train")
    if not (steps and model and batch and weights and n_train):
        return None
    per_window = state.cell.flop_per_window
    if per_window is None and spec.get("format", 1) == 1:
        per_window = float(FLOP_PER_WEIGHT * weights * _tokens(model))
    return per_window * steps * min(batch, n_train) if per_window else None


def _tokens(model: dict[str, Any]) -> int:
    if model.get("name") != "patchtst":
        return 1
    data, config = model["data"], model["config"]
    patches = max(1, int(data["context"]) // int(config["patch"]))
    return patches * (int(data["n_features"]) if config.get("channels") == "independent" else 1)
