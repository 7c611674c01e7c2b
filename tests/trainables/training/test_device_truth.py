"""The trainer on a CUDA device without one: where each operation runs, and what the host waits for.

A transfer to the host is a wait for the device. The bounds are held here: none in a step, whose two numbers are read
with those of other steps; one tensor a split and evaluation. Nothing may mix devices.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree

from runner.probe.messages import Request
from runner.probe.trial import ProbedTrial, random_windows
from tests.fake_cuda import CUDA, Seen, fake_cuda
from tests.runner.probe.test_worker import request, spec
from trainables.schema import ExecutionRecord, TrialSpec
from trainables.training.evaluation import EvaluationPass
from trainables.training.learner import Learner, Schedule
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")  # autocast, in a build for the CPU

WINDOWS = 300


def on_cuda(**changes: object) -> TrialSpec:
    made = spec()
    training = made.training.model_copy(update=changes)
    return made.model_copy(update={"training": training, "dtype": "bf16"})


def learner(
    one: TrialSpec,
    micro_batch: int = 16,
    *,
    activation_checkpointing: bool = False,
) -> Learner:
    record = ExecutionRecord(
        micro_batch=micro_batch,
        accumulation=-(-one.training.global_batch // micro_batch),
        threads=1,
        device="cuda",
        activation_checkpointing=activation_checkpointing,
        checkpoint_interval_s=1.0,
    )
    loss = make_loss(one.training, one.task.outcome, Prior(0.3, 0.2))
    return Learner(one, record, Schedule(one, WINDOWS), loss, CUDA)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    with fake_cuda(monkeypatch) as found:
        yield found


def on_host(tree: object) -> list[Tensor]:
    return [one for one in _pytree.tree_leaves(tree) if isinstance(one, Tensor) and one.device != CUDA]


@pytest.mark.parametrize("loss", [{"loss": "bce"}, {"loss": "focal", "class_weight": "balanced"}])
@pytest.mark.parametrize(("micro_batch", "states"), [(16, "fp32"), (64, "bf16"), (48, "fp32")])
def test_a_step_reads_nothing_and_copies_nothing(
    loss: dict[str, str], micro_batch: int, states: Literal["fp32", "bf16"], seen: Seen
) -> None:
    one = on_cuda(**loss).model_copy(update={"optimizer_states": states})
    windows = random_windows(one, 2000, WINDOWS, CUDA)
    made = learner(one, micro_batch)
    made.step(windows, 0)  # puts the epoch's order on the device
    made.read()
    seen.clear()
    for step in range(1, WINDOWS // one.training.global_batch):  # of one epoch
        losses = made.step(windows, step)
        assert (seen.mixed, seen.to_device, seen.to_host) == ([], [], [])
        assert seen.reads == 2 * len(losses), "loss and gradient norm of the steps that are returned"
        seen.clear()


def test_an_epoch_begins_with_one_transfer_of_its_order(seen: Seen) -> None:
    one = on_cuda()
    windows = random_windows(one, 2000, WINDOWS, CUDA)
    made = learner(one)
    steps = WINDOWS // one.training.global_batch
    seen.clear()
    for step in range(2 * steps):
        made.step(windows, step)
    assert seen.to_device == [(WINDOWS,)] * 2


def test_evaluation_transfers_one_tensor_a_split(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    one = on_cuda()
    windows = random_windows(one, 2000, WINDOWS, CUDA)
    made = learner(one)
    seen.clear()
    evaluation = EvaluationPass({"validation": windows, "test": windows}, 64)
    while not evaluation.done:
        evaluation.advance(made.model, "bf16")
    assert (seen.to_host, seen.to_device, seen.mixed, seen.reads) == ([], [], [], 0)
    monkeypatch.setattr(Tensor, "numpy", lambda tensor: np.empty(tuple(tensor.shape)))  # fake tensors have no values
    outputs = evaluation.outputs()
    assert seen.to_host == [(WINDOWS,)] * 2
    assert all(len(part) == WINDOWS for part in outputs.values())


def test_state_is_on_the_device_and_best_weights_are_on_the_host(seen: Seen) -> None:
    one = on_cuda()
    made = learner(one)
    made.step(random_windows(one, 2000, WINDOWS, CUDA), 0)
    assert on_host(made.state()) == [], "a number of steps on the host would be copied in every step"
    seen.clear()
    weights = made.weights()
    assert len(seen.to_host) == len(weights)
    assert all(tensor.device.type == "cpu" for tensor in weights.values())
    other = learner(one)
    seen.clear()
    other.load(made.state())
    assert (seen.to_host, seen.mixed) == ([], [])
    assert on_host(other.state()) == []


@pytest.mark.parametrize("scaling", ["revin", "none"])
@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_the_probe_measures_a_step_of_the_same_kind(scaling: str, activation_checkpointing: bool, seen: Seen) -> None:
    one = spec(n_window_stats=40 if scaling == "revin" else 0)
    one = one.model_copy(update={"data": one.data.model_copy(update={"scaling": scaling}), "dtype": "bf16"})
    asked: Request = request(16, spec=one, device="cuda", activation_checkpointing=activation_checkpointing)
    trial = ProbedTrial(asked, CUDA)
    trial.step()
    seen.clear()
    trial.step()
    assert (seen.mixed, seen.to_device) == ([], [])
    assert seen.reads == 0
    seen.clear()
    trial.evaluate()
    assert (seen.to_host, seen.to_device, seen.mixed, seen.reads) == ([], [], [], 0)


def test_what_mixes_devices_or_waits_is_seen(seen: Seen) -> None:
    there, here = torch.empty(3, device=CUDA), torch.empty(3)
    with pytest.raises(Exception, match="device"):
        there + here
    there.to("cpu")
    here.to(CUDA)
    assert float(there.sum()) == 0.5
    assert (len(seen.mixed), seen.to_host, seen.to_device, seen.reads) == (1, [(3,)], [(3,)], 1)
