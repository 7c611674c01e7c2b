"""From a sweep as understood to the cells of its grid: every trial fully resolved, with its key."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from runner.config import axes
from runner.config.gates import CheckLimits
from runner.config.sweep_file import Sweep
from runner.config.variants import Variant
from runner.host.device import Device, Site, resolve
from runner.planning import length
from runner.planning.data_facts import Facts, examine
from runner.probe.request import ProbeResult
from runner.rundir.paths import DATA
from trainables.data import catalog, source_registry, tier_registry
from trainables.data.labels import check_lookahead
from trainables.data.tier_registry import TIERS
from trainables.data.window_index import index_windows
from trainables.errors import BudgetError, ConfigError, InfeasibleError, Problem
from trainables.models import budget, param_count
from trainables.models.flops import training_flop_per_window
from trainables.models.registry import ARCHITECTURES
from trainables.parts import Part
from trainables.schema import (
    DATASET_FIELDS,
    DataShape,
    DataSpec,
    ExecutionRecord,
    ExecutionSpec,
    MetricSpec,
    ResolvedData,
    ResolvedModel,
    ResolvedTask,
    ResolvedTraining,
    TrainingSpec,
    TrialSpec,
    parse_budget,
)
from trainables.tasks import registry as task_registry
from trainables.tasks.registry import TASKS
from trainables.training import loss_registry
from trainables.training.loss_registry import LOSSES
from trainables.training.metric_registry import METRICS

DEFAULT_MICRO_BATCH = 32  # where nothing is measured (debug mode): small enough to fit nearly anywhere
WEIGHT_BYTES = 4
_LABELLED = ("budget", "horizon", "seed", "data_fraction")  # axes with a label of their own


@dataclass(frozen=True)
class Cell:
    """One trial of the grid, resolved.

    Attributes:
        key: identity of the trial (`TrialSpec.key`).
        name: for people: the axes that vary, such as ``2m-h5-s0``.
        labels: label columns of the results table.
        axes: further grid axes with dotted names, and their values.
        target: parameters asked for.
        sizes: ``n_train, n_selection, n_val, n_test`` in windows and ``n_val_effective``.
        facts: what the checks of the data look at; one object for all cells of one data set and task.
        parts: what the ledger keeps of the registered parts that the trial is made of.
        infeasible: why the cell cannot be run honestly, or empty.
        decision: what the probe said; None where it was not asked.
    """

    key: str
    name: str
    labels: dict[str, Any]
    axes: dict[str, Any]
    target: int
    spec: TrialSpec
    record: ExecutionRecord
    counts: param_count.ParamCount
    sizes: dict[str, int | None]
    entry: catalog.CatalogEntry
    facts: Facts
    parts: tuple[dict[str, Any], ...] = ()
    infeasible: str = ""
    decision: ProbeResult | None = None

    @property
    def short_of_memory(self) -> bool:
        """Whether it is memory that makes the cell infeasible."""
        return self.decision is not None and not self.decision.feasible

    @property
    def checkpoint_bytes(self) -> int:
        """Size of one checkpoint on disk, about: weights, the optimizer's moments, with `best` the best weights."""
        weights = 2 if self.spec.training.judged_epoch == "best" else 1
        return self.counts.total * (weights * WEIGHT_BYTES + self.spec.moment_bytes)

    @property
    def best_bytes(self) -> int:
        """Size of the weights that stay when the trial is over, about."""
        return self.counts.total * WEIGHT_BYTES


@dataclass(frozen=True)
class Grid:
    """All cells of a sweep, in the order of the file, and the device that they are meant for."""

    cells: tuple[Cell, ...]
    device: Device


def expand(
    sweep: Sweep,
    data_root: Path = DATA,
    variants: Iterable[Variant] | None = None,
    site: Site | None = None,
) -> Grid:
    """Resolve a sweep's cells (or only those of some variants). Builds the datasets that are missing.

    Raises:
        InputError: data that does not verify, or a budget that cannot be met; all budgets' problems together.
    """
    builder = Builder.of(sweep, data_root, site)
    cells: list[Cell] = []
    problems: list[Problem] = []
    for variant in sweep.variants if variants is None else variants:
        try:
            cells.append(builder.cell(variant))
        except BudgetError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise BudgetError(problems)
    return Grid(cells=tuple(cells), device=builder.device)


