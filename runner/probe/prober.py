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
from trainables.schema import ExecutionRecord

GIGA = 1e9
IDLE_BYTES = 450_000_000  # of a worker that has imported PyTorch and measured nothing (benchmarks/probe_peers.py)
Together = Callable[[int, int], float | None]  # windows a second of all copies, called with threads and copies
# Changes of the record, trials at once, windows a second of all of them, and the same by number of trials on one GPU.
_Packing = tuple[dict[str, Any], int, float, dict[int, float]]


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
            if question.record.device == "cuda":
                self._stop()

    def _stop(self) -> None:
        for worker in self._workers:
            worker.stop(kill=True)

    def _pool(self, copies: int) -> list[Worker]:
        """So many workers; those that are new start at the same time."""
        new = [self._make_worker() for _ in range(copies - len(self._workers))]
        for worker in new:
            worker.spawn()
        for worker in new:
            worker.start()  # waits, as the start of one would slow what another measures
        self._workers += new
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
        options, on_cpu = self.options, self.question.record.device == "cpu"
        self.limit = host_limit() if on_cpu else device_limit()
        if options.memory_limit is not None and options.memory_limit < self.limit.bytes:
            self.limit = Limit(options.memory_limit, "the limit asked for")
        self.usable = int(self.limit.bytes * (1 - options.margin)) - (options.reserve_bytes if on_cpu else 0)
        self.extra = options.extra_bytes if on_cpu else 0
        self.measuring = Measuring(
            self.question, options, self.limit, self.cache, self.pool, self.say, self._at_once() if on_cpu else 1
        )

    def _at_once(self) -> int:
        """Processes that measuring will need together: copies of the trial on all cores, where so many fit."""
        one = IDLE_BYTES + self.question.static_bytes(self.question.record)
        return max(1, min(self.options.cores // self.question.record.cores, packing.copies_that_fit(one, self.usable)))

    def decide(self) -> ProbeResult:
        layouts = self.question.layouts()
        tried: list[tuple[ExecutionRecord, Search]] = []
        for record in layouts:
            if self.question.static_bytes(record) <= self._usable(record):
                found = self._search(record)
                if found.chosen is not None:
                    return self._packed(found, found.chosen, record)
                tried.append((record, found))
        return self._refusal(tried) if tried else self._refused_unmeasured(layouts)

    def _usable(self, record: ExecutionRecord) -> int:
        """What one process of a trial may take."""
        return self.usable // (record.devices if record.device == "cpu" else 1)

    # ---- micro-batch ---------------------------------------------------------------------------------------------

    def _search(self, record: ExecutionRecord) -> Search:
        identity = self.question.identity(record)
        curve = self.cache.load(identity)
        candidates = self._candidates(record)
        usable, measuring, spent = self._usable(record) - self.extra, self.measuring, 0.0
        if (found := curve.search(candidates, usable, measuring.budget_s(curve.measured))) is not None:
            return found

        def measure(size: int) -> Measurement:
            nonlocal spent
            if (old := curve.known(size, self.limit.bytes)) is not None:
                return old
            new = measuring.alone(record.with_micro_batch(size, self.question.batch))
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
            static_bytes=self.question.static_bytes(record),
            affordable=affordable,
        )
        curve.ended(candidates, usable, found.stopped, measuring.budget_s(curve.measured))
        self.cache.store(identity, curve)
        return found

    def _candidates(self, record: ExecutionRecord) -> tuple[int, ...]:
        question, options, batch = self.question, self.options, self.question.batch // record.devices
        if question.whole_batch:
            return (batch,)
        if "micro_batch" in question.pinned:
            return (min(record.micro_batch, batch),)
        return batch_size.sizes(minimum=options.minimum, maximum=options.maximum, batch=batch)

    # ---- packing -------------------------------------------------------------------------------------------------

    def _packed(self, found: Search, chosen: Measurement, record: ExecutionRecord) -> ProbeResult:
        record = record.with_micro_batch(chosen.micro_batch, self.question.batch)
        if record.devices > 1:  # such a trial has its devices for itself
            record = record.model_copy(update={"reserved_cores": record.threads * record.devices})
            return self._decision(found, execution=record, samples_per_second=chosen.samples_per_second)
        fit = max(1, packing.copies_that_fit(chosen.peak_bytes + self.extra, self.usable))

        def together(threads: int, copies: int) -> float | None:
            return self.measuring.together(record.model_copy(update={"threads": threads}), copies, chosen)

        pack = self._on_gpu if record.device == "cuda" else self._on_cpu
        changes, copies, total, totals = pack(record, chosen.samples_per_second, fit, together)
        return self._decision(
            found,
            execution=record.model_copy(update=changes),
            copies=copies,
            samples_per_second=total / copies,
            totals=tuple(totals.items()),
        )

    def _on_cpu(self, record: ExecutionRecord, single: float, fit: int, together: Together) -> _Packing:
        cores, pinned = self.options.cores, record.threads

        def total(threads: int, copies: int) -> float | None:
            return together(threads, copies) if threads != pinned else _total(single, pinned, copies, together)

        if "threads" not in self.question.pinned:
            best = packing.threads_on_cpu(total, cores, fit)
        else:
            copies = max(1, min(cores // pinned, fit))
            best = packing.Threads(pinned, copies, _total(single, pinned, copies, together))
        reserved = packing.reserved_cores(best.threads, cores, fit)
        return {"threads": best.threads, "reserved_cores": reserved}, best.copies, best.samples_per_second, {}

    def _on_gpu(self, record: ExecutionRecord, single: float, fit: int, together: Together) -> _Packing:
        share, threads = record.gpu_share, record.threads
        changes: dict[str, Any] = {"reserved_cores": threads}
        if "gpu_share" in self.question.pinned:
            copies = max(1, int(1 / share))
            return changes, copies, _total(single, threads, copies, together), {}
        # No more copies than there are trials to run, or cores to feed them; and only what was measured is packed.
        most = min(fit, self.question.n_trials or fit, max(1, self.options.cores // threads))
        rates = {1: single} | packing.gains_on_gpu(lambda copies: together(threads, copies), single, most)
        copies, total = max(rates.items())
        return {**changes, "gpu_share": 1.0 / copies}, copies, total, rates

    # ---- answers -------------------------------------------------------------------------------------------------

    def _refusal(self, tried: list[tuple[ExecutionRecord, Search]]) -> ProbeResult:
        """After measurements; the last layout is the one that takes least."""
        smallest = [(record, found.measured[0]) for record, found in tried]
        _, last = smallest[-1]
        if last.outcome == "timeout":
            reason = f"measuring micro-batch {last.micro_batch} took longer than {self.options.timeout_s:g} s"
        else:
            needs = [f"{record.layout} {_need(one, self.extra)}".strip() for record, one in smallest]
            reason = f"micro-batch {last.micro_batch} needs {', '.join(needs)}; {self._there_is()}"
            if self.question.whole_batch:
                reason += "; the loss compares the windows of a batch, which cannot be taken in smaller pieces"
        search = Search(tuple(one for _, found in tried for one in found.measured), "infeasible", None)
        needed = min(one.peak_bytes for _, one in smallest) + self.extra
        return self._decision(search, reason=reason, needed=needed)

    def _refused_unmeasured(self, layouts: list[ExecutionRecord]) -> ProbeResult:
        nothing, question = Search((), "infeasible", None), self.question
        if not layouts:
            return self._decision(nothing, reason=question.cannot_split(question.record.devices), needed=0)
        alone, last = question.static_bytes(layouts[0]), question.static_bytes(layouts[-1])
        more = f", {layouts[-1].layout} {_gb(last)} each" if last < alone else ""
        reason = f"parameters, gradients and optimizer state alone need {_gb(alone)}{more}; {self._there_is()}"
        return self._decision(nothing, reason=reason, needed=last)

    def _there_is(self) -> str:
        return f"there are {_gb(max(0, self.usable))} (of {_gb(self.limit.bytes)}, {self.limit.what})"

    def _decision(
        self, found: Search, *, needed: int | None = None, execution: ExecutionRecord | None = None, **values: Any
    ) -> ProbeResult:
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
            execution=execution or self.question.record,
            **values,
        )


def _total(single: float, threads: int, copies: int, together: Together) -> float:
    """Windows a second of copies that will run at once, whatever they gain."""
    measured = single if copies == 1 else together(threads, copies)
    if measured is None:  # no time to measure it: they are taken not to disturb each other
        return copies * single
    return measured or single  # where they cannot run at once, one runs after the other


def _need(one: Measurement, extra: int) -> str:
    return ("more than " if not one.ok else "") + _gb(one.peak_bytes + extra)


def _gb(count: int) -> str:
    return f"{count / GIGA:.2f} GB"
