"""The trials of a run as typed values, from the results table and the ledger's metrics."""

import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.report.analysis.flops import training_flop, windows_seen
from runner.rundir import comparable, results
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.marks import Mark, MarkName, marks

# Ended for good, or given up: the sweep itself would not bring these any further without a new start.
ENDED = frozenset({"finished", "diverged", "infeasible", "failed", "out_of_memory", "pruned"})
UNFINISHED = "unfinished"  # started, and the ledger holds no end: it runs, or its driver died
WAITING = "waiting"
# Grid axes that have a place of their own in a trial; every further axis tells groups apart.
_OWN_AXES = frozenset(
    {"budget", "horizon", "task.horizon", "seed", "training.seed", "data_fraction", "data.fraction"}
    | {"model.name", "data.tier", "data.timescale"}
)
# Characters that change the order in which the text around them is shown (Unicode annex 9).
_DIRECTION_CONTROLS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_DIRECTION_MARKS = frozenset("\u200e\u200f\u061c")


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, each None where it is unknown."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, order=True)
class Group:
    """What must be equal for losses at different sizes to be comparable, the horizon apart.

    `asked` is the identity of data and task (`runner.rundir.comparable`), apart from horizon and data fraction; the
    other attributes put it into words.
    """

    model: str
    tier: str
    timescale: str
    data_fraction: float
    axes: tuple[tuple[str, str], ...] = ()
    asked: str = ""

    def differing(self, others: "tuple[Group, ...]") -> str:
        """This group in words, naming only what varies among `others`; empty where nothing does."""
        parts = [
            getattr(self, name)
            for name in ("model", "tier", "timescale")
            if len({getattr(other, name) for other in others}) > 1
        ]
        if len({other.data_fraction for other in others}) > 1:
            parts.append(f"{100 * self.data_fraction:.4g} % of the training data")
        parts += [
            f"{name} {value}" for name, value in self.axes if len({dict(other.axes).get(name) for other in others}) > 1
        ]
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One key of the grid in its latest state. Losses in nats, times in seconds.

    `best_epoch` and `judged_epoch`, whose weights the numbers are of, are counted from 1 and never above `epochs`, the
    number of epochs done; ledgers of specification format 1 have the first alone, which was judged. `curve` holds
    (optimizer step, validation loss) of each evaluation whose loss is finite. `flop` is the compute of its training,
    and `windows_seen` what went through the model in it, repeats included. `forecast` is the predicted over the actual
    step time. `log` holds the last lines of a failed trial's worker.
    """

    key: str
    name: str
    kind: str
    status: str
    reason: str
    attempts: int
    budget: str
    n_params: int | None
    horizon: int | None
    group: Group
    seed: int | None
    n_train: int | None
    n_val: int | None
    n_test: int | None
    n_val_effective: int | None
    epochs: int | None
    best_epoch: int | None
    judged_epoch: int | None
    val_loss: Estimate
    prior_loss: float | None
    own_rate_loss: float | None
    skill: Estimate
    auc: Estimate
    test_loss: float | None
    test_skill: float | None
    collapsed: bool
    train_seconds: float | None
    held_seconds: float | None
    throttled_seconds: float | None
    samples_per_second: float | None
    peak_bytes: int | None
    predicted_peak_bytes: int | None
    data_sha256: str
    code_version: str
    device: str
    curve: tuple[tuple[int, float], ...]
    marks: tuple[Mark, ...] = ()
    flop: float | None = None
    windows_seen: int | None = None
    forecast: float | None = None
    log: tuple[str, ...] = ()
    metrics: tuple[tuple[str, Estimate], ...] = ()  # those of the sweep: val_NAME and test_NAME

    @property
    def ended(self) -> bool:
        """Whether the trial's own part is over."""
        return self.status in ENDED

    @property
    def place(self) -> tuple[int | None, float, str]:
        """Data and task in full: what is equal in this is comparable, be it a trial or a baseline."""
        return self.horizon, self.group.data_fraction, self.group.asked

    @property
    def unsound(self) -> bool:
        """Whether the loss says nothing about the size: such trials must not carry a verdict."""
        return self.collapsed or self.marked("squashed outputs")

    def marked(self, *names: MarkName) -> bool:
        """Whether the trial has one of these marks."""
        return any(mark.name in names for mark in self.marks)


def trials_of(view: LedgerView) -> tuple[Trial, ...]:
    """All recorded cells that are compared, in the grid's order; what a search tried is not among them."""
    rows, names = _rows(view), results.axis_names(view)
    return tuple(_trial(rows.get(key) or _waiting(state, names), state) for key, state in view.compared.items())


def baselines_of(view: LedgerView) -> tuple[Trial, ...]:
    """Baselines on the data and tasks of the current grid."""
    rows = _rows(view)
    return tuple(_trial(rows[s.cell.key], s) for s in results.baseline_states(view) if s.cell.key in rows)


def ensembles_of(view: LedgerView) -> tuple[Trial, ...]:
    """Ensembles of the seeds of one size; no verdict and no law holds them."""
    rows = _rows(view)
    return tuple(_trial(rows[s.cell.key], s) for s in results.ensemble_states(view) if s.cell.key in rows)


def _rows(view: LedgerView) -> dict[str, Mapping[Any, Any]]:
    return {row["key"]: row for row in results.frame(view).to_dict("records")}


