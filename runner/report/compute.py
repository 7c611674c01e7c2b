"""Training compute of a trial, from what its ledger says of model and training."""

from typing import Any

from runner.ledger import CellState

FLOP_PER_WEIGHT = 6  # a token: 2 forward and 4 backward (Kaplan et al. 2020, section 2.1)


def training_flop(state: CellState) -> float | None:
    """6 x non-embedding parameters x tokens seen; None where the ledger does not say.

    Tokens of a window are its patches (of each feature, with independent channels); an MLP sees a window as one.
    Attention's own products, which grow with the number of patches, are left out, as is customary.
    """
    spec, ended = state.cell.spec, state.ended
    steps = ended.result.get("steps") if ended else None
    model, batch = spec.get("model"), spec.get("training", {}).get("global_batch")
    weights, n_train = state.cell.n_params_non_embedding, state.cell.sizes.get("n_train")
    if not (steps and model and batch and weights and n_train):
        return None
    return float(FLOP_PER_WEIGHT * weights * steps * min(batch, n_train) * _tokens(model))


def _tokens(model: dict[str, Any]) -> int:
    if model.get("name") != "patchtst":
        return 1
    patches = max(1, int(model.get("context") or 1) // int(model.get("patch") or 1))
    return patches * (int(model.get("n_features") or 1) if model.get("channels") == "independent" else 1)
