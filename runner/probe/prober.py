"""The probe: cache, limits, search and workers tied together."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.host.memory_limits import Limit, device_limit, host_limit
from runner.probe import batch_size, packing
from runner.probe.batch_size import Measurement, Search
from runner.probe.cache import Cache
from runner.probe.child import Worker
from runner.probe.measuring import Measuring
from runner.probe.request import ProbeOptions, ProbeRequest, ProbeResult

GIGA = 1e9
Together = Callable[[int, int], float | None]  # windows a second of all copies, called with threads and copies


def _silent(_: str) -> None:
    return


class Prober:
    """Answers questions; its workers live from the first that must be measured to the end of the context.

    On a GPU they end with each question: a process that is idle keeps its context, and memory that a trial could have.
    """

    def __init__(
        self,
        options: ProbeOptions,
        say: Callable[[str], None] = _silent,
        *,
        make_worker: Callable[[], Worker] = Worker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`say` is called with what is being measured."""
        self._options, self._say, self._make_worker, self._clock = options, say, make_worker, clock
        self._cache = Cache(options.cache_folder)
        self._workers: list[Worker] = []

    def __enter__(self) -> "Prober":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def decide(self, question: ProbeRequest) -> ProbeResult:
        """Find out how a trial can be executed.

        Raises:
            ProbeError: a worker failed for a reason that is neither memory nor time.
        """
        try:
            started = self._clock()
            decision = _Probe(question, self._options, self._cache, self._pool, self._say).decide()
            return replace(decision, seconds=self._clock() - started)
        finally:
            if question.device == "cuda":
                self._stop()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop(kill=True)

    def _pool(self, copies: int) -> list[Worker]:
        while len(self._workers) < copies:
            self._workers.append(self._make_worker())
        return self._workers[:copies]


