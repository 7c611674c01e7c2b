"""Output that nobody reads any more: the command goes on, and ends with its own exit code."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

SCRIPT = """
import logging, sys
logging.basicConfig(filename=sys.argv[1], level=logging.INFO)
from runner.cli.output import logged_console, make_lasting
make_lasting()
console = logged_console()
console.print("the [b]first[/b] line")
sys.stdin.readline()
for number in range(2000):
    console.print(f"line {number}")
    print("to standard error", file=sys.stderr)
sys.exit(7)
"""


def run(log: Path, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SCRIPT, str(log)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)


def end(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()
    return process.wait(PATIENCE_S)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_reader_that_goes_away_ends_nothing_and_all_is_in_the_log(tmp_path: Path, kind: str) -> None:
    reader, writer = os.pipe() if kind == "pipe" else pty.openpty()
    process = run(tmp_path / "log", writer, writer)
    os.close(writer)
    assert b"first" in os.read(reader, 1000)
    os.close(reader)
    assert end(process) == 7
    log = (tmp_path / "log").read_text()
    assert "the [b]first[/b] line" in log
    assert "line 1999" in log
    assert "cannot be written any more" in log


def test_a_full_disk_behind_standard_output_is_still_an_error(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    process = run(tmp_path / "log", full, subprocess.DEVNULL)
    os.close(full)
    assert end(process) not in (0, 7)
