"""The results table: one row a key, its latest state, made from the ledger alone."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from runner.rundir import comparable
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.marks import marks
from runner.rundir.paths import RunPaths
from trainables.checkpoints.object_store import first_line
from trainables.errors import LedgerError
from trainables.files import replacing

# Columns that are the ledger's own to fill; a result under such a name is not taken over.
_OWN = frozenset({"key", "name", "kind", "status", "reason", "attempts", "data_sha256", "code_version"})

METRIC = "metric:"  # `trainables.training.metric_registry.PREFIX`, without its imports

# Column and dtype, in the order of the table. A later column is added at the end of its group.
COLUMNS: dict[str, str] = {
    **dict.fromkeys(("key", "name", "kind", "status"), "string"),
    "attempts": "Int64",
    **dict.fromkeys(("budget", "model"), "string"),
    **dict.fromkeys(("n_params", "n_params_non_embedding", "horizon"), "Int64"),
    **dict.fromkeys(("tier", "timescale"), "string"),
    "data_fraction": "float64",
    **dict.fromkeys(("seed", "n_train", "n_val", "n_test", "n_val_effective", "n_selection"), "Int64"),
    **dict.fromkeys(("epochs", "best_epoch", "steps", "global_batch", "micro_batch", "accumulation"), "Int64"),
    **dict.fromkeys(("judged_epoch", "threads"), "Int64"),
    **dict.fromkeys(("lr", "weight_decay", "val_loss", "val_loss_low", "val_loss_high"), "float64"),
    **dict.fromkeys(("val_auc", "val_auc_low", "val_auc_high", "val_ap", "val_ap_low", "val_ap_high"), "float64"),
    **dict.fromkeys(("val_brier", "val_brier_low", "val_brier_high"), "float64"),
    **dict.fromkeys(("val_own_rate_loss", "val_spread", "prior_loss", "skill", "skill_low", "skill_high"), "float64"),
    **dict.fromkeys(("collapsed", "diverged"), "boolean"),
    "marks": "string",  # of `runner.rundir.marks`, separated by commas
    **dict.fromkeys(("test_loss", "test_auc", "test_prior_loss", "test_skill"), "float64"),
    "train_skill": "float64",
    **dict.fromkeys(("train_seconds", "held_seconds", "throttled_seconds", "samples_per_second"), "float64"),
    **dict.fromkeys(("seconds_per_step", "predicted_seconds_per_step", "data_wait_share"), "float64"),
    **dict.fromkeys(("peak_bytes", "predicted_peak_bytes"), "Int64"),
    "activation_checkpointing": "boolean",
    "gpu_share": "float64",
    **dict.fromkeys(("max_celsius", "joules"), "float64"),  # joules of all attempts, by the trial's share of the GPU
    **dict.fromkeys(("data_sha256", "code_version"), "string"),
    **dict.fromkeys(("started_at", "ended_at"), "datetime64[us, UTC]"),
    "reason": "string",
    **dict.fromkeys(("study", "role"), "string"),  # role: searched, confirmed, or empty where nothing is searched
    "branched_from": "string",  # the trial that the first `branched_at` steps were made in
    "branched_at": "Int64",
}


def frame(view: LedgerView) -> pd.DataFrame:
    """Results of the current grid's started or ended cells, of their baselines and of the ensembles of their seeds.

    Columns are `COLUMNS`, further grid axes as ``axis:<name>``, and metrics of the sweep as ``metric:val_<name>`` and
    ``metric:test_<name>``, with ``_low`` and ``_high``.

    Raises:
        LedgerError: a value that is none of its column's.
    """
    states = [*view.current.values(), *baseline_states(view), *ensemble_states(view)]
    names = axis_names(view)
    roles = roles_of(view)
    rows = [
        _row(state, names) | roles.get(state.cell.key, {"study": "", "role": ""})
        for state in states
        if state.attempts or state.ended
    ]
    extra = sorted({name for row in rows for name in row} - set(COLUMNS))
    table = pd.DataFrame(rows, columns=[*COLUMNS, *extra])
    try:
        return table.astype(COLUMNS | {name: "float64" for name in extra if name.startswith(METRIC)})
    except (TypeError, ValueError, OverflowError) as error:
        raise LedgerError(
            f"a result or label in the ledger does not fit its column ({first_line(error)})\n"
            "    fix: restore the ledger from a copy; it is append-only and must not be edited"
        ) from error


def roles_of(view: LedgerView) -> dict[str, dict[str, str]]:
    """By the key of a trial of a search: the name of its study, and whether it was searched or confirms a winner."""
    found: dict[str, dict[str, str]] = {}
    for identity, study in view.studies.items():
        tried = [suggestion.key for suggestion in view.suggested.get(identity, {}).values()]
        found |= {key: {"study": study["name"], "role": "searched"} for key in tried}
        if (winner := view.winners.get(identity)) is not None:
            found |= {key: {"study": study["name"], "role": "confirmed"} for key in winner.keys}
    return found


def baseline_states(view: LedgerView) -> list[CellState]:
    """Baselines on the data and task of any cell of the current grid, in the ledger's order."""
    places = {comparable.identity(state.cell.spec) for state in view.current.values()}
    found = [state for state in view.cells.values() if state.cell.cell_kind == "baseline"]
    return [state for state in found if comparable.identity(state.cell.spec) in places]


