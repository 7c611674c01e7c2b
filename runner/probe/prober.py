"""The probe: cache, limits, search and workers tied together."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from runner.probe import batch_size, packing
from runner.probe.batch_size import Measurement, Search
from runner.probe.cache import Cache
from runner.probe.child import Worker
from runner.probe.limits import Limit, device_limit, host_limit
from runner.probe.question import Decision, Options, Question
from runner.probe.worker import Request

MEASURE_S = 0.3  # timed steps of one size
PIECES = 7  # micro-batches that measuring a size takes, about: two warm up, some are timed, and evaluation
HOST_CORES = psutil.cpu_count() or 1  # also those that this process may not use
GIGA = 1e9
PACKED_TIMEOUT_S, TOO_SLOW = 5.0, 3


def _silent(_: str) -> None:
    return


class Prober:
    """Answers questions; its workers live from the first that must be measured to the end of the context."""

    def __init__(self, options: Options, say: Callable[[str], None] = _silent) -> None:
        """`say` is told what is being measured."""
        self._options, self._say = options, say
        self._cache = Cache(options.cache_folder)
        self._workers: list[Worker] = []

    def __enter__(self) -> "Prober":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def decide(self, question: Question) -> Decision:
        """Find out how a trial can be executed.

        Raises:
            ProbeError: a worker failed for a reason that is neither memory nor time.
        """
        return _Probe(question, self._options, self._cache, self._pool, self._say).decide()

    def _pool(self, copies: int) -> list[Worker]:
        while len(self._workers) < copies:
            self._workers.append(Worker())
        return self._workers[:copies]


@dataclass
class _Probe:
    """One question."""

    question: Question
    options: Options
    cache: Cache
    pool: Callable[[int], list[Worker]]
    say: Callable[[str], None]
    n_new: int = 0
    n_oom: int = 0
    disturbed: bool = False
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        options, on_cpu = self.options, self.question.device == "cpu"
        self.limit = host_limit() if on_cpu else device_limit()
        if options.memory_limit is not None and options.memory_limit < self.limit.bytes:
            self.limit = Limit(options.memory_limit, "the limit asked for")
        self.usable = int(self.limit.bytes * (1 - options.margin)) - (options.reserve_bytes if on_cpu else 0)
        self.extra = options.extra_bytes if on_cpu else 0
        self.threads = self.question.threads or 1

    def decide(self) -> Decision:
        static = self.question.static_bytes
        if static > self.usable:
            reason = f"parameters, gradients and optimizer state alone need {_gb(static)}; {self._there_is()}"
            return self._decision(Search((), "infeasible", None), reason=reason, needed=static)
        plain = self._search(activation_checkpointing=False)
        if plain.chosen is not None:
            return self._packed(plain, activation_checkpointing=False)
        frugal = self._search(activation_checkpointing=True)
        if frugal.chosen is not None:
            return self._packed(frugal, activation_checkpointing=True)
        return self._refusal(plain, frugal)

    # ---- micro-batch ---------------------------------------------------------------------------------------------

    def _search(self, *, activation_checkpointing: bool) -> Search:
        identity = self.question.identity(threads=self.threads, activation_checkpointing=activation_checkpointing)
        curve = self.cache.load(identity)
        candidates = self._candidates()
        self.spent = curve.seconds
        if (known := curve.search(candidates, self.usable - self.extra)) is not None:
            return known
        spent = time.monotonic() - curve.seconds

        def measure(size: int) -> Measurement:
            if (old := curve.known(size, self.limit.bytes)) is not None:
                return old
            new = self._measure(size, activation_checkpointing=activation_checkpointing)
            curve.add(new)
            return new

        def affordable(size: int, measured: Sequence[Measurement]) -> bool:
            if curve.known(size, self.limit.bytes) is not None:
                return True
            return time.monotonic() - spent + self._cost(size, measured) <= self.options.seconds_per_model

        found = batch_size.search(
            measure,
            candidates,
            usable_bytes=self.usable - self.extra,
            static_bytes=self.question.static_bytes,
            affordable=affordable,
        )
        curve.seconds = self.spent = time.monotonic() - spent
        curve.ended(candidates, self.usable - self.extra, found.stopped)
        self.cache.store(identity, curve)
        return found

    def _candidates(self) -> tuple[int, ...]:
        question, options = self.question, self.options
        if question.micro_batch is not None:
            return (min(question.micro_batch, question.batch),)
        return batch_size.sizes(minimum=options.minimum, maximum=options.maximum, batch=question.batch)

    def _cost(self, size: int, measured: Sequence[Measurement]) -> float:
        """Seconds that measuring a size will take, about."""
        rates = [one.samples_per_second for one in measured if one.ok]
        return PIECES * size / max(rates, default=float("inf"))

    def _measure(self, size: int, *, activation_checkpointing: bool) -> Measurement:
        self.say(f"{self.question.label}: micro-batch {size}")
        request = self._request(size, self.threads, activation_checkpointing)
        one = self.pool(1)[0].ask(request, timeout_s=self.options.timeout_s, guard=self._guard(1))
        self.n_new += 1
        self.n_oom += one.outcome == "out_of_memory"
        one = replace(one, disturbed=packing.disturbed(one.others_cores, self.threads, cores=HOST_CORES))
        return one if one.ok else replace(one, limit_bytes=self.limit.bytes)

    def _request(self, size: int, threads: int, activation_checkpointing: bool, copies: int = 1) -> Request:
        question = self.question
        return Request(
            spec=question.spec,
            n_rows=question.n_rows,
            n_windows=question.n_windows,
            micro_batch=size,
            threads=threads,
            device=question.device,
            activation_checkpointing=activation_checkpointing,
            measure_s=MEASURE_S,
            device_share=1.0 / copies,
            crowded=copies > 1,
            plugins=question.plugins,
        )

    def _guard(self, copies: int) -> Callable[[int], str] | None:
        """Ends a worker on the host before the kernel does; a GPU says itself when it is full."""
        if self.question.device != "cpu":
            return None
        limit = self.limit.bytes // copies
        return lambda resident: f"passed {_gb(limit)}" if resident > limit else ""

    # ---- packing -------------------------------------------------------------------------------------------------

    def _packed(self, found: Search, *, activation_checkpointing: bool) -> Decision:
        chosen = found.chosen
        assert chosen is not None
        fit = max(1, packing.copies_that_fit(chosen.peak_bytes + self.extra, self.usable))

        def total(threads: int, copies: int) -> float | None:
            if (threads, copies) == (self.threads, 1):
                return chosen.samples_per_second
            return self._together(chosen, threads, copies, activation_checkpointing)

        def estimate(threads: int, copies: int) -> float | None:
            """Where there was no time to measure, trials of one thread are taken not to disturb each other."""
            return copies * chosen.samples_per_second if threads == self.threads else None

        if self.question.device == "cuda":
            return self._packed_on_gpu(found, total, fit, activation_checkpointing)
        cores, pinned = self.options.cores, self.question.threads
        if pinned is None:
            best = packing.threads_on_cpu(lambda threads, k: total(threads, k) or estimate(threads, k), cores, fit)
        else:
            copies = max(1, min(cores // pinned, fit))
            best = packing.Threads(pinned, copies, total(pinned, copies) or copies * chosen.samples_per_second)
        return self._decision(
            found,
            activation_checkpointing=activation_checkpointing,
            threads=best.threads,
            copies=best.copies,
            reserved_cores=packing.reserved_cores(best.threads, cores, fit),
            rate=best.samples_per_second / best.copies,
        )

    def _packed_on_gpu(
        self,
        found: Search,
        total: Callable[[int, int], float | None],
        fit: int,
        activation_checkpointing: bool,
    ) -> Decision:
        chosen, share = found.chosen, self.question.gpu_share
        assert chosen is not None
        if share is None:
            copies = packing.copies_on_gpu(lambda k: total(self.threads, k), chosen.samples_per_second, fit)
            share = 1.0 / copies
        copies = max(1, int(1 / share))
        rate = (total(self.threads, copies) or copies * chosen.samples_per_second) / copies
        return self._decision(
            found,
            activation_checkpointing=activation_checkpointing,
            threads=self.threads,
            copies=copies,
            gpu_share=share,
            reserved_cores=self.threads,
            rate=rate,
        )

    def _together(self, one: Measurement, threads: int, copies: int, activation_checkpointing: bool) -> float | None:
        """Windows a second of k copies at once; None where one failed, or measuring would take too long."""
        question = self.question
        identity = question.identity(threads=threads, activation_checkpointing=activation_checkpointing, copies=copies)
        curve = self.cache.load(identity)
        known = curve.known(one.micro_batch, self.limit.bytes)
        if known is None:
            if self.spent + self._cost(one.micro_batch, [one]) > self.options.seconds_per_model:
                return None
            self.say(f"{question.label}: {copies} at once, {threads} threads each")
            known = self._run_together(one, threads, copies, activation_checkpointing)
            curve.add(known)
            self.cache.store(identity, curve)
        self.disturbed = self.disturbed or known.disturbed
        return known.samples_per_second * copies if known.ok else None

    def _run_together(
        self, alone: Measurement, threads: int, copies: int, activation_checkpointing: bool
    ) -> Measurement:
        size = alone.micro_batch
        request = self._request(size, threads, activation_checkpointing, copies)
        workers = self.pool(copies)
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.send(request)
        # Where it takes much longer than alone, as threads that wait for each other can, it does not help.
        timeout_s = PACKED_TIMEOUT_S + TOO_SLOW * copies * self._cost(size, [alone])
        answers = [worker.receive(timeout_s=timeout_s, guard=self._guard(copies)) for worker in workers]
        if failed := [answer for answer in answers if not answer.ok]:
            return replace(failed[0], limit_bytes=self.limit.bytes)
        rate = sum(answer.samples_per_second for answer in answers) / copies
        return replace(
            answers[0],
            samples_per_second=rate,
            seconds_per_step=self.question.batch / rate,
            disturbed=any(packing.disturbed(one.others_cores, threads, copies, cores=HOST_CORES) for one in answers),
        )

    # ---- answers -------------------------------------------------------------------------------------------------

    def _refusal(self, plain: Search, frugal: Search) -> Decision:
        first, second = plain.measured[0], frugal.measured[0]
        if second.outcome == "timeout":
            reason = f"measuring micro-batch {second.micro_batch} took longer than {self.options.timeout_s:g} s"
        else:
            reason = (
                f"micro-batch {first.micro_batch} needs {_need(first, self.extra)}, "
                f"with activation checkpointing {_need(second, self.extra)}; {self._there_is()}"
            )
        search = Search((*plain.measured, *frugal.measured), "infeasible", None)
        return self._decision(search, reason=reason, needed=min(first.peak_bytes, second.peak_bytes) + self.extra)

    def _there_is(self) -> str:
        return f"there are {_gb(max(0, self.usable))} (of {_gb(self.limit.bytes)}, {self.limit.what})"

    def _decision(self, found: Search, *, needed: int | None = None, rate: float = 0.0, **values: Any) -> Decision:
        smallest = min((one.micro_batch, one.peak_bytes) for one in found.measured)[1] if found.measured else 0
        return Decision(
            question=self.question,
            stopped=found.stopped if found.measured else "static",
            chosen=found.chosen,
            measured=found.measured,
            n_new=self.n_new,
            n_oom=self.n_oom,
            limit=self.limit,
            usable_bytes=self.usable,
            extra_bytes=self.extra,
            disturbed=self.disturbed or any(one.disturbed for one in found.measured),
            needed_bytes=smallest + self.extra if needed is None else needed,
            samples_per_second=rate,
            seconds_per_step=self.question.batch / rate if rate else 0.0,
            seconds=time.monotonic() - self.started,
            **values,
        )


def _need(one: Measurement, extra: int) -> str:
    return ("more than " if not one.ok else "") + _gb(one.peak_bytes + extra)


def _gb(count: int) -> str:
    return f"{count / GIGA:.2f} GB"
