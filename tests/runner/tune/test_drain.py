"""The drain in its driver: signals, the flag, and what a signal ends. With trials: tests/integration/test_stops.py."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.rundir import requests
from runner.rundir.ledger import AttemptStarted, CellRecorded, Ledger, SweepStarted
from runner.rundir.paths import RunPaths
from runner.tune import drain as draining
from runner.tune.drain import Drain, DrainStopper, Interrupted, shielded
from trainables.errors import ConfigError


@pytest.fixture
def drain(tmp_path: Path) -> Iterator[Drain]:
    with draining.begun(tmp_path / ".running") as drain:
        yield drain


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_asks_for_the_drain(drain: Drain, name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])
    assert drain.reason == name
    assert not drain.flag.exists()


def test_a_sighup_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with draining.begun(tmp_path / ".running") as drain:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not drain.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_removed_flag_asks_for_the_drain_with_the_reason(drain: Drain) -> None:
    stopper = DrainStopper()
    drain.running.add("a")
    assert not stopper.stop_all()
    drain.flag.unlink()
    assert not stopper.stop_all(), "the trial has not saved"
    assert drain.reason == f"the removal of {drain.flag} by something else"
    drain.saved.add("a")
    assert stopper.stop_all()


def test_a_user_stops_the_sweep_or_one_trial_from_another_terminal(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "r")
    with pytest.raises(ConfigError, match="no sweep runs there"):
        requests.stop(paths)
    ledger = Ledger(paths.ledger)
    ledger.append(SweepStarted(run="r", keys=("a" * 12, "b" * 12), config={}, code_version="1", versions={}))
    for key in ("a" * 12, "b" * 12):
        ledger.append(CellRecorded(key=key, name=key[0], labels={}, sizes={}, spec={}))
    ledger.append(AttemptStarted(key="a" * 12, attempt=1, execution={}))
    with draining.begun(paths.running) as drain:
        stopper = DrainStopper()
        drain.running.add("a" * 12)
        with pytest.raises(ConfigError, match="no trial of that key runs"):
            requests.stop_trial(paths, "bbb")
        assert requests.stop_trial(paths, "aaa") == "a"
        result = {"config": {"job": {"key": "a" * 12}}}
        assert stopper("1", result)
        assert drain.ended == {"a" * 12}
        assert not stopper("1", result), "once"
        assert not drain.requested
        requests.pause(paths)
        requests.resume(paths)
        with pytest.raises(ConfigError, match="not paused"):
            requests.resume(paths)
        requests.stop(paths)
        assert not stopper.stop_all()
        assert drain.reason == "isotherm stop"
    requests.clear(paths)
    ledger.close()
    assert sorted(path.name for path in paths.root.iterdir()) == ["ledger.jsonl"]


def test_a_signal_ends_what_is_interruptible_whether_it_comes_before_or_within(tmp_path: Path) -> None:
    for early in (True, False):
        with draining.begun(tmp_path / ".running") as drain:
            if early:
                os.kill(os.getpid(), signal.SIGTERM)
            with pytest.raises(Interrupted):
                _be_interrupted(drain, early)
            assert drain.reason == "SIGTERM"


def _be_interrupted(drain: Drain, early: bool) -> None:
    with drain.interruptible():
        assert not early
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)


def test_another_reason_to_stop_leaves_the_time_for_what_is_interruptible(drain: Drain) -> None:
    drain.request("a hot device")
    with drain.interruptible():
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # the first signal: it does not end this process
    assert drain.reason == "a hot device"


def test_a_process_that_is_started_shielded_hears_no_signal_whatever_it_does_about_it() -> None:
    handle = "signal.signal(signal.SIGTERM, lambda *_: exit(1))"
    script = f"import signal, time; {handle}; print('up', flush=True); time.sleep(60)"
    with shielded():
        child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child:
        child.stdout.readline()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            child.send_signal(number)
        time.sleep(0.3)
        assert child.poll() is None
        child.kill()
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
