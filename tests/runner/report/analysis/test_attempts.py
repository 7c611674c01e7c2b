"""Where the time went: parts of attempts, sessions of drivers, idle slots."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.report.analysis.attempts import PARTS, History, history
from runner.report.figures.gantt import gantt_figures, time_table
from runner.rundir.ledger import (
    AnyRecord,
    AttemptStarted,
    CellEnded,
    CellRecorded,
    MetricsRecorded,
    SweepEnded,
    SweepStarted,
)

A, B, OTHER = "a" * 12, "b" * 12, "f" * 12

START = datetime(2026, 1, 5, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def started(seconds: float) -> SweepStarted:
    return SweepStarted(run="r", keys=(A, B), config={}, code_version="", versions={}, time=at(seconds))


def cells() -> Iterator[CellRecorded]:
    for key in (A, B, OTHER):
        yield CellRecorded(key=key, name=f"<{key}>$", labels={}, sizes={}, spec={}, time=at(0))


def attempt(key: str, seconds: float) -> AttemptStarted:
    return AttemptStarted(key=key, attempt=1, execution={}, time=at(seconds))


def metric(key: str, seconds: float) -> MetricsRecorded:
    return MetricsRecorded(key=key, attempt=1, step=1, epoch=0, values={}, time=at(seconds))


def ended(key: str, seconds: float, status: Any = "finished", **result: float) -> CellEnded:
    return CellEnded(key=key, attempt=1, status=status, result=result, time=at(seconds))


def folded(*records: AnyRecord) -> History:
    return history([started(0), *cells(), *records], (A, B))


def seconds(one: Any) -> dict[str, float]:
    return {part: round(value, 6) for part, value in one.seconds.items() if value}


def test_an_attempt_is_split_into_what_was_booked_and_the_rest() -> None:
    books = {"train_seconds": 50.0, "evaluation_seconds": 5.0, "held_seconds": 20.0, "throttled_seconds": 10.0}
    found = folded(attempt(A, 10), metric(A, 14), metric(A, 50), ended(A, 110, **books))
    (one,) = found.attempts
    assert seconds(one) == {
        "start-up": 4, "training": 50, "evaluation": 5, "held": 20, "throttled": 10, "other": 11,
    }  # fmt: skip
    assert (one.name, found.slots, found.idle_seconds) == (f"<{A}>$", 1, 10)


def test_a_resumed_attempt_gets_only_what_it_added() -> None:
    found = folded(
        attempt(A, 0), metric(A, 1), ended(A, 40, "interrupted", train_seconds=30.0),
        started(1000), attempt(A, 1010), metric(A, 1012), ended(A, 1100, train_seconds=100.0, held_seconds=5.0),
    )  # fmt: skip
    assert [seconds(one) for one in found.attempts] == [
        {"start-up": 1, "training": 30, "other": 9},
        {"start-up": 2, "training": 70, "held": 5, "other": 13},
    ]
    assert [one.seconds for one in found.sessions] == [40, 100]
    assert found.idle_seconds == 10  # the pause between the drivers is nobody's


def test_an_attempt_that_was_cut_off_ends_with_its_driver_and_its_steps_are_not_counted_twice() -> None:
    found = folded(
        attempt(A, 0), metric(A, 2), metric(B, 30), started(500),
        attempt(A, 500), metric(A, 501), ended(A, 520, train_seconds=45.0, evaluation_seconds=5.0),
    )  # fmt: skip
    cut, resumed = found.attempts
    assert seconds(cut) == {"start-up": 2, "other": 28}
    assert seconds(resumed) == {"training": 18, "evaluation": 2}


def test_without_a_first_metric_an_attempt_never_got_beyond_its_start() -> None:
    assert seconds(folded(attempt(A, 0), ended(A, 7, "failed")).attempts[0]) == {"start-up": 7}


def test_what_still_runs_lasts_until_the_latest_record_and_strangers_are_left_out() -> None:
    found = folded(attempt(A, 0), attempt(OTHER, 1), attempt(B, 10), metric(B, 60), ended(OTHER, 70))
    assert [(one.key, (one.end - one.start).total_seconds()) for one in found.attempts] == [(A, 70), (B, 60)]
    assert found.slots == 2


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    found = folded(attempt(A, 100), metric(A, 90), ended(A, 50, train_seconds=3.0), SweepEnded(
        exit_code=0, counts={}, time=at(20)
    ))  # fmt: skip
    assert all(value >= 0 for one in found.attempts for value in one.seconds.values())
    assert all(one.seconds >= 0 for one in found.sessions)
    assert len(list(gantt_figures(found))) == 1


@pytest.mark.parametrize("trials", [1, 30, 300])
def test_parts_add_up_and_any_number_of_trials_gives_one_figure(trials: int) -> None:
    keys = [f"{number:012x}" for number in range(trials)]
    records: list[AnyRecord] = [started(0)]
    for number, key in enumerate(keys):
        records.append(CellRecorded(key=key, name=f"trial {number}", labels={}, sizes={}, spec={}, time=at(0)))
        records += [
            attempt(key, 10 * number),
            metric(key, 10 * number + 1),
            ended(key, 10 * number + 25, train_seconds=20.0),
        ]
    found = history(records, keys)
    for one in found.attempts:
        assert set(one.seconds) == set(PARTS)
        assert sum(one.seconds.values()) == pytest.approx(25)
    (plot,) = gantt_figures(found)
    assert plot.png.startswith(b"\x89PNG")
    shares = [float(row[2]) for row in time_table(found).rows]
    assert sum(shares) == pytest.approx(100, abs=0.3)


def test_a_run_that_has_not_begun_has_neither_figure_nor_table() -> None:
    assert list(gantt_figures(folded())) == []
    assert time_table(folded()).rows == ()
