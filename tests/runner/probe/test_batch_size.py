"""The search, as properties over memory curves and throughputs."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.probe.batch_size import AS_GOOD, MAX_MEASURED, Measurement, Search, choose, search, sizes

MB = 10**6


class Device:
    """Runs sizes by formula: memory ``fixed + each * size ** bend``, throughput ``size / (size + knee)``."""

    def __init__(self, limit: int, fixed: int, each: float, bend: float = 1.0, knee: float = 8.0) -> None:
        self.limit, self.fixed, self.each, self.bend, self.knee = limit, fixed, each, bend, knee
        self.asked: list[int] = []

    def peak(self, size: int) -> int:
        return int(self.fixed + self.each * size**self.bend)

    def rate(self, size: int) -> float:
        return 1000 * size / (size + self.knee)

    def __call__(self, size: int) -> Measurement:
        assert size not in self.asked, "nothing is measured twice"
        self.asked.append(size)
        peak = self.peak(size)
        if peak > self.limit:
            return Measurement(micro_batch=size, outcome="out_of_memory", peak_bytes=self.limit)
        return Measurement(
            micro_batch=size,
            outcome="ok",
            peak_bytes=peak,
            samples_per_second=self.rate(size),
            seconds_per_step=1 / self.rate(size),
        )


def run(device: Device, candidates: tuple[int, ...], margin: float = 0.1) -> Search:
    return search(device, candidates, usable_bytes=int(device.limit * (1 - margin)), static_bytes=device.fixed // 2)


curves = st.builds(
    Device,
    limit=st.integers(100 * MB, 100_000 * MB),
    fixed=st.integers(1 * MB, 50_000 * MB),
    each=st.floats(0.001 * MB, 5_000 * MB),
    bend=st.one_of(st.just(1.0), st.floats(1.0, 1.3)),
    knee=st.floats(0.1, 2000),
)
spaces = st.builds(
    lambda minimum, maximum, batch: sizes(minimum=minimum, maximum=maximum, batch=batch),
    st.integers(1, 64),
    st.one_of(st.none(), st.integers(64, 10_000)),
    st.integers(1, 10_000),
)


@given(curves, spaces)
def test_few_sizes_one_out_of_memory_and_only_what_was_measured(device: Device, candidates: tuple[int, ...]) -> None:
    found = run(device, candidates)
    assert 1 <= len(device.asked) <= MAX_MEASURED
    assert [one.micro_batch for one in found.measured] == device.asked
    assert set(device.asked) <= set(candidates)
    assert sum(one.outcome == "out_of_memory" for one in found.measured) <= 1
    if found.chosen is None:
        assert device.peak(candidates[0]) > device.limit * 0.9
    else:
        assert found.chosen in found.measured
        assert found.chosen.peak_bytes <= device.limit * 0.9


@given(st.integers(1, 2000), st.data())
def test_any_curve_at_all_has_at_most_one_out_of_memory(limit: int, data: st.DataObject) -> None:
    peaks = sorted(data.draw(st.lists(st.integers(1, 4000), min_size=14, max_size=14)))
    rates = data.draw(st.lists(st.floats(1, 1000), min_size=14, max_size=14))

    def measure(size: int) -> Measurement:
        at = size.bit_length() - 1
        if peaks[at] > limit:
            return Measurement(micro_batch=size, outcome="out_of_memory", peak_bytes=limit)
        return Measurement(micro_batch=size, outcome="ok", peak_bytes=peaks[at], samples_per_second=rates[at])

    found = search(measure, sizes(minimum=1, maximum=None, batch=8192), usable_bytes=int(0.9 * limit))
    assert sum(not one.ok for one in found.measured) <= 1
    assert len(found.measured) <= MAX_MEASURED


@given(curves.filter(lambda device: device.bend == 1.0), spaces)
def test_on_affine_curves_the_answer_is_the_smallest_size_as_good_as_the_best(
    device: Device, candidates: tuple[int, ...]
) -> None:
    found = run(device, candidates)
    fitting = [size for size in candidates if device.peak(size) <= int(device.limit * 0.9)]
    if not fitting:
        assert found.chosen is None
        return
    assert found.chosen is not None
    failed = [one for one in found.measured if not one.ok]
    assert failed in ([], [found.measured[1]] if len(found.measured) > 1 else []), "two points predict an affine curve"
    best = max(one.samples_per_second for one in found.measured if one.peak_bytes <= int(device.limit * 0.9))
    smaller = [size for size in candidates if size < found.chosen.micro_batch]
    if len(found.measured) < MAX_MEASURED:
        assert not smaller or device.rate(smaller[-1]) < AS_GOOD * best, "a smaller size is as good"
    # Two doublings that gain under 5 % end the climb; what is given away beyond them is bounded.
    assert found.chosen.samples_per_second >= AS_GOOD * 0.95 * max(device.rate(size) for size in fitting)


def test_the_plateau_ends_the_climb() -> None:
    device = Device(limit=10**12, fixed=MB, each=MB, knee=2)
    found = run(device, sizes(minimum=1, maximum=None, batch=8192))
    assert found.stopped == "plateau"
    assert max(device.asked) <= 128
    assert found.chosen is not None
    assert found.chosen.micro_batch == 32


def test_a_batch_that_is_no_power_of_two_may_be_taken_whole_and_is_never_exceeded() -> None:
    assert sizes(minimum=1, maximum=None, batch=100) == (1, 2, 4, 8, 16, 32, 64, 100)
    assert sizes(minimum=8, maximum=48, batch=100) == (8, 16, 32, 48)
    assert sizes(minimum=80, maximum=None, batch=100) == (80, 100)
    assert sizes(minimum=64, maximum=None, batch=20) == (20,)
    device = Device(limit=10**12, fixed=MB, each=MB, knee=500)
    found = run(device, sizes(minimum=1, maximum=None, batch=100))
    assert found.chosen is not None
    assert found.chosen.micro_batch == 100
    assert found.stopped == "cap"


def test_a_last_jump_into_the_margin_is_followed_by_the_size_below() -> None:
    # 32 is predicted to fit from 1 and 8, runs, and lands in the margin; 16 fits and was not on the way.
    peaks = {1: 100, 2: 110, 4: 130, 8: 160, 16: 300, 32: 950}

    def measure(size: int) -> Measurement:
        return Measurement(micro_batch=size, outcome="ok", peak_bytes=peaks[size], samples_per_second=size)

    found = search(measure, tuple(peaks), usable_bytes=900)
    assert found.chosen is not None
    assert found.chosen.micro_batch == 16


@pytest.mark.parametrize("outcome", ["out_of_memory", "timeout"])
def test_the_smallest_size_that_fails_is_the_end(outcome: str) -> None:
    found = search(
        lambda size: Measurement(micro_batch=size, outcome=outcome, peak_bytes=7),  # type: ignore[arg-type]
        (1, 2, 4),
        usable_bytes=100,
    )
    assert found.chosen is None
    assert found.stopped == "infeasible"
    assert len(found.measured) == 1


def test_time_ends_the_climb_with_what_there_is() -> None:
    device = Device(limit=10**12, fixed=MB, each=MB, knee=500)
    short: Callable[..., bool] = lambda size, measured: size <= 16  # noqa: E731
    found = search(device, sizes(minimum=1, maximum=None, batch=1024), usable_bytes=10**12, affordable=short)
    assert found.stopped == "time"
    assert max(device.asked) == 16


def test_a_pinned_size_is_one_measurement() -> None:
    device = Device(limit=10**12, fixed=MB, each=MB)
    found = run(device, (48,))
    assert device.asked == [48]
    assert choose(found.measured, 10**12) == found.chosen
