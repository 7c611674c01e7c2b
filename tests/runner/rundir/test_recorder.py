"""The recorder: the ledger first, then the listeners; a listener cannot harm a sweep."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.rundir import ledger
from runner.rundir.ledger import AnyRecord, EventRecorded, LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder


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


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "isotherm-test", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_record_waits_for_a_full_disk_and_no_half_line_stays(full_disk: Path) -> None:
    paths = RunPaths(full_disk / "run")
    recorder = Recorder(paths, patience_s=60)
    recorder.record(event("one"))
    ballast = full_disk / "ballast"
    ballast.write_bytes(bytes(48 << 10))
    long = "x" * (20 << 10)  # begins to be written, and does not fit
    freed = threading.Timer(1.0, ballast.unlink)
    freed.start()
    recorder.record(event(long))
    assert not ballast.exists(), "it waited"
    recorder.record(event("three"))
    recorder.close()
    assert [one.message for one in ledger.read(paths.ledger).events] == ["one", long, "three"]


def test_patience_ends_once_and_for_all(full_disk: Path) -> None:
    paths = RunPaths(full_disk / "run")
    recorder = Recorder(paths, patience_s=0.2)
    (full_disk / "ballast").write_bytes(bytes(48 << 10))
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            recorder.record(event("x" * (20 << 10)))
    recorder.record(event("it fits"))
    assert [one.message for one in ledger.read(paths.ledger).events] == ["it fits"]
    assert [one.message for one in recorder.view.events] == ["it fits"]
    recorder.close()


def test_a_sweep_that_is_to_end_does_not_wait(full_disk: Path) -> None:
    recorder = Recorder(RunPaths(full_disk / "run"), patience_s=3600)
    recorder.wait_unless(lambda: True)
    (full_disk / "ballast").write_bytes(bytes(48 << 10))
    with pytest.raises(OSError, match="No space left"):
        recorder.record(event("x" * (20 << 10)))
    recorder.close()
