"""A stand-in for the probe's worker, with a clock that it moves: memory, speed and deaths by formula."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runner.probe.batch_size import Measurement
from runner.probe.child import ProbeError, Worker
from runner.probe.messages import Request
from runner.probe.prober import Prober
from runner.probe.request import ProbeOptions


@dataclass
class Host:
    """What all stand-in workers run on.

    Attributes:
        start_s, context_s: of a process, and of its first size.
        rate: windows a second of a micro-batch.
        gain: total throughput of k copies, as a multiple of one.
        deaths: outcomes of the sizes to come, before any that works.
        apart_s: copies begin so long after each other.
        exclusive: the device takes one process at a time.
    """

    start_s: float = 0.0
    context_s: float = 0.0
    rate: Callable[[int], float] = lambda size: 100_000 * size / (size + 64)
    gain: Callable[[int], float] = lambda copies: 1.0
    peak: Callable[[int], int] = lambda size: 10**8 + 10**6 * size
    deaths: list[str] = field(default_factory=list)
    apart_s: float = 0.0
    exclusive: bool = False
    now: float = 1000.0
    asked: list[tuple[int, int]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    starts: int = 0
    running: int = 0
    together: int = 1
    gone: int = 0


class StandIn(Worker):
    """As `Worker`, with no process behind it."""

    def __init__(self, host: Host) -> None:
        super().__init__(lambda: 0)
        self.host, self.alive = host, False

    def spawn(self) -> None:
        self.host.events.append("spawn")

    def start(self) -> None:
        """It waits for the process."""

    def begin(self, request: Request, *, timeout_s: float, limit_bytes: int | None = None) -> None:
        self.request, self.timeout_s = request, timeout_s
        self.host.events.append("begin")
        if not self.alive:
            self.host.now += self.host.start_s + self.host.context_s
            self.host.starts += 1
        self.alive = True
        self.host.running += 1

    def ready(self) -> Measurement | None:
        if self.host.exclusive and self.host.running > 1:
            raise ProbeError("CUDA-capable device(s) is/are busy or unavailable")
        self.host.together = self.host.running
        if self.host.deaths:
            outcome = self.host.deaths.pop(0)
            self.host.running -= 1
            self.alive = False
            return Measurement(micro_batch=self.request.micro_batch, outcome=outcome, peak_bytes=1)  # type: ignore[arg-type]
        return None

    def go(self) -> None:
        self.began = self.host.now + self.host.apart_s * self.host.gone
        self.host.gone += 1

    def measure(self) -> Measurement:
        host, size, copies = self.host, self.request.micro_batch, self.host.together
        host.running -= 1
        host.asked.append((size, copies))
        rate = host.rate(size) * host.gain(copies) / copies
        seconds = max(self.request.measure_s, 7 * size / rate)
        if not host.running:
            host.now += seconds
            host.gone = 0
        batch = min(self.request.spec.training.global_batch, self.request.n_windows)
        return Measurement(
            micro_batch=size,
            outcome="ok",
            peak_bytes=host.peak(size) // (self.request.record.devices if self.request.record.sharded else 1),
            seconds_per_step=batch / rate,
            samples_per_second=rate,
            seconds=seconds,
            span=(self.began, self.began + seconds),
        )

    def stop(self, *, kill: bool = False) -> int:
        self.alive = False
        self.host.running = self.host.gone = 0
        return 0


@contextmanager
def prober(host: Host, **options: object) -> Iterator[Prober]:
    """A prober whose workers run on a stand-in host."""
    chosen = dataclasses.replace(ProbeOptions(cores=1, margin=0.0, memory_limit=10**10), **options)  # type: ignore[arg-type]
    with Prober(chosen, make_worker=lambda: StandIn(host), clock=lambda: host.now) as one:
        yield one
