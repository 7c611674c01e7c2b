"""Work on assets by several processes, as many as memory allows."""

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

SMALL = 64  # items that are done sooner than processes are started
_work: Callable[[int], Any] | None = None


def mapped(work: Callable[[Item], Result], items: Sequence[Item], item_bytes: int, limit: int) -> list[Result]:
    """The results of some work on each item, in order; each item is worked on by one process.

    Processes are forked: they have the parent's data as it is, and registered parts with it. What they log is logged
    here, in the order of the items.

    Args:
        work: on one item; what it returns, and raises, must be picklable.
        items: all of them, of any kind.
        item_bytes: that the work on one takes, about.
        limit: bytes that all processes may take together.
    """
    count = min(len(os.sched_getaffinity(0)), len(items), limit // max(1, item_bytes))
    if count < 2 or len(items) < SMALL:
        return [work(item) for item in items]
    global _work
    _work = lambda place: work(items[place])  # noqa: E731
    results = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads; the work uses none of them
            with get_context("fork").Pool(count) as pool:
                for result, records in pool.imap(_call, range(len(items)), max(1, len(items) // (8 * count))):
                    results.append(result)
                    for record in records:
                        logging.getLogger(record.name).handle(record)
        return results
    finally:
        _work = None


def _call(place: int) -> tuple[Any, list[logging.LogRecord]]:
    assert _work is not None
    records: list[logging.LogRecord] = []
    logging.getLogger().handlers = [_Kept(records)]
    return _work(place), records


class _Kept(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        """What an argument is may not be picklable; its words are."""
        record.msg, record.args, record.exc_info = self.format(record), None, None
        self._records.append(record)
