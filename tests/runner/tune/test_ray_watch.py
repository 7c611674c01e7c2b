"""Ray's processes watched from outside of Ray, here with others in their place; with Ray: test_lost_ray.py."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from runner.tune import ray_watch
from runner.tune.drain import Drain, DrainStopper, begun
from runner.tune.ray_watch import RayWatch, attend
from tests.waiting import wait_for


@contextmanager
def started() -> Iterator[psutil.Process]:
    """A process in the place of one of Ray's."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(process.pid)
    process.kill()
    process.communicate()


@pytest.fixture
def raylet() -> Iterator[psutil.Process]:
    with started() as process:
        yield process


@pytest.fixture
def watch(raylet: psutil.Process) -> RayWatch:
    return RayWatch([("GCS", psutil.Process()), ("raylet", psutil.Process(raylet.pid))])


@pytest.fixture
def drain(tmp_path: Path) -> Iterator[Drain]:
    with begun(tmp_path / ".running") as drain:
        yield drain


def test_a_process_that_was_killed_is_named_also_while_it_is_a_zombie(raylet: psutil.Process, watch: RayWatch) -> None:
    assert not watch.look()
    raylet.send_signal(signal.SIGKILL)
    wait_for(watch.look)
    assert watch.lost == f"the loss of Ray's raylet (process {raylet.pid}), which died or was killed"
    raylet.wait()
    assert watch.dead() == watch.lost


def test_those_that_ended_with_it_are_named_too(raylet: psutil.Process) -> None:
    with started() as agent:
        watch = RayWatch([("raylet", psutil.Process(raylet.pid)), ("agent", psutil.Process(agent.pid))])
        for process in (agent, raylet):
            process.kill()
        wait_for(lambda: {agent.status(), raylet.status()} == {psutil.STATUS_ZOMBIE})
        both = f"Ray's raylet (process {raylet.pid}) and Ray's agent (process {agent.pid})"
        assert watch.look() == f"the loss of {both}, which died or were killed"


def test_a_process_that_is_suspended_for_long_is_lost_and_one_that_goes_on_is_not(
    raylet: psutil.Process, watch: RayWatch
) -> None:
    looks = int(ray_watch.SUSPENDED_S / ray_watch.LOOK_S)
    raylet.suspend()
    while raylet.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert not any(watch.look() for _ in range(looks - 1))
    raylet.resume()
    while raylet.status() == psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert not watch.look()
    raylet.suspend()
    while raylet.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert not any(watch.look() for _ in range(looks - 1))
    assert "suspended for 30 s" in watch.look()


def test_a_worker_that_ends_before_the_raylet_does_is_waited_with(raylet: psutil.Process, watch: RayWatch) -> None:
    watch.park_if_lost(0.3)  # nothing ends
    parked = threading.Thread(target=watch.park_if_lost, args=(60.0,), daemon=True)
    parked.start()
    time.sleep(0.5)
    raylet.kill()
    wait_for(lambda: watch.lost)
    parked.join(2.0)
    assert parked.is_alive(), "it never returns"


def test_work_is_done_and_what_it_raises_is_raised_here(watch: RayWatch, drain: Drain) -> None:
    done = []
    attend(lambda: done.append(threading.current_thread()), watch, drain)
    assert done != [threading.main_thread()]
    with pytest.raises(ZeroDivisionError):
        attend(lambda: 1 // 0, watch, drain)  # type: ignore[arg-type, return-value]
    assert not drain.requested


@pytest.mark.parametrize("blocked", [True, False])
def test_work_is_left_when_ray_is_lost_once_every_trial_has_saved(
    raylet: psutil.Process, watch: RayWatch, drain: Drain, blocked: bool
) -> None:
    """Blocked inside of Ray, or in Tune's loop, which must not go on and call Ray again."""
    drain.running.add("a")
    after: list[str] = []

    def work() -> None:
        raylet.kill()
        if blocked:
            threading.Event().wait()
        while not DrainStopper().stop_all():
            if drain.requested:
                drain.saved.add("a")
        after.append("Ray was called")

    drain.budget_s = 1.0
    attend(work, watch, drain)
    assert drain.reason == watch.lost != ""
    assert not drain.flag.exists(), "trials see that"
    time.sleep(0.1)
    assert not after


def test_an_error_that_a_lost_ray_raises_is_no_error(raylet: psutil.Process, watch: RayWatch, drain: Drain) -> None:
    def work() -> None:
        raylet.kill()
        raylet.wait()
        raise OSError("the connection to the raylet failed")

    attend(work, watch, drain)
    assert drain.requested


def test_one_that_is_suspended_when_the_work_is_done_is_resumed(
    raylet: psutil.Process, watch: RayWatch, drain: Drain
) -> None:
    raylet.suspend()
    attend(lambda: None, watch, drain)
    wait_for(lambda: raylet.status() != psutil.STATUS_STOPPED)
    assert not drain.requested


def test_a_round_that_does_not_end_after_its_trials_have_saved_is_left(watch: RayWatch, drain: Drain) -> None:
    """Ray's processes live and do not answer."""
    looks = int(ray_watch.SILENT_S / ray_watch.LOOK_S)
    watch.await_end(drain.complete)
    drain.running.add("a")
    drain.request("SIGTERM")
    for _ in range(2 * looks):
        watch.await_end(drain.complete)
    assert not watch.lost, "a trial still saves"
    drain.saved.add("a")
    for _ in range(looks):
        assert not watch.lost
        watch.await_end(drain.complete)
    assert "within 60 s" in watch.look()


def test_the_driver_leaves_a_ray_that_does_not_answer(
    watch: RayWatch, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_watch, "SILENT_S", 0.5)
    drain.request("SIGTERM")
    attend(lambda: threading.Event().wait() and None, watch, drain)
    assert drain.reason == "SIGTERM"
    assert watch.lost
