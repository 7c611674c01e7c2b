"""The parent's side of a worker: start it, ask it, watch it, and take its death for an answer."""

import contextlib
import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import psutil

from runner.probe.batch_size import Measurement, Outcome
from runner.probe.worker import Answer, Request
from trainables.errors import IsothermError

START_TIMEOUT_S = 120.0  # importing torch from a cold disk
POLL_S = 0.02
RETAINED_BYTES = 64 * 2**20  # a worker that kept more than this from earlier sizes is replaced by a fresh one


class ProbeError(IsothermError):
    """The probe itself broke: the worker could not be started, or raised what is not about memory."""


class Worker:
    """A child process, started when it is first asked. Use as a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._log: Any = None
        self._fresh_idle = 0

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """Of the process, while one runs."""
        return self._process.pid if self._process else None

    def ask(self, request: Request, *, timeout_s: float, guard: Callable[[int], str] | None = None) -> Measurement:
        """Run one size.

        Args:
            request: what to run.
            timeout_s: a size that takes longer is a ``timeout``.
            guard: told the worker's resident bytes about fifty times a second; a text ends the worker as
                ``out_of_memory`` with that detail.

        Raises:
            ProbeError: the worker failed for a reason that is not memory or time.
        """
        self.send(request)
        return self.receive(timeout_s=timeout_s, guard=guard)

    def send(self, request: Request) -> None:
        """Begin a size; the answer is to be received."""
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        self._request = request
        with contextlib.suppress(BrokenPipeError):  # it died; `receive` says of what
            process.stdin.write(request.model_dump_json() + "\n")
            process.stdin.flush()

    def receive(self, *, timeout_s: float, guard: Callable[[int], str] | None = None) -> Measurement:
        """Wait for the answer to what was sent; see `ask`."""
        line, peak, reason, outcome = self._wait(timeout_s, guard)
        request = self._request
        if line:
            document = json.loads(line)
            if "error" in document:
                self.stop()
                raise ProbeError(
                    f"the probe's worker failed at micro-batch {request.micro_batch}:\n{document['error']}"
                )
            return self._measurement(request, Answer.model_validate(document))
        code = self.stop(kill=True)
        if outcome is None:
            if code not in (-9, 137):
                raise ProbeError(f"the probe's worker ended with code {code}:\n{self._tail}")
            outcome, reason = "out_of_memory", "killed by the kernel"
        return Measurement(
            micro_batch=request.micro_batch,
            outcome=outcome,
            peak_bytes=peak,
            detail=reason,
        )

    def stop(self, *, kill: bool = False) -> int:
        """End the process; its exit code, negative for a signal."""
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        if kill:
            process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        process.stdout.close()
        self._log.seek(0)
        self._tail = self._log.read()[-2000:]
        self._log.close()
        return code

    def start(self) -> None:
        """Start the process if none runs, and wait until it listens."""
        if self._process is not None:
            return
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runner.probe.worker"],  # -P: not from the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        line, *_ = self._wait(START_TIMEOUT_S, None)
        if "ready" not in line:
            code = self.stop(kill=True)
            raise ProbeError(f"the probe's worker did not start (code {code}):\n{self._tail}")
        self._fresh_idle = _resident(self._process.pid)

    def _wait(self, timeout_s: float, guard: Callable[[int], str] | None) -> tuple[str, int, str, Outcome | None]:
        """The worker's next line (empty if it died or was ended), its largest size seen, and why it was ended."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        deadline, peak = time.monotonic() + timeout_s, 0
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not selector.select(POLL_S):
                resident = _resident(process.pid)
                peak = max(peak, resident)
                if time.monotonic() > deadline:
                    return "", peak, f"no answer in {timeout_s:.0f} s", "timeout"
                if guard is not None and (reason := guard(resident)):
                    return "", peak, reason, "out_of_memory"
            return process.stdout.readline(), peak, "", None

    def _measurement(self, request: Request, answer: Answer) -> Measurement:
        if answer.outcome != "ok" or answer.idle_bytes > self._fresh_idle + RETAINED_BYTES:
            self.stop()
        batch = min(request.spec.training.global_batch, request.n_windows)
        return Measurement(
            micro_batch=request.micro_batch,
            outcome=answer.outcome,
            peak_bytes=answer.peak_bytes,
            seconds_per_step=answer.seconds_per_step,
            samples_per_second=batch / answer.seconds_per_step if answer.seconds_per_step else 0.0,
            others_cores=answer.others_cores,
            detail=answer.detail,
        )


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
