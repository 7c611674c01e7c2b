"""The results table: one row a key, its latest state, made from the ledger alone."""

import json
import re
from typing import Any

import pandas as pd

from runner.ledger import CellState, LedgerView
from runner.paths import RunPaths
from runner.trial_gates import marks
from trainables.files import replacing

# Column and dtype, in the order of the table. A later column is added at the end of its group.
COLUMNS: dict[str, str] = {
    **dict.fromkeys(("key", "name", "kind", "status"), "string"),
    "attempts": "Int64",
    **dict.fromkeys(("budget", "model"), "string"),
    **dict.fromkeys(("n_params", "n_params_non_embedding", "horizon"), "Int64"),
    **dict.fromkeys(("tier", "timescale"), "string"),
    "data_fraction": "float64",
    **dict.fromkeys(("seed", "n_train", "n_val", "n_test", "n_val_effective"), "Int64"),
    **dict.fromkeys(("epochs", "best_epoch", "steps", "global_batch", "micro_batch", "accumulation"), "Int64"),
    "threads": "Int64",
    **dict.fromkeys(("lr", "weight_decay", "val_loss", "val_loss_low", "val_loss_high"), "float64"),
    **dict.fromkeys(("val_auc", "val_auc_low", "val_auc_high", "val_ap", "val_ap_low", "val_ap_high"), "float64"),
    **dict.fromkeys(("val_brier", "val_brier_low", "val_brier_high"), "float64"),
    **dict.fromkeys(("val_own_rate_loss", "val_spread", "prior_loss", "skill", "skill_low", "skill_high"), "float64"),
    **dict.fromkeys(("collapsed", "diverged"), "boolean"),
    "marks": "string",  # of `runner.trial_gates`, separated by commas
    **dict.fromkeys(("test_loss", "test_auc", "test_prior_loss", "test_skill"), "float64"),
    "train_skill": "float64",
    **dict.fromkeys(("train_seconds", "held_seconds", "throttled_seconds", "samples_per_second"), "float64"),
    **dict.fromkeys(("seconds_per_step", "predicted_seconds_per_step"), "float64"),
    **dict.fromkeys(("peak_bytes", "predicted_peak_bytes"), "Int64"),
    "activation_checkpointing": "boolean",
    "gpu_share": "float64",
    "max_celsius": "float64",
    **dict.fromkeys(("data_sha256", "code_version"), "string"),
    **dict.fromkeys(("started_at", "ended_at"), "datetime64[us, UTC]"),
    "reason": "string",
}


def frame(view: LedgerView) -> pd.DataFrame:
    """Results of the current grid's started or ended cells and of their baselines.

    Columns are `COLUMNS`, and further grid axes as ``axis:<name>``.
    """
    states = [*view.current.values(), *baseline_states(view)]
    rows = [_row(state) for state in states if state.attempts or state.ended]
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *extra])
    return table.astype(COLUMNS)


def baseline_states(view: LedgerView) -> list[CellState]:
    """Baselines on the data and task of any cell of the current grid, in the ledger's order."""
    places = {_place(state) for state in view.current.values()}
    return [state for state in view.cells.values() if state.cell.cell_kind == "baseline" and _place(state) in places]


def _place(state: CellState) -> str:
    spec = state.cell.spec
    return json.dumps([spec.get("data"), spec.get("task")], sort_keys=True)


# What a spreadsheet takes for a formula at the start of a cell (OWASP, CSV injection), unless it is a number.
_FORMULA = re.compile(r"(?![+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\Z)[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", re.IGNORECASE)


def _plain(value: Any) -> Any:
    """A value as a CSV holds it: text that a spreadsheet would run starts with a quotation mark."""
    if not isinstance(value, str):
        return value
    # pandas leaves a bare carriage return without quotes, where it would begin a row
    return ("'" if _FORMULA.match(value) else "") + value.replace("\r", "\n")


def write(view: LedgerView, paths: RunPaths) -> pd.DataFrame:
    """Write `results.parquet` and `results.csv` atomically and return the table."""
    table = frame(view)
    with replacing(paths.results_parquet) as aside:
        table.to_parquet(aside, index=False)
    with replacing(paths.results_csv) as aside:
        texts = table.select_dtypes(["string", "object"]).map(_plain)
        table.assign(**texts).rename(columns=_plain).to_csv(aside, index=False)
    return table


def _row(state: CellState) -> dict[str, Any]:
    cell, ended = state.cell, state.ended
    labels = dict(cell.labels)
    axes = labels.pop("axes", {})
    training = cell.spec.get("training", {})
    row: dict[str, Any] = {
        "key": cell.key,
        "name": cell.name,
        "kind": cell.cell_kind,
        "status": ended.status if ended else "interrupted",
        "reason": ended.reason if ended else "",
        "attempts": len(state.attempts),
        "n_params": cell.n_params,
        "n_params_non_embedding": cell.n_params_non_embedding,
        "data_sha256": cell.spec.get("data", {}).get("content_sha256", ""),
        "code_version": state.attempts[-1].code_version if state.attempts else "",
        "started_at": state.attempts[0].time if state.attempts else None,
        "ended_at": ended.time if ended else None,
        **{name: training.get(name) for name in ("global_batch", "lr", "weight_decay")},
        **{name: (state.execution or {}).get(name) for name in ("micro_batch", "accumulation", "threads")},
        **_execution(state.execution or {}),
        **labels,
        **cell.sizes,
        **{f"axis:{name}": str(value) for name, value in axes.items()},
    }
    if ended:
        row.update({name: value for name, value in ended.result.items() if name in COLUMNS})
        row["seconds_per_step"] = _seconds_per_step(ended.result)
        row["diverged"] = ended.status == "diverged"
        row["marks"] = ", ".join(mark.name for mark in marks(state))
    row["max_celsius"] = state.max_celsius
    return row


def _execution(record: dict[str, Any]) -> dict[str, Any]:
    """Beside what was pinned, what the probe measured then: to be held against what came of it."""
    measured = record.get("measured") or {}
    return {
        "activation_checkpointing": record.get("activation_checkpointing"),
        "gpu_share": record.get("gpu_share") if record.get("device") == "cuda" else None,
        "predicted_seconds_per_step": measured.get("seconds_per_step"),
        "predicted_peak_bytes": measured.get("peak_bytes"),
    }


def _seconds_per_step(result: dict[str, Any]) -> float | None:
    seconds, steps = result.get("train_seconds"), result.get("steps")
    return seconds / steps if seconds and steps else None