@dataclass
class _Probe:
    """One question."""

    question: ProbeRequest
    options: ProbeOptions
    cache: Cache
    pool: Callable[[int], list[Worker]]
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        options, on_cpu = self.options, self.question.device == "cpu"
        self.limit = host_limit() if on_cpu else device_limit()
        if options.memory_limit is not None and options.memory_limit < self.limit.bytes:
            self.limit = Limit(options.memory_limit, "the limit asked for")
        self.usable = int(self.limit.bytes * (1 - options.margin)) - (options.reserve_bytes if on_cpu else 0)
        self.extra = options.extra_bytes if on_cpu else 0
        self.threads = self.question.threads or 1
        self.measuring = Measuring(self.question, options, self.limit, self.cache, self.pool, self.say)

    def decide(self) -> ProbeResult:
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
        usable, measuring, spent = self.usable - self.extra, self.measuring, 0.0
        if (found := curve.search(candidates, usable, measuring.budget_s(curve.measured))) is not None:
            return found

        def measure(size: int) -> Measurement:
            nonlocal spent
            if (old := curve.known(size, self.limit.bytes)) is not None:
                return old
            new = measuring.alone(size, self.threads, activation_checkpointing=activation_checkpointing)
            spent += new.seconds
            curve.add(new)
            return new

        def affordable(size: int, measured: Sequence[Measurement]) -> bool:
            if curve.known(size, self.limit.bytes) is not None:
                return True
            return spent + measuring.cost_s(size, measured) <= measuring.budget_s(measured)

        found = batch_size.search(
            measure,
            candidates,
            usable_bytes=usable,
            static_bytes=self.question.static_bytes,
            affordable=affordable,
        )
        curve.ended(candidates, usable, found.stopped, measuring.budget_s(curve.measured))
        self.cache.store(identity, curve)
        return found

    def _candidates(self) -> tuple[int, ...]:
        question, options = self.question, self.options
        if question.whole_batch:
            return (question.batch,)
        if question.micro_batch is not None:
            return (min(question.micro_batch, question.batch),)
        return batch_size.sizes(minimum=options.minimum, maximum=options.maximum, batch=question.batch)

    # ---- packing -------------------------------------------------------------------------------------------------

    def _packed(self, found: Search, *, activation_checkpointing: bool) -> ProbeResult:
        chosen = found.chosen
        assert chosen is not None
        fit = max(1, packing.copies_that_fit(chosen.peak_bytes + self.extra, self.usable))

        def together(threads: int, copies: int) -> float | None:
            return self.measuring.together(chosen, threads, copies, activation_checkpointing=activation_checkpointing)

        pack = self._on_gpu if self.question.device == "cuda" else self._on_cpu
        packed = pack(chosen.samples_per_second, fit, together)
        return self._decision(found, activation_checkpointing=activation_checkpointing, **packed)

    def _on_cpu(self, single: float, fit: int, together: Together) -> dict[str, Any]:
        cores, pinned = self.options.cores, self.question.threads

        def total(threads: int, copies: int) -> float | None:
            return together(threads, copies) if threads != self.threads else self._total(single, copies, together)

        if pinned is None:
            best = packing.threads_on_cpu(total, cores, fit)
        else:
            copies = max(1, min(cores // pinned, fit))
            best = packing.Threads(pinned, copies, self._total(single, copies, together))
        return {
            "threads": best.threads,
            "copies": best.copies,
            "reserved_cores": packing.reserved_cores(best.threads, cores, fit),
            "rate": best.samples_per_second / best.copies,
        }

    def _on_gpu(self, single: float, fit: int, together: Together) -> dict[str, Any]:
        rates, share = {1: single}, self.question.gpu_share
        if share is None:
            # No more copies than there are trials to run, or cores to feed them; and only what was measured is packed.
            most = min(fit, self.question.n_trials or fit, max(1, self.options.cores // self.threads))
            rates |= packing.gains_on_gpu(lambda copies: together(self.threads, copies), single, most)
            copies, total = max(rates.items())
        else:
            copies = max(1, int(1 / share))
            total = self._total(single, copies, together)
        return {
            "threads": self.threads,
            "copies": copies,
            "gpu_share": share or 1.0 / copies,
            "reserved_cores": self.threads,
            "rate": total / copies,
            "totals": tuple(rates.items()) if share is None else (),
        }

    def _total(self, single: float, copies: int, together: Together) -> float:
        """Windows a second of copies that will run at once, whatever they gain."""
        measured = single if copies == 1 else together(self.threads, copies)
        if measured is None:  # no time to measure it: they are taken not to disturb each other
            return copies * single
        return measured or single  # where they cannot run at once, one runs after the other

    # ---- answers -------------------------------------------------------------------------------------------------

    def _refusal(self, plain: Search, frugal: Search) -> ProbeResult:
        first, second = plain.measured[0], frugal.measured[0]
        if second.outcome == "timeout":
            reason = f"measuring micro-batch {second.micro_batch} took longer than {self.options.timeout_s:g} s"
        else:
            reason = (
                f"micro-batch {first.micro_batch} needs {_need(first, self.extra)}, "
                f"with activation checkpointing {_need(second, self.extra)}; {self._there_is()}"
            )
            if self.question.whole_batch:
                reason += "; the loss compares the windows of a batch, which cannot be taken in smaller pieces"
        search = Search((*plain.measured, *frugal.measured), "infeasible", None)
        return self._decision(search, reason=reason, needed=min(first.peak_bytes, second.peak_bytes) + self.extra)

    def _there_is(self) -> str:
        return f"there are {_gb(max(0, self.usable))} (of {_gb(self.limit.bytes)}, {self.limit.what})"

    def _decision(self, found: Search, *, needed: int | None = None, rate: float = 0.0, **values: Any) -> ProbeResult:
        smallest = min((one.micro_batch, one.peak_bytes) for one in found.measured)[1] if found.measured else 0
        return ProbeResult(
            question=self.question,
            stopped=found.stopped if found.measured else "static",
            chosen=found.chosen,
            measured=found.measured,
            n_new=self.measuring.n_new,
            n_oom=self.measuring.n_oom,
            limit=self.limit,
            usable_bytes=self.usable,
            extra_bytes=self.extra,
            disturbed=self.measuring.disturbed or any(one.disturbed for one in found.measured),
            needed_bytes=smallest + self.extra if needed is None else needed,
            samples_per_second=rate,
            seconds_per_step=self.question.batch / rate if rate else 0.0,
            **values,
        )


def _need(one: Measurement, extra: int) -> str:
    return ("more than " if not one.ok else "") + _gb(one.peak_bytes + extra)


def _gb(count: int) -> str:
    return f"{count / GIGA:.2f} GB"
