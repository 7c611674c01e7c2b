"""Measurements for one question: which requests, by which workers, and how much time they may take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psutil

from runner.host.memory_limits import Limit
from runner.probe import packing
from runner.probe.batch_size import Measurement
from runner.probe.cache import Cache
from runner.probe.child import KILLED_TRIES, ProbeError, Worker
from runner.probe.messages import Request
from runner.probe.request import ProbeOptions, ProbeRequest
from runner.probe.together import run_together
from runner.probe.trial import MIN_STEPS
from trainables.schema import ExecutionRecord

MEASURE_S = 0.3  # timed steps of one size
PIECES = 7  # micro-batches that measuring a size takes, about: three steps of two, and evaluation
BUDGET_SHARE, MOST_SECONDS = 0.02, 120.0  # of the training that follows, in measuring time
PACKED_TIMEOUT_S, TOO_SLOW = 5.0, 3
HOST_CORES = psutil.cpu_count() or 1  # also those that this process may not use


@dataclass
class Measuring:
    """Measures sizes of one question.

    Attributes:
        limit: memory that there is.
        pool: gives that many workers.
        say: called with what is being measured.
        at_once: workers that start together with the first one.
        n_new, n_oom: sizes measured so far, and those that ran out of memory.
        disturbed: other programs took processors while copies were measured together.
    """

    question: ProbeRequest
    options: ProbeOptions
    limit: Limit
    cache: Cache
    pool: Callable[[int], Sequence[Worker]]
    say: Callable[[str], None]
    at_once: int = 1
    n_new: int = 0
    n_oom: int = 0
    disturbed: bool = False
    _packing_s: float = 0.0

    def budget_s(self, measured: Sequence[Measurement]) -> float:
        """Seconds that measuring may take; they begin when a worker is warm.

        A share of the training that follows, but at least the option, and not more than two minutes where it is less.
        """
        rates = [one.samples_per_second for one in measured if one.ok]
        follows_s = self.question.steps * self.question.batch / max(rates) if rates else 0.0
        return max(self.options.seconds_per_model, min(BUDGET_SHARE * follows_s, MOST_SECONDS))

    def cost_s(self, size: int, measured: Sequence[Measurement]) -> float:
        """Seconds that measuring a size will take, about."""
        return max(MIN_STEPS * MEASURE_S, self._pieces_s(size, measured))

    def alone(self, record: ExecutionRecord) -> Measurement:
        """Measure a micro-batch.

        Raises:
            ProbeError: the worker failed for a reason that is neither memory nor time.
        """
        self.say(f"{self.question.label}: micro-batch {record.micro_batch}")
        request = self._request(record)
        for _ in range(KILLED_TRIES):
            one = self.pool(self.at_once)[0].ask(
                request, timeout_s=self.options.timeout_s, limit_bytes=self._host_bytes(record.devices)
            )
            self.n_new += 1
            if one.outcome != "killed":
                break
        else:
            raise ProbeError(
                f"the probe's process for {self.question.label} was killed {KILLED_TRIES} times: {one.detail}\n"
                "    fix: find out what ends processes on this host (dmesg, journalctl), and run it again"
            )
        self.n_oom += one.outcome == "out_of_memory"
        one = replace(one, disturbed=packing.disturbed(one.others_cores, record.threads, cores=HOST_CORES))
        return one if one.ok else replace(one, limit_bytes=self.limit.bytes)

    def together(self, record: ExecutionRecord, copies: int, one: Measurement) -> float | None:
        """Windows a second of k copies at once; 0 where they cannot run so, None where there was no time to measure.

        `one` is what was measured of one alone. Copies have as much time of their own as the search for the size has.
        """
        question = self.question
        identity = question.identity(record, copies)
        curve = self.cache.load(identity)
        known = curve.known(one.micro_batch, self.limit.bytes)
        if known is None:
            # On one GPU, where they may gain nothing, it takes as long as one after the other.
            measure_s = max(MEASURE_S, self._pieces_s(one.micro_batch, [one]))
            measure_s *= copies if record.device == "cuda" else 1
            if self._packing_s + measure_s > self.budget_s([one]):
                return None
            self.say(f"{question.label}: {copies} at once, {record.threads} threads each")
            known = run_together(
                self.pool(copies),
                self._request(record, copies, measure_s),
                # Where it takes much longer than alone, as threads that wait for each other can, it does not help.
                timeout_s=PACKED_TIMEOUT_S + TOO_SLOW * copies * self.cost_s(one.micro_batch, [one]),
                limit_bytes=self._host_bytes(copies),
            )
            if known is None:
                return 0.0
            self._packing_s += known.seconds
            disturbed = packing.disturbed(known.others_cores, record.threads, copies, cores=HOST_CORES)
            known = replace(known, disturbed=disturbed, limit_bytes=0 if known.ok else self.limit.bytes)
            curve.add(known)
            self.cache.store(identity, curve)
        self.disturbed = self.disturbed or known.disturbed
        return known.samples_per_second * copies if known.ok else 0.0

    def _pieces_s(self, size: int, measured: Sequence[Measurement]) -> float:
        rates = [one.samples_per_second for one in measured if one.ok]
        return PIECES * size / max(rates, default=float("inf"))

    def _request(self, record: ExecutionRecord, copies: int = 1, measure_s: float = MEASURE_S) -> Request:
        question = self.question
        return Request(
            spec=question.spec,
            record=record,
            n_rows=question.n_rows,
            n_windows=question.n_windows,
            measure_s=measure_s,
            device_share=1.0 / copies,
            crowded=copies > 1,
            plugins=question.plugins,
        )

    def _host_bytes(self, copies: int) -> int | None:
        """What a worker may take of the host's memory; a GPU says itself when it is full."""
        return self.limit.bytes // copies if self.question.record.device == "cpu" else None
