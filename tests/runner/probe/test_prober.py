"""The probe's answers with a stand-in for its workers: time, packing and deaths, each under a clock that is moved."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from runner.host.memory_limits import Limit
from runner.probe import prober as module
from runner.probe.child import ProbeError
from runner.probe.request import ProbeRequest, ProbeResult
from tests.runner.probe.standins import Host, prober
from tests.runner.probe.test_worker import question, spec

GB = 10**9


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with 80 GB, whose driver answers."""
    monkeypatch.setattr(module, "device_limit", lambda: Limit(80 * GB, "free device memory"))
    monkeypatch.setattr("runner.probe.request.driver_version", lambda: "580.65")


def asked(batch: int = 256, **changes: Any) -> ProbeRequest:
    return question(spec=spec(batch=batch), n_windows=50_000, threads=1, **changes)


def decide(host: Host, one: ProbeRequest, **options: Any) -> ProbeResult:
    with prober(host, **options) as found:
        return found.decide(one)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("start_s", [9.0, 60.0])
def test_a_slow_start_of_the_worker_changes_no_answer(device: str, start_s: float, on_gpu: None) -> None:
    quick, slow = Host(), Host(start_s=start_s, context_s=1.0)
    fast = decide(quick, asked(device=device), cores=8)
    late = decide(slow, asked(device=device), cores=8)
    assert slow.asked == quick.asked
    assert len(slow.asked) > 3
    assert late.chosen is not None
    assert fast.chosen is not None
    assert late.chosen.micro_batch == fast.chosen.micro_batch
    assert late.chosen.samples_per_second == fast.chosen.samples_per_second
    assert (late.stopped, late.copies) == (fast.stopped, fast.copies)
    assert late.stopped != "time"
    assert late.seconds > fast.seconds + start_s, "what it really took is said"


def test_one_process_measures_all_sizes_of_a_model(on_gpu: None) -> None:
    host = Host()
    decide(host, asked(device="cuda", gpu_share=1.0))
    assert len(host.asked) > 3
    assert host.starts == 1
    host.asked.clear()
    decide(host, asked(device="cuda", gpu_share=1.0))
    assert host.starts == 2, "and ends with it on a GPU: its context takes memory that the next model could have"


def test_more_time_is_spent_where_longer_trials_follow() -> None:
    slow = {"rate": lambda size: 30 * size / (size + 64)}  # seven micro-batches of one window take 15 s
    short = decide(Host(**slow), asked(batch=128))
    long = decide(Host(**slow), asked(batch=128, n_alike=400))
    assert short.stopped == "time"
    assert long.chosen is not None
    assert short.chosen is not None
    assert len(long.measured) > len(short.measured)
    spent = sum(one.seconds for one in long.measured)
    assert 8 < spent < 600, "at most two minutes are begun; the smallest size is always measured"


def test_time_for_packing_is_not_used_up_by_the_search(on_gpu: None) -> None:
    host = Host(rate=lambda size: 3000 * size / (size + 64), gain=lambda copies: min(copies, 4))
    decision = decide(host, asked(batch=64, device="cuda"), cores=8)
    assert decision.copies == 4
    assert decision.record.gpu_share == 0.25
    assert [copies for _, copies in host.asked if copies > 1] == [2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]
    single = decision.totals[0][1]
    assert dict(decision.totals) == pytest.approx({1: single, 2: 2 * single, 4: 4 * single})


@pytest.mark.parametrize(("trials", "cores", "copies"), [(2, 8, 2), (1, 8, 1), (None, 8, 8), (8, 3, 2)])
def test_no_more_copies_than_there_are_trials_or_cores(
    trials: int | None, cores: int, copies: int, on_gpu: None
) -> None:
    host = Host(gain=lambda copies: copies)
    decision = decide(host, asked(device="cuda", n_trials=trials), cores=cores)
    assert decision.copies == copies
    assert max(together for _, together in host.asked) == copies


