"""Trials to measure: the product's own models, on random windows."""

import numpy as np
import torch

from trainables.data.dataset import AssetRows, Rows
from trainables.data.representation import Represented
from trainables.data.splits import EffectiveSize
from trainables.data.windows import SplitIndex, Table, TrialData, Windows
from trainables.models import budget
from trainables.schema import (
    DataShape,
    Dtype,
    ExecutionRecord,
    ModelSpec,
    ResolvedData,
    ResolvedTask,
    ResolvedTraining,
    SplitSpec,
    TrainingSpec,
    TrialSpec,
    parse_budget,
)

CONTEXT, FEATURES, ROWS = 60, 20, 5000


def trial_spec(size: str, *, batch: int, dtype: Dtype, dropout: float | None = None, epochs: int = 1) -> TrialSpec:
    """A trial at a budget, with the shape that a sweep gives it."""
    model = budget.solve(
        parse_budget(size), spec=ModelSpec(), data=DataShape(n_features=FEATURES, n_window_stats=0, context=CONTEXT)
    )
    if dropout is not None:
        model = model.model_copy(update={"config": model.config | {"dropout": dropout}})
    asked = TrainingSpec().model_dump(exclude={"length", "parametrization", "mup_base", "cooldown"})
    training = asked | {"global_batch": batch, "epochs": epochs, "lr": 1e-3, "seed": 0}
    data = ResolvedData(
        content_sha256="",
        assets=("random",),
        features=tuple(f"f{number}" for number in range(FEATURES)),
        tier="a20",
        timescale="daily",
        representation="relative",
        scaling="zscore",
        splits=SplitSpec(),
        fraction=1.0,
    )
    return TrialSpec(
        data=data,
        task=ResolvedTask(context=CONTEXT),
        model=model,
        training=ResolvedTraining.model_validate(training),
        dtype=dtype,
    )


def record(spec: TrialSpec, device: torch.device, micro_batch: int) -> ExecutionRecord:
    """How a trial is executed; checkpoints only when they are asked for."""
    return ExecutionRecord(
        micro_batch=micro_batch,
        accumulation=-(-spec.training.global_batch // micro_batch),
        threads=1,
        device="cuda" if device.type == "cuda" else "cpu",
        checkpoint_interval_s=3600.0,
    )


def trial_data(spec: TrialSpec, device: torch.device, n_train: int, n_other: int = 256) -> TrialData:
    """Random windows with dates in their order; labels that the last bar tells."""
    random = np.random.default_rng(0)
    values = random.standard_normal((ROWS, FEATURES), dtype=np.float32)
    one_TF = np.broadcast_to(np.float32(1), values.shape)
    data = Represented(values, one_TF, one_TF, np.ones(ROWS, dtype=bool))
    table = Table(data, spec.task.context, device, None, revin=False)
    dates_T = np.datetime64("2000-01-01", "ns") + np.arange(ROWS) * np.timedelta64(1, "D")
    place = Rows(dates_T, (AssetRows("random", 0, ROWS),))

    def split(first: int, count: int) -> Windows:
        ends_N = first + np.arange(count) % (ROWS - first)
        labels_N = (values[ends_N, 0] > 0).astype(np.float64)
        return Windows(table, SplitIndex(ends_N, labels_N, place, dates_T, count))

    train, validation, test = split(CONTEXT, n_train), split(3000, n_other), split(4000, n_other)
    mean = float(train.labels_N.mean())
    size = EffectiveSize(n_other, n_other // 2)
    return TrialData(
        train=train,
        validation=validation,
        test=test,
        n_features=FEATURES,
        n_window_stats=0,
        effective={"train": size, "validation": size, "test": size},
        label_mean=mean,
        label_variance=mean * (1 - mean),
        label_shares=(1 - mean, mean),
    )
