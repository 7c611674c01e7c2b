"""Real S&P 500 windows, small models, and gates that follow a script."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from trainables.data import catalog, windows
from trainables.data.windows import TrialData
from trainables.models import budget
from trainables.schema import (
    DataShape,
    DataSpec,
    ExecutionRecord,
    ModelSpec,
    ResolvedData,
    ResolvedTask,
    ResolvedTraining,
    TrialSpec,
    chooses_epoch,
)
from trainables.training.gate import Action, NullGate
from trainables.training.loop import Trainer
from trainables.training.result import MetricRow

CONTEXT = 20
TRAINING = ResolvedTraining(
    epochs=3,
    global_batch=128,
    lr=3e-3,
    weight_decay=0.01,
    warmup=0.1,
    clip=1.0,
    loss="bce",
    focal_gamma=2.0,
    class_weight="none",
    early_stopping=None,
    seed=3,
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def dataset(data_root):
    return catalog.load(catalog.prepare(DataSpec(), data_root), data_root)


@pytest.fixture(scope="session")
def resolved(dataset) -> ResolvedData:
    asked = DataSpec(fraction=0.3)
    entry = dataset.entry
    return ResolvedData(
        content_sha256=entry.content_sha256,
        assets=entry.assets,
        features=entry.features,
        tier=entry.tier,
        timescale=entry.timescale,
        representation=asked.representation,
        scaling=asked.scaling,
        splits=asked.splits,
        fraction=asked.fraction,
    )


@pytest.fixture(scope="session")
def make_data(dataset, resolved) -> Callable[..., TrialData]:
    """The windows of a task; with those that choose an epoch apart, where the training of a spec chooses one."""
    made: dict[str, TrialData] = {}

    def make(task: ResolvedTask, spec: TrialSpec | None = None) -> TrialData:
        data = spec.data if spec is not None else resolved
        name = task.model_dump_json() + data.splits.model_dump_json()
        if name not in made:
            made[name] = windows.build(dataset, data, task, torch.device("cpu"))
        return made[name]

    return make


@pytest.fixture(scope="session")
def data(make_data) -> TrialData:
    return make_data(ResolvedTask(context=CONTEXT))


@pytest.fixture(scope="session")
def make_spec(dataset, resolved) -> Callable[..., TrialSpec]:
    def make(*, kind="threshold", horizon=1, dropout=0.1, dtype="fp32", selection=None, **training) -> TrialSpec:
        model = budget.model_of(
            ModelSpec.model_validate({"patch": 10, "dropout": dropout}),
            {"width": 16, "depth": 1, "heads": 2, "feed_forward": 32},
            DataShape(n_features=len(dataset.features), context=CONTEXT),
        )
        asked = TRAINING.model_copy(update=training)
        share = selection if selection is not None else 1 / 3 if chooses_epoch(asked) else 0.0
        splits = resolved.splits.model_copy(update={"selection": share})
        return TrialSpec(
            data=resolved.model_copy(update={"splits": splits}),
            task=ResolvedTask(kind=kind, horizon=horizon, context=CONTEXT),
            model=model,
            training=asked,
            dtype=dtype,
        )

    return make


@pytest.fixture(scope="session")
def record() -> ExecutionRecord:
    return ExecutionRecord(micro_batch=50, accumulation=3, threads=1, device="cpu", checkpoint_interval_s=1e9)


class ScriptedGate:
    """Says what it was told to, one answer a check, then RUN; waits take no time but are counted."""

    def __init__(self, answers: Iterable[Action] = ()) -> None:
        self.answers = list(answers)
        self.waits: list[float] = []
        self.checks = 0

    def check(self) -> Action:
        self.checks += 1
        return self.answers.pop(0) if self.answers else Action.RUN

    def wait(self, max_seconds: float) -> float:
        self.waits.append(max_seconds)
        return 0.25


@pytest.fixture(scope="session")
def scripted_gate() -> type[ScriptedGate]:
    return ScriptedGate


@pytest.fixture(scope="session")
def finish() -> Callable[..., list[MetricRow]]:
    """Run a trainer to its end; the rows it reported."""

    def run(trainer: Trainer, seconds: float = 1e9) -> list[MetricRow]:
        rows = []
        while not trainer.done:
            rows += trainer.advance(seconds).rows
        return rows

    return run


@pytest.fixture
def make_trainer(make_data, make_spec, record) -> Callable[..., Trainer]:
    def make(*, spec=None, gate=None, store=None, execution=record, on=None) -> Trainer:
        spec = spec or make_spec()
        return Trainer(spec, execution, on or make_data(spec.task, spec), gate=gate or NullGate(), store=store)

    return make


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "trial"