@dataclass
class Builder:
    """Resolves variants; datasets and window counts are worked out once and shared."""

    execution: ExecutionSpec
    device: Device
    dtype: Any
    data_root: Path
    metrics: tuple[MetricSpec, ...] = ()
    limits: CheckLimits = field(default_factory=CheckLimits)
    _entries: dict[str, catalog.CatalogEntry] = field(default_factory=dict)
    _datasets: dict[str, catalog.Dataset] = field(default_factory=dict)
    _windows: dict[tuple[str, str], tuple[Facts, str]] = field(default_factory=dict)
    _counted: dict[str, float | None] = field(default_factory=dict)

    @classmethod
    def of(cls, sweep: Sweep, data_root: Path = DATA, site: Site | None = None) -> Self:
        """A builder of a sweep's cells, for this host or for the site where trials will run."""
        asked = sweep.settings
        device, dtype = resolve(asked.execution, site.device if site else None)
        return cls(asked.execution, device, dtype, data_root, asked.all_metrics, asked.gates.limits)

    def cell(self, variant: Variant) -> Cell:
        """A variant as a trial.

        Raises:
            InputError: data that does not verify, or a budget that cannot be met.
        """
        entry = self._entry(variant.data)
        data, task = resolved_data(variant.data, entry), task_registry.resolved(variant.task)
        label = str(variant.axes["budget"])
        target = parse_budget(label)
        model = _model(label, variant, data_shape(data, task))
        facts, infeasible = self._examined(entry, data, task)
        n_train = _sizes(facts)["n_train"] or 1  # of an infeasible cell any number will do
        training, too_short = resolved_training(variant.training, target, n_train, lambda: self._flop(model))
        spec = TrialSpec(
            data=data,
            task=task,
            model=model,
            training=training,
            dtype=self.dtype,
            optimizer_states=self.execution.optimizer_states,
        )
        return Cell(
            key=spec.key,
            name=_name(variant),
            labels=_labels(variant, label),
            axes={axes.setting(axis): value for axis, value in variant.axes.items() if axis not in _LABELLED},
            target=target,
            spec=spec,
            record=execution_record(self.execution, training, self.device),
            counts=param_count.count(model),
            sizes=_sizes(facts),
            entry=entry,
            facts=facts,
            parts=_parts(variant, self.metrics),
            infeasible=infeasible or too_short,
        )

    def _flop(self, model: ResolvedModel) -> float | None:
        identity = model.model_dump_json()
        if identity not in self._counted:
            self._counted[identity] = training_flop_per_window(model)
        return self._counted[identity]

    def _entry(self, spec: DataSpec) -> catalog.CatalogEntry:
        identity = spec.model_dump_json(include=DATASET_FIELDS)
        if identity not in self._entries:
            entry = catalog.prepare(spec, self.data_root)
            self._entries[identity] = entry
            self._datasets[entry.name] = catalog.opened(entry, self.data_root)
        return self._entries[identity]

    def _examined(self, entry: catalog.CatalogEntry, data: ResolvedData, task: ResolvedTask) -> tuple[Facts, str]:
        identity = (data.model_dump_json(), task.model_dump_json())
        if identity not in self._windows:
            self._windows[identity] = _examined(self._datasets[entry.name], data, task, self.limits)
        return self._windows[identity]


def _model(label: str, variant: Variant, data: DataShape) -> ResolvedModel:
    """The model of a budget, with the base of its parametrization where that is muP."""
    model, training = budget.shape_for(label, spec=variant.model, data=data), variant.training
    if training.parametrization == "standard" or training.mup_base is None:
        return model
    base = budget.shape_for(training.mup_base, spec=variant.model, data=data)
    return model.model_copy(update={"base": base.shape})


def _examined(
    dataset: catalog.Dataset, data: ResolvedData, task: ResolvedTask, limits: CheckLimits
) -> tuple[Facts, str]:
    """The windows of each split, and why they do not suffice, or an empty text."""
    check_lookahead(dataset, task)
    index = index_windows(dataset, data, task)
    facts = examine(dataset, index, data.scaling, limits.duplicate_inputs)
    try:
        index.check(limits.least)
    except InfeasibleError as error:
        return facts, str(error)
    return facts, ""


def _sizes(facts: Facts) -> dict[str, int | None]:
    splits = facts.splits
    return {
        "n_train": splits["train"].n_windows,
        "n_selection": splits["selection"].n_windows if "selection" in splits else 0,
        "n_val": splits["validation"].n_windows,
        "n_test": splits["test"].n_windows,
        "n_val_effective": splits["validation"].effective,
    }


def resolved_data(spec: DataSpec, entry: catalog.CatalogEntry) -> ResolvedData:
    """Pin a data specification to the content of its dataset."""
    return ResolvedData(
        content_sha256=entry.content_sha256,
        assets=entry.assets,
        features=entry.features,
        tier=tier_registry.resolved(spec.tier),
        timescale=spec.timescale,
        representation=spec.representation,
        scaling=spec.scaling,
        splits=spec.splits,
        fraction=spec.fraction,
        every=spec.sample.every,
    )


def data_shape(data: ResolvedData, task: ResolvedTask) -> DataShape:
    """What a model sees of these data."""
    n_features = len(data.features)
    stats = 2 * n_features if data.scaling == "revin" else 0
    return DataShape(n_features=n_features, n_window_stats=stats, context=task.context, n_outputs=task.n_outputs)


