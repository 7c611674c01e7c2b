"""The recorder: the ledger first, then the listeners; a listener cannot harm a sweep."""

from pathlib import Path

import pytest

from runner import ledger
from runner.ledger import AnyRecord, EventRecorded, LedgerView
from runner.paths import RunPaths
from runner.recorder import Recorder


def event(message: str) -> EventRecorded:
    return EventRecorded(what="test", message=message)


def test_listeners_hear_of_what_is_already_on_disk(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    recorder = Recorder(paths)
    heard: list[tuple[int, int, int]] = []

    def listen(record: AnyRecord, view: LedgerView) -> None:
        heard.append((record.seq, len(list(ledger.records(paths.ledger))), len(view.events)))

    recorder.listen(listen)
    for message in ("one", "two"):
        recorder.record(event(message))
    recorder.close()
    assert heard == [(0, 1, 1), (1, 2, 2)]


def test_a_listener_that_fails_is_dropped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(RunPaths(tmp_path / "run"))
    calls: list[str] = []

    def broken(record: AnyRecord, view: LedgerView) -> None:
        calls.append("broken")
        raise RuntimeError("no")

    recorder.listen(broken)
    recorder.listen(lambda record, view: calls.append("sound"))
    for message in ("one", "two"):
        recorder.record(event(message))
    recorder.close()
    assert calls == ["broken", "sound", "sound"]
    assert "no longer called" in caplog.text


def test_a_second_driver_knows_what_the_first_wrote(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    first = Recorder(paths)
    first.record(event("one"))
    first.close()
    second = Recorder(paths)
    assert [one.message for one in second.view.events] == ["one"]
    second.close()
