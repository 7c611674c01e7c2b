"""Copies of a trial measured at once: they begin at a common barrier, and what did not overlap is measured again.

The throughput of all is taken over the time from the first copy's first step to the last copy's last. So a copy that
runs while others rest cannot flatter it.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from runner.probe.batch_size import Measurement
from runner.probe.child import ProbeError, Worker
from runner.probe.messages import Request

OVERLAP = 0.5  # of the time from the first start to the last end; after the barrier, ends differ by about one step
TRIES = 3

log = logging.getLogger(__name__)


def run_together(
    workers: Sequence[Worker], request: Request, *, timeout_s: float, limit_bytes: int | None
) -> Measurement | None:
    """Measure copies of a size, one per worker: the mean of all, or the first that failed.

    Args:
        workers: one for each copy.
        request: what each of them runs.
        timeout_s: of the first step, and of the measurement.
        limit_bytes: what each may take of the host's memory; None where that is not what bounds it.

    Returns:
        None where copies cannot be compared: they did not overlap, were killed without a lack of memory, or could not
        share the device. That is logged, and nothing to remember.
    """
    for _ in range(TRIES):
        try:
            answers = _at_once(workers, request, timeout_s, limit_bytes)
        except ProbeError as error:  # a device in exclusive mode takes one process only
            for worker in workers:
                worker.stop(kill=True)
            log.warning("%d trials at once cannot be measured: %s", len(workers), error)
            return None
        failed = [one for one in answers if not one.ok]
        if not failed and overlap(answers) >= OVERLAP:
            return _mean(answers)
        if failed and failed[0].outcome != "killed":
            return failed[0]
    log.warning("%d trials at once did not run at the same time in %d attempts", len(workers), TRIES)
    return None


def overlap(answers: Sequence[Measurement]) -> float:
    """Time that all copies ran, as a share of the time that any of them did."""
    return max(0.0, min(one.span[1] for one in answers) - max(one.span[0] for one in answers)) / _whole(answers)


def _at_once(
    workers: Sequence[Worker], request: Request, timeout_s: float, limit_bytes: int | None
) -> list[Measurement]:
    for worker in workers:
        worker.begin(request, timeout_s=timeout_s, limit_bytes=limit_bytes)
    states = [worker.ready() for worker in workers]
    waiting = [worker for worker, failed in zip(workers, states, strict=True) if failed is None]
    for worker in waiting:
        worker.go()
    # Those that are ready are measured even where another failed, which leaves them ready for the next size.
    measured = iter([worker.measure() for worker in waiting])
    return [next(measured) if failed is None else failed for failed in states]


def _mean(answers: Sequence[Measurement]) -> Measurement:
    shares = [(one.span[1] - one.span[0]) / _whole(answers) for one in answers]
    windows = sum(one.samples_per_second * share for one, share in zip(answers, shares, strict=True))
    rate = windows / len(answers)
    one = answers[0]
    return replace(
        one,
        samples_per_second=rate,
        seconds_per_step=one.seconds_per_step * one.samples_per_second / rate,
        seconds=max(one.seconds for one in answers),
        others_cores=max(one.others_cores for one in answers),
    )


def _whole(answers: Sequence[Measurement]) -> float:
    return max(max(one.span[1] for one in answers) - min(one.span[0] for one in answers), 1e-9)
