"""How many trials at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.probe.packing import (
    Kind,
    copies_that_fit,
    disturbed,
    gains_on_gpu,
    gpu_share,
    makespan,
    reserved_cores,
    spread,
    threads_on_cpu,
)


def saturating(knee: float):
    """Total throughput of k copies on one device that is full at `knee` copies."""
    return lambda copies: 100.0 * min(copies, knee)


def test_copies_go_up_while_the_total_does_and_memory_allows() -> None:
    assert gains_on_gpu(saturating(1), 100, most=8) == {}
    assert gains_on_gpu(saturating(4), 100, most=8) == {2: 200, 4: 400}
    assert max(gains_on_gpu(saturating(100), 100, most=100)) == 8
    assert max(gains_on_gpu(saturating(100), 100, most=3)) == 2
    assert gains_on_gpu(lambda copies: None, 100, most=8) == {}, "what is not known is no gain"
    assert gains_on_gpu(lambda copies: 0.0, 100, most=8) == {}, "nor are copies that fail"


def test_copies_that_fit() -> None:
    assert copies_that_fit(3 * 10**9, 10 * 10**9) == 3
    assert copies_that_fit(11 * 10**9, 10 * 10**9) == 0


def test_threads_that_raise_the_total_of_all_trials() -> None:
    # Perfect scaling over trials, none over threads: one thread each.
    assert threads_on_cpu(lambda threads, copies: 10.0 * copies, 8, fit=8).threads == 1
    # Memory for two trials only: the cores are used by threads.
    chosen = threads_on_cpu(lambda threads, copies: 10.0 * copies * threads**0.9, 8, fit=2)
    assert (chosen.threads, chosen.copies) == (4, 2)
    # What could not be measured is not chosen.
    assert threads_on_cpu(lambda threads, copies: 10.0 if threads == 1 else None, 8, fit=1).threads == 1


@pytest.mark.parametrize(
    ("others", "threads", "copies", "expected"),
    [
        (0.1, 1, 1, False),
        (3.2, 1, 1, False),  # there was a processor for each
        (3.3, 1, 1, True),
        (0.2, 4, 1, False),
        (0.3, 4, 1, True),
        (2.1, 2, 2, False),  # the other copy
        (2.3, 2, 2, True),
        (7.2, 1, 8, False),  # more copies than processors, on purpose
    ],
)
def test_what_disturbs_is_what_leaves_too_few_processors(
    others: float, threads: int, copies: int, expected: bool
) -> None:
    assert disturbed(others, threads, copies, cores=4) is expected


@given(st.integers(1, 64), st.integers(1, 128), st.integers(1, 64))
def test_no_more_trials_than_memory_holds_ever_run_at_once(threads: int, cores: int, fit: int) -> None:
    reserved = reserved_cores(threads, cores, fit)
    assert reserved >= min(threads, cores)
    assert 1 <= reserved <= max(cores, threads)
    if threads <= cores:
        assert cores // reserved <= fit


@given(st.lists(st.tuples(st.floats(0.1, 100), st.sampled_from([0.25, 0.5, 1.0, 2.0])), max_size=20))
def test_makespan_lies_between_its_bounds(trials: list[tuple[float, float]]) -> None:
    seconds, shares = [one for one, _ in trials], [share for _, share in trials]
    span = makespan(seconds, shares, 2.0)
    work = sum(one * share for one, share in trials)
    assert span >= max(work / 2.0, *seconds, 0.0) * 0.999
    assert span <= sum(seconds) * 1.001


def test_makespan_of_equal_trials() -> None:
    assert makespan([10.0] * 4, [1.0] * 4, 2.0) == 20.0
    assert makespan([10.0] * 4, [0.5] * 4, 1.0) == 20.0
    assert makespan([], [], 1.0) == 0.0


def kind(count: int, most: int = 8, windows: float = 1000.0, cores: int = 1) -> Kind:
    """Copies that share a GPU gain a fifth with each doubling."""
    totals = {1: 100.0, 2: 120.0, 4: 144.0, 8: 172.8}
    return Kind(count, windows, {copies: total for copies, total in totals.items() if copies <= most}, cores)


@pytest.mark.parametrize(
    ("trials", "gpus", "cores", "copies"),
    [
        (8, 4, 64, 2),  # two on each, where Ray would put all eight on the first
        (8, 1, 64, 8),
        (3, 4, 64, 1),
        (9, 4, 64, 3),  # with shares of a half the ninth would wait for a whole trial
        (32, 4, 64, 8),
        (64, 4, 64, 8),
        (8, 4, 4, 1),  # cores for four at once: one on each
    ],
)
def test_trials_are_spread_over_all_gpus(trials: int, gpus: int, cores: int, copies: int) -> None:
    assert spread([kind(trials)], gpus, cores) == [copies]


def test_kinds_share_the_gpus() -> None:
    # Four large trials take the four GPUs first; the eight small ones then find one GPU each two.
    assert spread([kind(4, most=1, windows=10_000), kind(8)], 4, 64) == [1, 2]
    assert spread([], 4, 64) == []


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 64), st.sampled_from([1, 2, 4, 8]))
def test_shares_never_pack_more_than_was_measured_to_gain(trials: int, gpus: int, cores: int, most: int) -> None:
    [copies] = spread([kind(trials, most)], gpus, cores)
    assert 1 <= copies <= most
    assert copies * gpu_share(copies) <= 1
    assert 1 / gpu_share(copies) < copies + 1, "no more copies than that find room"


def test_between_measured_numbers_of_copies_the_total_is_a_straight_line() -> None:
    assert kind(1).total(4) == 144.0
    assert kind(1).total(3) == pytest.approx(132.0)
