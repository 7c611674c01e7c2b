"""A tracker's process against a server that never ends an answer: it ends in time, and stays small."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from runner.tracking.mlflow_tracker import MlflowTarget
from runner.tracking.worker import ORPHANED_S, OVERTIME_S
from tests.servers import RawServer, bomb, drip, drip_heads, endless
from tests.waiting import PATIENCE_S, wait_for

MB = 10**6
# A smaller limit than the real one: what takes a gigabyte would hurt a small host.
SMALL = "from runner.tracking import worker; worker.MAX_BYTES = 600 * 10**6; worker.main()"


class Started:
    """The process of `runner.tracking.worker`, delivering a run to a server."""

    def __init__(self, story: Any, server: RawServer) -> None:
        story.whole()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SMALL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=story.paths.root,
        )
        assert self.process.stdin is not None
        job = {
            "root": str(story.paths.root),
            "tracker": "mlflow",
            "config": MlflowTarget(uri=server.url).revealed(),
            "plugins": [],
        }
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        wait_for(lambda: server.asked)

    def peak_bytes(self, seconds: float) -> int:
        peak, end = 0, time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                peak = max(peak, psutil.Process(self.process.pid).memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.02)
        return peak


@pytest.fixture
def start(story: Any) -> Iterator[Callable[..., Started]]:
    servers: list[RawServer] = []
    started: list[Started] = []

    def begin(pieces: Callable[[], Iterator[bytes]], pause_s: float = 0.0) -> Started:
        servers.append(RawServer(pieces, pause_s))
        started.append(Started(story, servers[-1]))
        return started[-1]

    yield begin
    for one in started:
        one.process.kill()
        for stream in (one.process.stdin, one.process.stdout):
            stream.close()
        one.process.wait()
    for server in servers:
        server.close()


@pytest.mark.parametrize("pieces", [drip, drip_heads])
def test_an_orphan_ends_in_time_however_slowly_it_is_answered(start: Any, pieces: Any) -> None:
    one = start(pieces, 0.5)
    began = time.monotonic()
    assert one.process.stdin is not None
    one.process.stdin.close()  # the driver is gone
    one.process.wait(PATIENCE_S)
    assert ORPHANED_S + OVERTIME_S < 15
    assert time.monotonic() - began < 25  # the limit of a call is 30 s


def test_an_endless_answer_does_not_fill_the_memory(start: Any) -> None:
    one = start(endless)
    assert one.peak_bytes(8) < 600 * MB
    assert one.process.poll() is None, "it tries again"


def test_an_answer_that_unpacks_to_gigabytes_ends_the_process_and_is_said(start: Any) -> None:
    one = start(bomb)
    assert one.peak_bytes(30) < 3000 * MB  # of 32 GB
    assert one.process.wait(PATIENCE_S) == 75, "it is started again, with a back-off"
    assert one.process.stdout is not None
    assert "MiB of memory" in one.process.stdout.read()
