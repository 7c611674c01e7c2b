import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.training.learner import Schedule

CPU = torch.device("cpu")


def epoch_of(schedule, epoch):
    first = epoch * schedule.steps_per_epoch
    return [schedule.index(step, CPU).tolist() for step in range(first, first + schedule.steps_per_epoch)]


@settings(deadline=None)
@given(windows=st.integers(1, 500), batch=st.integers(1, 600), epochs=st.integers(1, 3))
def test_an_epoch_takes_each_window_at_most_once_in_full_batches(make_spec, windows, batch, epochs):
    schedule = Schedule(make_spec(global_batch=batch, epochs=epochs), windows)
    assert schedule.batch == min(batch, windows)
    assert schedule.total_steps == epochs * schedule.steps_per_epoch >= epochs
    steps = epoch_of(schedule, epochs - 1)
    assert all(len(step) == schedule.batch for step in steps)
    taken = [window for step in steps for window in step]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(range(windows))
    assert windows - len(taken) < schedule.batch


def test_a_steps_windows_follow_from_seed_and_epoch_alone(make_spec):
    schedule, again = (Schedule(make_spec(seed=5), 1000) for _ in range(2))
    schedule.index(0, CPU)
    assert schedule.index(19, CPU).tolist() == again.index(19, CPU).tolist()
    schedule.forget()
    assert epoch_of(schedule, 1) == epoch_of(again, 1)


def test_epochs_and_seeds_have_orders_of_their_own(make_spec):
    schedule, other = (Schedule(make_spec(seed=seed), 1000) for seed in (5, 6))
    assert epoch_of(schedule, 0) != epoch_of(schedule, 1)
    assert epoch_of(schedule, 0) != epoch_of(other, 0)
    # the order that trials of before had, which resume with it
    taken = [window for step in epoch_of(schedule, 1) for window in step]
    assert taken == np.random.default_rng((5, 1)).permutation(1000)[: len(taken)].tolist()
