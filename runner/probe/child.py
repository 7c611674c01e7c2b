"""The parent's side of a worker: start it, ask it, watch it, and take its death for an answer."""

import contextlib
import json
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psutil
from pydantic import TypeAdapter

from runner.host.memory_limits import oom_kills
from runner.probe.batch_size import Measurement, Outcome
from runner.probe.messages import GO, STAGES, Request, StepRequest
from trainables.errors import IsothermError

START_TIMEOUT_S = 120.0  # importing torch from a cold disk; then as long for the device's context and the model
POLL_S = 0.02
RETAINED_BYTES = 64 * 2**20  # a worker that kept more than this from earlier sizes is replaced by a fresh one
KILLED_TRIES = 3  # of a size, in workers that are killed without a lack of memory
KILLED = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)
# A process that is killed so near its limit was short of memory, whoever killed it: systemd-oomd and earlyoom, which
# raise no counter of the kernel, act at about 90 % use, and the size seen here is up to `POLL_S` old.
NEAR_LIMIT = 0.8
_MEASUREMENT: TypeAdapter[Measurement] = TypeAdapter(Measurement)


class ProbeError(IsothermError):
    """The probe itself broke: the worker could not be started, or raised what is not about memory."""


class _EndedError(Exception):
    """The worker is to be ended, or has died (without an outcome)."""

    def __init__(self, outcome: Outcome | None = None, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


@dataclass
class _Task:
    """A size that is being measured.

    Attributes:
        kills: the kernel's count of out-of-memory kills before it.
        peak: largest resident size seen.
        built_at: when the model was built.
    """

    request: Request | StepRequest
    timeout_s: float
    limit_bytes: int | None
    kills: int
    peak: int = 0
    built_at: float | None = None


class Worker:
    """A child process, started when it is first asked. Use as a context manager.

    A size is measured in three calls, so that several workers can be measured at once: `begin`, `ready`, `measure`.
    `ask` is all of them.
    """

    def __init__(self, kills: Callable[[], int] = oom_kills) -> None:
        """`kills` gives the number of processes that the kernel has killed for lack of memory."""
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Any = None
        self._kills = kills
        self._listens = False
        self._fresh_idle = 0
        self._task: _Task | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(kill=True)

    @property
    def pid(self) -> int | None:
        """Of the process, while one runs."""
        return self._process.pid if self._process else None

    def ask(self, request: Request | StepRequest, *, timeout_s: float, limit_bytes: int | None = None) -> Measurement:
        """Run one size.

        Args:
            request: what to run.
            timeout_s: a first step, or a measurement, that takes longer is a ``timeout``. The start of the process and
                building the model are not part of it.
            limit_bytes: a resident size above it ends the worker as ``out_of_memory``.

        Raises:
            ProbeError: the worker failed for a reason that is not memory, time or a kill.
        """
        self.begin(request, timeout_s=timeout_s, limit_bytes=limit_bytes)
        if (failed := self.ready()) is not None:
            return failed
        self.go()
        return self.measure()

    def begin(self, request: Request | StepRequest, *, timeout_s: float, limit_bytes: int | None = None) -> None:
        """Hand a size to the worker, which is started if need be; see `ask`."""
        self._task = _Task(request, timeout_s, limit_bytes, self._kills())
        self.spawn()
        self._write(request.model_dump_json())

    def ready(self) -> Measurement | None:
        """Wait until the first step is over; None where the size can now be measured, else how it failed."""
        task = self._the_task
        try:
            self._greet()
            for stage, timeout_s in zip(STAGES, (START_TIMEOUT_S, task.timeout_s), strict=True):
                document = self._next(timeout_s)
                if stage not in document:
                    return self._answered(document)
                task.built_at = task.built_at or time.monotonic()
        except _EndedError as ended:
            return self._failed(ended)
        return None

    def go(self) -> None:
        """Let a size that is ready be measured."""
        self._write(GO)

    def measure(self) -> Measurement:
        """Wait for what was measured since `go`."""
        try:
            return self._answered(self._next(self._the_task.timeout_s))
        except _EndedError as ended:
            return self._failed(ended)

    def spawn(self) -> None:
        """Start the process if none runs, without waiting for it."""
        if self._process is not None:
            return
        self._listens = False
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runner.probe.worker"],  # -P: not from the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,  # a line that a buffer holds back is not seen by `select`
        )

    def start(self) -> None:
        """Start the process if none runs, and wait until it listens.

        Raises:
            ProbeError: it did not start.
        """
        self._task = None
        self.spawn()
        try:
            self._greet()
        except _EndedError as ended:
            raise self._broken(self._end(ended)) from ended

    def stop(self, *, kill: bool = False) -> int:
        """End the process, which has nothing to save; its exit code, negative for a signal."""
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

    # ---- the process ---------------------------------------------------------------------------------------------

    @property
    def _the_task(self) -> _Task:
        assert self._task is not None, "nothing was begun"
        return self._task

    def _greet(self) -> None:
        if not self._listens:
            document = self._next(START_TIMEOUT_S)
            self._listens, self._fresh_idle = True, int(document["idle_bytes"])

    def _write(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died; whoever waits for it says of what
            data = f"{line}\n".encode()
            while data:  # without a buffer a signal may cut a long line short
                data = data[self._process.stdin.write(data) :]

    def _next(self, timeout_s: float) -> dict[str, Any]:
        """The worker's next document.

        Raises:
            _EndedError: it died, took too long, or grew beyond the limit.
            ProbeError: it raised what is not about memory.
        """
        process, task = self._process, self._task
        assert process is not None
        assert process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not selector.select(POLL_S):
                resident = _resident(process.pid)
                if task is not None:
                    task.peak = max(task.peak, resident)
                    if task.limit_bytes is not None and resident > task.limit_bytes:
                        raise _EndedError("out_of_memory", f"passed {task.limit_bytes / 1e9:.2f} GB")
                if time.monotonic() > deadline:
                    raise _EndedError("timeout", f"no answer in {timeout_s:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise _EndedError
        document: dict[str, Any] = json.loads(line)
        if "error" in document:
            self.stop(kill=True)
            place = f" at micro-batch {task.request.micro_batch}" if task else ""
            raise ProbeError(f"the probe's worker failed{place}:\n{document['error']}")
        return document

    # ---- answers -------------------------------------------------------------------------------------------------

    def _answered(self, document: dict[str, Any]) -> Measurement:
        one = _MEASUREMENT.validate_python(document["measured"])
        if not one.ok or document["idle_bytes"] > self._fresh_idle + RETAINED_BYTES:
            self.stop(kill=True)
        return one if one.ok else replace(one, seconds=self._seconds())

    def _failed(self, ended: _EndedError) -> Measurement:
        """What a worker's end says of the size that it was measuring."""
        task, outcome, detail = self._the_task, ended.outcome, ended.detail
        code = self._end(ended)
        if outcome == "timeout" and not self._listens:  # that says nothing of the size
            raise ProbeError(f"the probe's worker did not start: {detail}\n{self._tail}")
        if outcome is None:
            if code not in KILLED:
                raise self._broken(code)
            outcome, detail = self._cause(task)
        return Measurement(
            micro_batch=task.request.micro_batch,
            outcome=outcome,
            peak_bytes=task.peak,
            seconds=self._seconds(),
            detail=detail,
        )

    def _end(self, ended: _EndedError) -> int:
        """The exit code; of a process that closed its output it is its own, which a kill would replace."""
        return self.stop(kill=ended.outcome is not None)

    def _cause(self, task: _Task) -> tuple[Outcome, str]:
        """Why a worker was killed. For lack of memory only where something says so."""
        if self._kills() > task.kills:
            return "out_of_memory", "killed by the kernel for lack of memory"
        if task.limit_bytes is not None and task.peak >= NEAR_LIMIT * task.limit_bytes:
            return "out_of_memory", f"killed with {task.peak / 1e9:.2f} of {task.limit_bytes / 1e9:.2f} GB in use"
        return "killed", f"killed with {task.peak / 1e9:.2f} GB in use, without a lack of memory"

    def _seconds(self) -> float:
        """Since the model was built."""
        built_at = self._the_task.built_at
        return 0.0 if built_at is None else time.monotonic() - built_at

    def _broken(self, code: int) -> ProbeError:
        return ProbeError(f"the probe's worker ended with code {code}:\n{self._tail}")


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