def ensemble_states(view: LedgerView) -> list[CellState]:
    """Ensembles of the current grid; of one size, the one of the most seeds."""
    found: dict[str, CellState] = {}
    for state in view.cells.values():
        members = members_of(state)
        if members and all(key in view.compared for key in members):
            first = view.compared[members[0]].cell.spec
            place = repr(without_seed(first))
            if place not in found or len(members_of(found[place])) < len(members):
                found[place] = state
    return list(found.values())


def members_of(state: CellState) -> tuple[str, ...]:
    """Keys of the trials that an ensemble is made of; empty where it is none."""
    asked = state.cell.spec.get("ensemble") if state.cell.cell_kind == "ensemble" else None
    members = asked.get("members") if isinstance(asked, dict) else None
    return tuple(map(str, members)) if isinstance(members, list | tuple) else ()


def without_seed(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's specification, its seed apart: what the trials of an ensemble share."""
    training = {name: value for name, value in spec.get("training", {}).items() if name != "seed"}
    return {**spec, "training": training}


def axis_names(view: LedgerView) -> tuple[str, ...]:
    """Further axes of the current grid, in the order in which its cells name them."""
    axes = (state.cell.labels.get("axes") or {} for state in view.current.values())
    return tuple(dict.fromkeys(name for named in axes for name in named))


def axes_of(state: CellState, names: Iterable[str]) -> dict[str, str]:
    """Values of axes as text. A cell that was recorded before a setting became an axis has them in its specification.

    Args:
        state: a trial or baseline.
        names: see `axis_names`.
    """
    named = state.cell.labels.get("axes") or {}
    others = [name for name in names if name not in named and name.split(".")[0] in comparable.BLOCKS]
    found = {name: comparable.setting(state.cell.spec, name) for name in others}
    known = {**named, **{name: value for name, value in found.items() if value is not None}}
    return {name: str(value) for name, value in known.items()}


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
    write_csv(table, paths.results_csv)
    return table


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as text atomically."""
    with replacing(path) as aside:
        texts = table.select_dtypes(["string", "object"]).map(_plain)
        table.assign(**texts).rename(columns=_plain).to_csv(aside, index=False)


def _row(state: CellState, names: Iterable[str]) -> dict[str, Any]:
    cell, ended = state.cell, state.ended
    labels = {name: value for name, value in cell.labels.items() if name != "axes"}
    training = cell.spec.get("training", {})
    row: dict[str, Any] = {
        **labels,  # first: what a ledger calls a label must not replace what follows
        **cell.sizes,
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
        **{f"axis:{name}": value for name, value in axes_of(state, names).items()},
    }
    if ended:
        row.update({name: value for name, value in ended.result.items() if name in COLUMNS and name not in _OWN})
        row.update({name: value for name, value in ended.result.items() if name.startswith(METRIC)})
        row["seconds_per_step"] = _seconds_per_step(ended.result)
        row["diverged"] = ended.status == "diverged"
        row["marks"] = ", ".join(mark.name for mark in marks(state))
    row["max_celsius"], row["joules"] = state.max_celsius, state.joules
    return row


def _execution(record: dict[str, Any]) -> dict[str, Any]:
    """What the probe measured when the record was made, for comparison with what the trial took."""
    measured = record.get("measured") or {}
    return {
        "activation_checkpointing": record.get("activation_checkpointing"),
        "gpu_share": record.get("gpu_share") if record.get("device") == "cuda" else None,
        "predicted_seconds_per_step": measured.get("seconds_per_step"),
        "predicted_peak_bytes": measured.get("peak_bytes"),
    }


def _seconds_per_step(result: dict[str, Any]) -> float | None:
    seconds, steps = result.get("train_seconds"), (result.get("steps") or 0) - (result.get("branched_at") or 0)
    return seconds / steps if seconds and steps else None