def resolved_training(
    spec: TrainingSpec, target: int, n_train: int, flop_per_window: Callable[[], float | None]
) -> tuple[ResolvedTraining, str]:
    """Evaluate the rules of the size at a budget of `target` parameters, and the length over `n_train` windows.

    Returns:
        The block, and why its length cannot be had, or an empty text.
    """
    ruled = {
        "epochs",
        "length",
        "lr",
        "weight_decay",
        "global_batch",
        "loss",
        "cooldown",
        "warmup",
        "parametrization",
        "mup_base",
    }
    global_batch = max(1, round(length.at(spec.global_batch, target)))
    long = length.of(spec, target, global_batch=global_batch, n_train=n_train, flop_per_window=flop_per_window)
    training = ResolvedTraining(
        **spec.model_dump(exclude=ruled),
        epochs=long.epochs,
        steps=long.steps,
        cooldown=spec.cooldown if spec.schedule == "wsd" else None,
        warmup=spec.warmup if spec.warmup_steps is None else 0.0,
        loss=loss_registry.resolved(spec),
        lr=length.at(spec.lr, target),
        weight_decay=length.at(spec.weight_decay, target),
        global_batch=global_batch,
    )
    return training, long.infeasible


def execution_record(execution: ExecutionSpec, training: ResolvedTraining, device: Device) -> ExecutionRecord:
    """How a new trial is executed: the micro-batch never exceeds the global batch, and their product is kept.

    Raises:
        ConfigError: a micro-batch is asked for, and the loss cannot take a global batch in pieces.
    """
    global_batch = training.global_batch
    asked = DEFAULT_MICRO_BATCH if execution.micro_batch == "auto" else int(execution.micro_batch)
    devices = 1 if execution.devices_per_trial == "auto" else int(execution.devices_per_trial)
    if devices > device.count or global_batch % devices:
        message = f"{devices} devices for each trial, and "
        message += f"there are {device.count}" if devices > device.count else f"a batch of {global_batch} windows"
        fix = f"a divisor of {global_batch}, at most {device.count}; or auto"
        raise ConfigError(Problem(place="execution.devices_per_trial", message=message, fix=fix))
    micro_batch = min(global_batch // devices, asked)
    if whole := loss_registry.needs_whole_batch(training):
        if execution.micro_batch != "auto" and micro_batch < global_batch:
            message = f"the loss compares the windows of a batch, so {global_batch} cannot be taken {asked} at a time"
            fix = f"execution.micro_batch: auto, or {global_batch} and more; or choose another training.loss"
            raise ConfigError(Problem(place="execution.micro_batch", message=message, fix=fix))
        micro_batch = global_batch
    return ExecutionRecord(
        micro_batch=micro_batch,
        accumulation=-(-global_batch // (micro_batch * devices)),
        devices=devices,
        smallest_micro_batch=global_batch if whole else 1,
        threads=1 if execution.threads == "auto" else int(execution.threads),
        device=device.kind,
        cuda_graph=execution.cuda_graph and device.kind == "cuda",
        checkpoint_interval_s=execution.checkpoint_interval_s,
        gpu_share=1.0 if execution.gpu_share == "auto" else float(execution.gpu_share),
    )


def _parts(variant: Variant, metrics: tuple[MetricSpec, ...]) -> tuple[dict[str, Any], ...]:
    chosen: tuple[Part[Any], ...] = (
        ARCHITECTURES.get(variant.model.name),
        LOSSES.get(variant.training.loss.name),
        TASKS.get(variant.task.kind),
        TIERS.get(variant.data.tier.name),
        *dict.fromkeys(source_registry.of(source)[0] for source in variant.data.source),
        *(METRICS.get(one.name) for one in metrics),
    )
    return tuple(part.record() for part in chosen)


def _labels(variant: Variant, label: str) -> dict[str, Any]:
    return {
        "budget": label,
        "model": variant.model.name,
        "horizon": variant.task.horizon,
        "tier": variant.data.tier.name,
        "timescale": variant.data.timescale,
        "data_fraction": variant.data.fraction,
        "seed": variant.training.seed,
    }


def _name(variant: Variant) -> str:
    return named(variant, f"s{variant.training.seed}")


def named(variant: Variant, *own: str) -> str:
    """``2m-h5``, then what tells it from its neighbours, then the further axes; `own` stands for the seed."""
    start = [str(variant.axes["budget"]), f"h{variant.task.horizon}", *own]
    further = {axis: value for axis, value in variant.axes.items() if axis not in ("budget", "horizon", "seed")}
    return "-".join([*start, *name_parts(further)])


def name_parts(axes: Mapping[str, Any]) -> list[str]:
    """``fold=1``: what the values of further axes add to a name; in full where two axes end alike."""
    ends = [axis.rpartition(".")[2] for axis in axes]
    return [
        f"{end if ends.count(end) == 1 else axis}={value}"
        for end, (axis, value) in zip(ends, axes.items(), strict=True)
    ]