def test_copies_that_do_not_overlap_are_no_gain(on_gpu: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    apart = Host(gain=lambda copies: copies, apart_s=1.5)
    decision = decide(apart, asked(device="cuda"), cores=8, cache_folder=tmp_path)
    assert decision.copies == 1
    assert [copies for _, copies in apart.asked if copies > 1] == [2] * 6, "measured three times"
    assert "did not run at the same time" in caplog.text
    better = Host(gain=lambda copies: copies)
    assert decide(better, asked(device="cuda"), cores=8, cache_folder=tmp_path).copies == 8, "and nothing was kept"


def test_copies_that_start_a_little_apart_are_not_flattered(on_gpu: None) -> None:
    truth = decide(Host(gain=lambda copies: 1.2 if copies > 1 else 1.0), asked(device="cuda"), cores=8)
    apart = decide(Host(gain=lambda copies: 1.2 if copies > 1 else 1.0, apart_s=0.1), asked(device="cuda"), cores=8)
    assert dict(truth.totals)[2] == pytest.approx(1.2 * truth.totals[0][1])
    assert max(dict(apart.totals).values()) < max(dict(truth.totals).values())


def test_a_device_for_one_process_alone_is_not_shared(on_gpu: None, caplog: pytest.LogCaptureFixture) -> None:
    decision = decide(Host(exclusive=True), asked(device="cuda"), cores=8)
    assert decision.feasible
    assert decision.copies == 1
    assert "busy or unavailable" in caplog.text


def large() -> ProbeRequest:
    """Of 2b parameters: 32 GB of states."""
    one = asked(device="cuda", most_devices=8)
    model = one.spec.model.model_copy(update={"n_params": 2 * GB})
    return dataclasses.replace(one, spec=one.spec.model_copy(update={"model": model}))


def test_what_fits_no_device_is_sharded_over_as_many_as_it_needs(on_gpu: None) -> None:
    host = Host(peak=lambda size: 33 * GB + 10**8 * size)
    record = decide(host, large(), memory_limit=24 * GB, cores=16).record
    assert record.layout == "sharded over 2 devices"
    assert (record.devices, record.sharded, record.gpu_share, record.cores) == (2, True, 1.0, 2)
    assert record.micro_batch * record.accumulation * record.devices == 256
    assert {copies for _, copies in host.asked} == {1}, "such a trial is not packed"
    assert decide(host, large(), memory_limit=80 * GB, cores=16).record.layout == ""


def test_what_fits_nowhere_says_what_it_needs_on_each_device(on_gpu: None) -> None:
    decision = decide(Host(), large(), memory_limit=7 * GB, cores=16)
    assert "need 32.00 GB, with activation checkpointing, sharded over 8 devices 8.00 GB each" in decision.reason


def test_devices_that_are_asked_for_hold_the_whole_model_where_it_fits(on_gpu: None) -> None:
    def four(devices: int = 4, **changes: Any) -> ProbeRequest:
        one = asked(device="cuda", devices=devices, **{"most_devices": 4, **changes})
        return dataclasses.replace(one, pinned=one.pinned | {"devices"})

    assert decide(Host(), four(), cores=16).record.layout == "over 4 devices"
    parts = decide(Host(peak=lambda size: 10**10 + size), four(), memory_limit=9 * GB)
    assert parts.record.layout == "sharded over 4 devices"
    assert "256 windows of a step cannot be split over 3" in decide(Host(), four(devices=3)).reason
    assert "compares the windows of a batch" in decide(Host(), four(smallest_micro_batch=256)).reason
    assert "4 devices are asked for, and a host has 2" in decide(Host(), four(most_devices=2)).reason


@pytest.fixture
def caches(tmp_path: Path) -> dict[str, Any]:
    return {"cache_folder": tmp_path}


def test_a_kill_without_a_lack_of_memory_is_measured_again_and_never_kept(caches: dict[str, Any]) -> None:
    disturbed = decide(Host(deaths=["killed", "killed"]), asked(), **caches)
    calm = decide(Host(), asked())
    assert disturbed.chosen == calm.chosen
    assert not disturbed.record.activation_checkpointing
    assert disturbed.n_oom == 0
    assert all(one.ok for one in disturbed.measured)
    again = decide(Host(), asked(), **caches)
    assert again.n_new == 0
    assert again.chosen is not None
    assert calm.chosen is not None
    assert again.chosen.micro_batch == calm.chosen.micro_batch


def test_something_that_always_kills_is_named(caches: dict[str, Any]) -> None:
    with pytest.raises(ProbeError, match=r"killed 3 times.*\n.*fix: find out what ends processes"):
        decide(Host(deaths=["killed"] * 3), asked(), **caches)
    assert decide(Host(), asked(), **caches).feasible, "and nothing was kept"


def test_an_answer_that_time_cut_short_is_not_kept_for_long(
    caches: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {"rate": lambda size: 30 * size / (size + 64)}
    first = decide(Host(**slow), asked(), **caches)
    assert first.stopped == "time"
    assert decide(Host(**slow), asked(), **caches).n_new == 0
    monkeypatch.setattr("runner.probe.cache.SHORT_S", 0.0)  # an hour later
    later = Host(**slow)
    second = decide(later, asked(), **caches)
    assert second.n_new > 0, "it goes on where it ended"
    assert not {size for size, _ in later.asked} & {one.micro_batch for one in first.measured}
    assert len(second.measured) == len(first.measured) + second.n_new


def test_pinned_threads_still_tell_how_many_run_at_once() -> None:
    host, one = Host(gain=lambda copies: copies), question(spec=spec(batch=256), n_windows=50_000, threads=2)
    decision = decide(host, one, cores=4)
    assert (decision.record.threads, decision.copies) == (2, 2)
    failing = decide(
        Host(gain=lambda copies: copies, apart_s=99.0),
        one,
        cores=4,
    )
    assert failing.chosen is not None
    assert failing.copies * failing.samples_per_second == pytest.approx(failing.chosen.samples_per_second)


def test_a_loss_that_compares_windows_is_measured_with_whole_batches_only() -> None:
    host = Host()
    found = decide(host, asked(batch=256, smallest_micro_batch=256))
    assert {one.micro_batch for one in found.measured} == {256}
    record = found.record
    assert (record.micro_batch, record.accumulation, record.smallest_micro_batch) == (256, 1, 256)
    refused = decide(Host(), asked(batch=256, smallest_micro_batch=256), memory_limit=1)
    assert not refused.feasible


@pytest.mark.parametrize(("memory_limit", "together"), [(10 * GB, 4), (1 * GB, 2)])
def test_processes_for_copies_start_together_before_anything_is_measured(memory_limit: int, together: int) -> None:
    host = Host()
    decide(host, asked(), cores=4, memory_limit=memory_limit)
    assert host.events.index("begin") == together


def test_moments_in_bf16_are_a_question_of_their_own_and_take_less() -> None:
    one = large()
    less = dataclasses.replace(one, spec=one.spec.model_copy(update={"optimizer_states": "bf16"}))
    assert less.identity(less.record) != one.identity(one.record)
    assert one.static_bytes(one.record) == 16 * one.n_params
    assert less.static_bytes(less.record) == 12 * less.n_params
