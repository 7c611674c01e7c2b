"""The recorded step on a CPU, where the operations of a step are traced once and run again on the same tensors."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tests.trainables.conftest import CONTEXT
from trainables.data import windows
from trainables.data.dataset import Dataset
from trainables.errors import DivergedError, OutOfMemoryError
from trainables.schema import ResolvedTask
from trainables.training import memory
from trainables.training.graph import WARM_UP
from trainables.training.learner import Learner, Schedule
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior

STEPS = 12


class Traced:
    """Traces the operations of work; a CUDA graph is as fixed: the same operations on the same tensors."""

    def aside(self, work: Callable[[], Tensor]) -> tuple[Tensor, str]:
        return work(), ""

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        traced, result = make_fx(lambda: work())(), torch.empty(2)
        return result, lambda: (result.copy_(traced()), None)[1]


class Failing(Traced):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        raise self.error


class Waiting(Traced):
    def aside(self, work: Callable[[], Tensor]) -> tuple[Tensor, str]:
        return work(), "model.py:7 waits for the device"


class Stale(Traced):
    """What a recording does that reads its batch from elsewhere."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        return work().clone(), lambda: None


@pytest.fixture(scope="module")
def data(dataset, resolved):
    """In memory, and so on the device: windows of a table that is mapped are gathered by a thread, in no recording."""
    resident = Dataset(dataset.frame, dataset.features, dataset.entry)
    return windows.build(resident, resolved, ResolvedTask(context=CONTEXT), torch.device("cpu"))


@pytest.fixture
def make_learner(make_spec, record, data):
    def make(recorder=None, micro_batch=50, dropout=0.1, **training):
        spec = make_spec(dropout=dropout, **training)
        torch.manual_seed(0)
        execution = record.model_copy(update={"micro_batch": micro_batch})
        loss = make_loss(spec.training, spec.task.outcome, Prior(data.label_mean, data.label_variance))
        schedule = Schedule(spec, len(data.train))
        return Learner(spec, execution, schedule, loss, torch.device("cpu"), recorder)

    return make


def trained(learner, data, steps=STEPS, first=0):
    torch.manual_seed(first)
    losses = [loss for step in range(first, steps) for loss in learner.step(data.train, step)]
    return losses + learner.read()


def same_weights(one, other):
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)


def passes(learner):
    """Counts the forward passes of a model; a replay has none."""
    seen = []
    learner.model.register_forward_hook(lambda *_: seen.append(1))
    return seen


@pytest.mark.parametrize(
    "changes",
    [{}, {"dropout": 0.3}, {"micro_batch": 128}, {"loss": "focal", "class_weight": "balanced"}, {"clip": 0.01}],
    ids=str,
)
def test_a_recorded_step_trains_as_the_step_does(make_learner, data, changes):
    plain, recorded = make_learner(**changes), make_learner(Traced(), **changes)
    seen = passes(recorded)
    assert trained(recorded, data) == pytest.approx(trained(plain, data), rel=1e-5)
    assert recorded.eager == ""
    assert same_weights(plain, recorded)
    pieces = -(-128 // changes.get("micro_batch", 50))
    assert len(seen) == pieces * (WARM_UP + 1 + 2), "warm-up, recording, and one comparison on each of two batches"


def test_it_goes_on_from_a_checkpoint(make_learner, data):
    plain, before, after = make_learner(), make_learner(Traced()), make_learner(Traced())
    trained(plain, data, 8)
    trained(before, data, 8)
    after.load(before.state())
    assert trained(after, data, 16, first=8) == pytest.approx(trained(plain, data, 16, first=8), rel=1e-5)
    assert same_weights(plain, after)
    assert {type(group["lr"]) for group in after.state()["optimizer"]["param_groups"]} == {float}


def test_a_replay_that_is_not_finite_and_those_after_it_change_nothing(make_learner, data):
    learner = make_learner(Traced(), dropout=0.0)
    trained(learner, data, 8)
    weight = learner.model.head.weight
    good = weight[0, 0].item()
    with torch.no_grad():
        weight[0, 0] = float("nan")
    learner.step(data.train, 8)
    with torch.no_grad():
        weight[0, 0] = good
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    learner.step(data.train, 9)
    with pytest.raises(DivergedError, match="loss is not finite at optimizer step 8"):
        learner.read()
    assert all(torch.equal(before[name], value) for name, value in learner.model.state_dict().items())


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (
            Failing(RuntimeError("not permitted when capturing\nmore")),
            "recording failed: not permitted",
        ),
        (Waiting(), "model.py:7 waits for the device"),
        (Stale(), "the recorded step's loss is"),
    ],
    ids=["fails", "waits", "stale"],
)
def test_what_cannot_be_recorded_runs_as_it_is_and_says_why(make_learner, data, recorder, reason, caplog):
    plain, learner = make_learner(), make_learner(recorder)
    assert trained(learner, data) == pytest.approx(trained(plain, data), rel=1e-5)
    assert learner.eager.startswith(reason)
    assert "\n" not in learner.eager
    assert same_weights(plain, learner)
    assert sum("not a CUDA graph" in line for line in caplog.messages) == 1


def test_memory_that_runs_out_while_recording_is_no_reason_to_go_on(make_learner, data):
    learner = make_learner(Failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")))
    with pytest.raises(torch.OutOfMemoryError) as caught:
        trained(learner, data)
    assert isinstance(memory.typed(caught.value), OutOfMemoryError)
