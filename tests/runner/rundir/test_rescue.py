"""A ledger that something else changes while a driver writes it: nothing is lost, and nothing is written over."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.rundir import ledger, lock
from runner.rundir.ledger import EventRecorded, Ledger, rescue
from runner.rundir.paths import RunPaths, existing_run
from runner.rundir.recorder import Recorder
from tests.waiting import PATIENCE_S
from trainables.errors import ConfigError, LedgerError


def event(number: int) -> EventRecorded:
    return EventRecorded(what="n", message=f"{number} " + "x" * (number % 7))


def numbers(path: Path) -> list[int]:
    return [int(one.message.split()[0]) for one in ledger.read(path).events if one.what == "n"]


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def edited(path: Path) -> None:
    """As an editor saves a file: a new one, renamed over the old one."""
    text = path.read_bytes().replace(b'"message":"4 ', b'"message":"8 ')
    aside = path.with_suffix(".swp")
    aside.write_bytes(text)
    aside.replace(path)


def without_a_line(path: Path) -> None:
    aside = path.with_suffix(".swp")
    aside.write_bytes(b"".join(lines_of(path)[:3] + lines_of(path)[4:]))
    aside.replace(path)


def copied_over(path: Path) -> None:
    """As a tool that synchronises does, with the same content."""
    aside = path.with_suffix(".tmp")
    shutil.copy(path, aside)
    aside.replace(path)


def old_copy(path: Path) -> None:
    """A backup of some records ago, restored."""
    aside = path.with_suffix(".tmp")
    aside.write_bytes(b"".join(lines_of(path)[:4]))
    aside.replace(path)


def appended(path: Path) -> None:
    with path.open("ab") as handle:
        handle.write(b"a note of mine\n")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (Path.unlink, "removed"),
    "folder removed": (lambda path: shutil.rmtree(path.parent), "removed"),
    "folder moved": (lambda path: path.parent.rename(path.parent.with_name("moved")), "removed"),
    "edited": (edited, "replaced by another file"),
    "a line removed": (without_a_line, "replaced by another file"),
    "copied over": (copied_over, "replaced by another file"),
    "old copy": (old_copy, "replaced by another file"),
    "a folder": (a_folder, "replaced by another file"),
    "emptied": (lambda path: os.truncate(path, 0), "cut from"),
    "cut in a line": (lambda path: os.truncate(path, path.stat().st_size - 200), "cut from"),
    "cut at a line": (lambda path: os.truncate(path, sum(map(len, lines_of(path)[:2]))), "cut from"),
    "lengthened": (appended, "lengthened from"),
    "lengthened with NULs": (lambda path: os.truncate(path, path.stat().st_size + 4096), "lengthened from"),
}


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "runs" / "run")


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_happens_to_the_file_every_record_comes_back(paths: RunPaths, name: str) -> None:
    change, words = CHANGES[name]
    recorder = Recorder(paths)
    lost: list[str] = []
    recorder.on_lost = lost.append
    for number in range(10):
        recorder.record(event(number))
    change(paths.ledger)
    after = paths.ledger.read_bytes() if paths.ledger.is_file() else None
    for number in range(10, 15):
        recorder.record(event(number))
    recorder.close()

    [reason] = lost
    rescued = paths.root / "ledger.rescued-1.jsonl"
    assert words in reason
    assert str(rescued) in reason
    assert reason == recorder.lost
    assert after == (paths.ledger.read_bytes() if paths.ledger.is_file() else None), "what is there is left alone"
    assert existing_run(paths.root).root == paths.root
    if paths.ledger.is_dir():
        paths.ledger.rmdir()
    assert numbers(paths.ledger) == list(range(15)), "readers find them"

    again = Recorder(paths)
    again.record(event(15))
    again.close()
    assert not rescued.exists()
    assert numbers(paths.ledger) == list(range(16))
    assert b"\0" not in paths.ledger.read_bytes()
    [said] = [one.message for one in ledger.read(paths.ledger).events if one.what == "rescued"]
    assert "ledger.rescued-1.jsonl were put back" in said


def test_what_was_in_the_place_of_a_rescued_record_is_kept_aside(paths: RunPaths) -> None:
    recorder = Recorder(paths)
    for number in range(10):
        recorder.record(event(number))
    edited(paths.ledger)
    theirs = lines_of(paths.ledger)
    recorder.record(event(10))
    recorder.close()
    Ledger(paths.ledger).close()
    assert lines_of(paths.root / "ledger.replaced-1.jsonl") == theirs[4:]


def test_a_check_after_the_last_record_finds_a_change_too(paths: RunPaths) -> None:
    recorder = Recorder(paths)
    recorder.record(event(0))
    assert recorder.check() == ""
    paths.ledger.unlink()
    assert "removed" in recorder.check()
    recorder.close()
    assert numbers(paths.ledger) == [0]


@pytest.mark.parametrize("name", CHANGES)
def test_a_ledger_that_is_changed_once_more_loses_nothing(paths: RunPaths, name: str) -> None:
    recorder = Recorder(paths)
    for number in range(10):
        recorder.record(event(number))
    appended(paths.ledger)
    recorder.record(event(10))
    change, _ = CHANGES[name]
    if "folder" not in name:  # that takes the rescue file, too: see the next test
        change(paths.ledger)
    recorder.record(event(11))
    recorder.close()
    Ledger(paths.ledger).close()
    assert numbers(paths.ledger) == list(range(12))


@pytest.mark.parametrize("change", [Path.unlink, edited, appended, lambda path: os.truncate(path, 100)])
def test_a_rescue_file_is_looked_after_as_well(paths: RunPaths, change: Callable[[Path], object]) -> None:
    recorder = Recorder(paths)
    for number in range(10):
        recorder.record(event(number))
    paths.ledger.unlink()
    recorder.record(event(10))
    change(paths.root / "ledger.rescued-1.jsonl")
    recorder.record(event(11))
    recorder.close()
    assert numbers(paths.ledger) == list(range(12))
    Ledger(paths.ledger).close()
    assert numbers(paths.ledger) == list(range(12))
    assert not rescue.files(paths.ledger)


def test_a_rescue_file_that_is_removed_is_written_again(paths: RunPaths) -> None:
    recorder = Recorder(paths)
    recorder.record(event(0))
    paths.ledger.unlink()
    recorder.record(event(1))
    (paths.root / "ledger.rescued-1.jsonl").unlink()
    recorder.record(event(2))
    recorder.close()
    assert numbers(paths.ledger) == [0, 1, 2]


def test_every_byte_of_the_content_is_known_to_the_writer(paths: RunPaths) -> None:
    recorder = Recorder(paths)
    for number in range(300):
        recorder.record(event(number))
        assert recorder.size_bytes == paths.ledger.stat().st_size
    assert recorder.content() == paths.ledger.read_bytes()
    recorder.close()


# ---- the way back -----------------------------------------------------------------------------------------------


@pytest.fixture
def torn_apart(paths: RunPaths) -> tuple[RunPaths, bytes]:
    """A ledger that was cut, its rescue file, and what both together hold."""
    writer = Ledger(paths.ledger)
    for number in range(6):
        writer.append(event(number))
    os.truncate(paths.ledger, sum(map(len, lines_of(paths.ledger)[:3])) + 17)
    for number in range(6, 9):
        writer.append(event(number))
    content = writer.content()
    writer.close()
    return paths, content


def test_a_kill_at_any_byte_of_the_way_back_loses_nothing(torn_apart: tuple[RunPaths, bytes]) -> None:
    """The rescue file is removed last, so a kill leaves it and a ledger of any length."""
    paths, content = torn_apart
    rescued = (paths.root / "ledger.rescued-1.jsonl").read_bytes()
    assert rescued == content
    for length in range(0, len(content) + 1, 11):
        paths.ledger.write_bytes(content[:length])
        (paths.root / "ledger.rescued-1.jsonl").write_bytes(rescued)
        assert numbers(paths.ledger) == list(range(9))
        Ledger(paths.ledger).close()
        assert paths.ledger.read_bytes().startswith(content)
        assert numbers(paths.ledger) == list(range(9))


def test_a_driver_that_is_killed_on_the_way_back_loses_nothing(torn_apart: tuple[RunPaths, bytes]) -> None:
    paths, content = torn_apart
    script = (
        "import os, sys; from pathlib import Path; from runner.rundir.ledger import writer\n"
        "real, left = os.write, [int(sys.argv[2])]\n"
        "def write(descriptor, data):\n"
        "    done = real(descriptor, data[:left[0]]); left[0] -= done\n"
        "    if not left[0]: os.kill(os.getpid(), 9)\n"
        "    return done\n"
        "os.write = write\n"
        "writer.Ledger(Path(sys.argv[1]))\n"
    )
    for bytes_written in (1, 100, 500):
        command = [sys.executable, "-c", script, str(paths.ledger), str(bytes_written)]
        assert subprocess.run(command, check=False, timeout=PATIENCE_S).returncode == -signal.SIGKILL
        assert numbers(paths.ledger) == list(range(9))
    Ledger(paths.ledger).close()
    assert paths.ledger.read_bytes().startswith(content)


def test_a_changed_rescue_file_is_refused(torn_apart: tuple[RunPaths, bytes]) -> None:
    paths, _ = torn_apart
    path = paths.root / "ledger.rescued-1.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"message":"7 ', b'"message":"9 '))
    before = paths.ledger.read_bytes()
    with pytest.raises(LedgerError, match=r"rescued-1\.jsonl:8: its running hash does not match"):
        Ledger(paths.ledger)
    assert paths.ledger.read_bytes() == before


def test_two_ways_of_going_on_are_refused_and_both_kept(torn_apart: tuple[RunPaths, bytes]) -> None:
    paths, _ = torn_apart
    rescued = paths.root / "ledger.rescued-1.jsonl"
    elsewhere = paths.root / "elsewhere.jsonl"
    rescued.rename(elsewhere)
    other = Ledger(paths.ledger)  # somebody goes on without the rescued records
    other.append(event(50))
    other.close()
    elsewhere.rename(rescued)
    before = paths.ledger.read_bytes(), rescued.read_bytes()
    with pytest.raises(LedgerError, match=r"go on in different ways after line 3(?s:.)*fix: keep a copy of both"):
        Ledger(paths.ledger)
    assert (paths.ledger.read_bytes(), rescued.read_bytes()) == before


# ---- one writer ---------------------------------------------------------------------------------------------------

DRIVER = """
import sys, time
from pathlib import Path
from runner.rundir import lock
from runner.rundir.ledger import EventRecorded
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
paths = RunPaths(Path(sys.argv[1]))
with lock.held(paths):
    recorder = Recorder(paths)
    recorder.record(EventRecorded(what="n", message="0 "))
    print("writes", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def driver(paths: RunPaths) -> Iterator[subprocess.Popen[str]]:
    """A process that writes the run."""
    command = [sys.executable, "-c", DRIVER, str(paths.root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writes\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_driver_is_refused_without_the_lock_file_too(paths: RunPaths, driver: subprocess.Popen[str]) -> None:
    before = paths.ledger.read_bytes()
    for remove in ((), (paths.lock,), (paths.lock,)):
        for path in remove:
            path.unlink(missing_ok=True)
        with pytest.raises(ConfigError, match=f"another sweep writes here: process {driver.pid}"), lock.held(paths):
            pass
        with pytest.raises(LedgerError, match="another process writes it"):
            Recorder(paths)
    assert paths.ledger.read_bytes() == before
    driver.kill()
    driver.wait()
    with lock.held(paths):
        Recorder(paths).close()


def test_a_reader_never_waits_for_the_writer(paths: RunPaths, driver: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    assert numbers(paths.ledger) == [0]
    assert time.monotonic() - began < 30
    assert rescue.files(paths.ledger) == []