def clean(value: object) -> str:
    """Text from data or configs on one line, with control and direction-changing characters made visible."""
    text = "".join(" " if char in "\t\r\n" else char for char in ("" if _missing(value) else str(value)))
    return "".join("\ufffd" if _misleading(char) else char for char in text)


def _misleading(char: str) -> bool:
    invisible = unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}
    return invisible or unicodedata.bidirectional(char) in _DIRECTION_CONTROLS or char in _DIRECTION_MARKS


def _waiting(state: CellState, names: Iterable[str]) -> dict[str, Any]:
    """The part of a results row that is known before the first attempt."""
    cell = state.cell
    labels = {name: value for name, value in cell.labels.items() if name != "axes"}
    known = {"key": cell.key, "name": cell.name, "kind": cell.cell_kind, "n_params": cell.n_params}
    axes = {f"axis:{name}": value for name, value in results.axes_of(state, names).items()}
    return {**labels, **cell.sizes, **known, **axes}


def _trial(row: Mapping[Any, Any], state: CellState) -> Trial:
    return Trial(
        key=clean(row.get("key")),
        name=clean(row.get("name")),
        kind=clean(row.get("kind")),
        status=UNFINISHED if state.status == "running" else state.status,
        reason=clean(row.get("reason")),
        attempts=len(state.attempts),
        budget=clean(row.get("budget")),
        n_params=_integer(row.get("n_params")),
        horizon=_integer(row.get("horizon")),
        group=_group(row, state),
        seed=_integer(row.get("seed")),
        n_train=_integer(row.get("n_train")),
        n_val=_integer(row.get("n_val")),
        n_test=_integer(row.get("n_test")),
        n_val_effective=_integer(row.get("n_val_effective")),
        epochs=_integer(row.get("epochs")),
        best_epoch=_integer(row.get("best_epoch")),
        judged_epoch=_integer(row.get("judged_epoch")) or _integer(row.get("best_epoch")),
        val_loss=_estimate(row, "val_loss"),
        prior_loss=_number(row.get("prior_loss")),
        own_rate_loss=_number(row.get("val_own_rate_loss")),
        skill=_estimate(row, "skill"),
        auc=_estimate(row, "val_auc"),
        test_loss=_number(row.get("test_loss")),
        test_skill=_number(row.get("test_skill")),
        collapsed=_number(row.get("collapsed")) == 1,
        train_seconds=_number(row.get("train_seconds")),
        held_seconds=_number(row.get("held_seconds")),
        throttled_seconds=_number(row.get("throttled_seconds")),
        samples_per_second=_number(row.get("samples_per_second")),
        peak_bytes=_integer(row.get("peak_bytes")),
        predicted_peak_bytes=_integer(row.get("predicted_peak_bytes")),
        data_sha256=clean(state.cell.spec.get("data", {}).get("content_sha256")),
        code_version=clean(row.get("code_version")),
        device=clean(state.attempts[-1].device_name) if state.attempts else "",
        curve=_curve(state),
        flop=training_flop(state),
        windows_seen=windows_seen(state),
        marks=tuple(Mark(mark.name, clean(mark.reason)) for mark in marks(state)),
        forecast=_ratio(_number(row.get("predicted_seconds_per_step")), _number(row.get("seconds_per_step"))),
        log=tuple(clean(line) for line in state.ended.log) if state.ended else (),
        metrics=tuple(_metrics(row)),
    )


def _metrics(row: Mapping[Any, Any]) -> Iterator[tuple[str, Estimate]]:
    names = {str(name) for name in row if str(name).startswith(results.METRIC)}
    for name in sorted(names):
        if f"{name}_low" in names and not _missing(row[name]):
            yield clean(name.removeprefix(results.METRIC)), _estimate(row, name)


def _ratio(predicted: float | None, actual: float | None) -> float | None:
    return predicted / actual if predicted and actual else None


def _group(row: Mapping[Any, Any], state: CellState) -> Group:
    fraction = _number(row.get("data_fraction"))
    axes = {str(name).removeprefix("axis:"): row[name] for name in row if str(name).startswith("axis:")}
    axes = {name: value for name, value in axes.items() if name not in _OWN_AXES and not _missing(value)}
    return Group(
        model=clean(row.get("model")),
        tier=clean(row.get("tier")),
        timescale=clean(row.get("timescale")),
        data_fraction=1.0 if fraction is None else fraction,
        axes=tuple(sorted((clean(name), clean(value)) for name, value in axes.items())),
        asked=comparable.identity(state.cell.spec, (comparable.HORIZON, comparable.FRACTION)),
    )


def _curve(state: CellState) -> tuple[tuple[int, float], ...]:
    points = ((step, _number(values.get("val_loss"))) for step, values in sorted(state.metrics.items()))
    return tuple((step, loss) for step, loss in points if loss is not None)


def _estimate(row: Mapping[Any, Any], name: str) -> Estimate:
    return Estimate(_number(row.get(name)), _number(row.get(f"{name}_low")), _number(row.get(f"{name}_high")))


def _missing(value: object) -> bool:
    # pandas' own missing values (NA, NaT) are the ones that do not equal themselves or refuse to say
    try:
        return value is None or not bool(value == value)
    except TypeError:
        return True


def _number(value: Any) -> float | None:
    if _missing(value):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)
