"""Delivery by itself: what fails is tried again, apart from the rest, and said once."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from runner.rundir.ledger import AnyRecord, EventRecorded, LedgerView
from runner.tracking import delivery as delivering
from runner.tracking.delivery import Delivery
from runner.tracking.tracker import RESTART_CODE, RefusedError, Status, UnusableError, key_of
from trainables.errors import Problem

A, B, C, D = "a" * 12, "b" * 12, "c" * 12, "d" * 12
SECRET = "s3cr3t-t0k3n"


class Notebook:
    """A tracker that writes down what arrives, and fails when told to."""

    name = "notebook"

    def __init__(self) -> None:
        self.arrived: list[AnyRecord] = []
        self.calls = 0
        self.fails: Callable[[str | None], Exception | None] = lambda key: None
        self.closed: bool | None = None

    def consume(self, records: Sequence[AnyRecord], view: LedgerView) -> None:
        self.calls += 1
        assert len({key_of(record) for record in records}) == 1
        if (error := self.fails(key_of(records[0]))) is not None:
            raise error
        self.arrived += records

    def close(self, complete: bool) -> Mapping[str, Exception]:
        self.closed = complete
        return {}

    def explain(self, error: Exception) -> Problem:
        return Problem(place="notebook", message=str(error), fix="turn the page")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A delivery to a notebook, with a clock that stands still."""

    def __init__(self, story: Any, *, real_time: bool = False) -> None:
        self.notebook, self.clock, self.statuses = Notebook(), Clock(), list[Status]()
        clock = time.monotonic if real_time else self.clock
        self.delivery = Delivery(self.notebook, story.paths.ledger, self.statuses.append, (SECRET,), clock)

    @property
    def errors(self) -> list[str]:
        return [error for status in self.statuses for error in status.errors]

    def arrived(self) -> set[int]:
        return {record.seq for record in self.notebook.arrived}


@pytest.fixture
def desk(story: Any) -> Desk:
    story.sweep(A, B, C, D)
    for key in (A, B, C, D):
        story.cell(key)
    return Desk(story)


def test_everything_arrives_once_in_order_within_a_key(desk: Desk, story: Any) -> None:
    for step in range(50):
        story.metrics(A, step)
        story.metrics(B, step)
        if step % 7 == 0:
            assert desk.delivery.turn()
    assert desk.delivery.turn()
    assert len(desk.notebook.arrived) == len(desk.arrived()) == 105
    steps = [record.step for record in desk.notebook.arrived if key_of(record) == A and record.kind == "metrics"]
    assert steps == list(range(50))
    assert (desk.statuses[-1].delivered, desk.statuses[-1].known) == (105, 105)


def test_records_that_piled_up_go_in_one_call(desk: Desk, story: Any) -> None:
    for step in range(200):
        story.metrics(A, step)
    desk.delivery.turn()
    assert desk.notebook.calls == 5  # the sweep and four keys


def test_an_unfinished_last_line_waits(desk: Desk, story: Any) -> None:
    story.tell(EventRecorded(what="test", message="the sixth"))
    whole = story.paths.ledger.read_bytes()
    story.paths.ledger.write_bytes(whole[:-30])
    desk.delivery.turn()
    assert desk.statuses[-1].known == 5
    story.paths.ledger.write_bytes(whole)
    desk.delivery.turn()
    assert desk.statuses[-1].known == 6
    assert not desk.errors


def test_a_ledger_that_does_not_exist_yet_is_empty(story: Any) -> None:
    story.paths.ledger.unlink()
    desk = Desk(story)
    assert desk.delivery.turn()
    assert not desk.errors


def test_a_key_that_fails_holds_up_nobody_else(desk: Desk, story: Any) -> None:
    desk.notebook.fails = lambda key: ValueError("a bad name") if key == B else None
    for step in range(5):
        for key in (A, B, C, D):
            story.metrics(key, step)
        desk.clock.now += 0.1
        desk.delivery.turn()
    assert {key_of(record) for record in desk.notebook.arrived} == {None, A, C, D}
    assert len(desk.arrived()) == 1 + 3 * 6
    desk.notebook.fails = lambda key: None
    desk.clock.now += delivering.BACKOFF_MAX_S
    assert desk.delivery.turn()
    assert len(desk.arrived()) == 25


def test_back_off_grows_and_is_limited(desk: Desk, story: Any) -> None:
    desk.notebook.fails = lambda key: ConnectionError("nobody there")
    for _ in range(3600):
        desk.clock.now += 1.0
        desk.delivery.turn()
    assert desk.notebook.calls < 5 * 3600 / delivering.BACKOFF_MAX_S + 60
    desk.notebook.fails = lambda key: None
    desk.clock.now += delivering.BACKOFF_MAX_S
    desk.delivery.turn()
    desk.delivery.turn()
    assert len(desk.arrived()) == 5
    assert "it is reachable again" in [note for status in desk.statuses for note in status.notes]


def test_an_error_is_said_once_with_its_mend(desk: Desk) -> None:
    desk.notebook.fails = lambda key: ConnectionError(f"no answer from <socket at 0x7f{desk.notebook.calls:06x}>")
    for _ in range(20):
        desk.clock.now += delivering.BACKOFF_MAX_S
        desk.delivery.turn()
    assert desk.errors == ["notebook: no answer from <socket at >\n    fix: turn the page"]


def test_secrets_are_taken_out_of_messages(desk: Desk) -> None:
    desk.notebook.fails = lambda key: ValueError(f"401 for Bearer {SECRET}")
    desk.delivery.turn()
    assert desk.errors == ["notebook: 401 for Bearer ***\n    fix: turn the page"]


def test_what_is_refused_is_said_once_and_not_tried_again(desk: Desk, story: Any) -> None:
    def refuse(key: str | None) -> Exception | None:
        error = RefusedError()
        error.__cause__ = PermissionError("401")
        return error if key in (A, B) else None

    desk.notebook.fails = refuse
    for step in range(10):
        story.metrics(A, step)
        desk.clock.now += delivering.BACKOFF_MAX_S
        assert desk.delivery.turn(), "nothing is left to try"
    assert desk.notebook.calls == 5
    assert desk.errors == ["notebook: 401\n    fix: turn the page"]
    assert (desk.statuses[-1].delivered, desk.statuses[-1].known) == (3, 15)


def test_closing_waits_a_while_for_a_tracker_that_is_down(story: Any, countdown: Any) -> None:
    story.sweep(A)
    desk = Desk(story, real_time=True)
    desk.notebook.fails = lambda key: ConnectionError("nobody there")
    left_s = countdown(4.0)
    desk.delivery.close(left_s)
    assert 1.5 < left_s() < 3.1, "a quarter of it, in which it was tried again"
    assert desk.notebook.calls > 1
    assert desk.notebook.closed is False
    assert desk.statuses[-1].done
    assert desk.statuses[-1].delivered == 0


def test_closing_waits_no_longer_than_needed(story: Any, countdown: Any) -> None:
    failures = iter([ConnectionError("one"), ConnectionError("two")])
    story.sweep(A)
    for key in (A, B, C, D):
        story.cell(key)
    story.sweep_end()
    desk = Desk(story, real_time=True)
    desk.notebook.fails = lambda key: next(failures, None)
    left_s = countdown(60.0)
    desk.delivery.close(left_s)
    assert left_s() > 30, "not all of it"
    assert desk.statuses[-1].delivered == 6
    assert desk.notebook.closed is True


def test_an_unusable_library_ends_the_process_for_a_new_one(desk: Desk) -> None:
    def fail(key: str | None) -> Exception:
        error = UnusableError()
        error.__cause__ = ConnectionResetError("the service died")
        return error

    desk.notebook.fails = fail
    with pytest.raises(SystemExit) as ended:
        desk.delivery.turn()
    assert ended.value.code == RESTART_CODE
    assert desk.errors == ["notebook: the service died\n    fix: turn the page"]


def test_a_line_without_an_end_is_said_and_not_read_into_memory(desk: Desk, story: Any) -> None:
    with story.paths.ledger.open("ab") as handle:
        handle.truncate(handle.tell() + 3 * 2**30)  # a hole: no disk is used
    desk.delivery.turn()
    assert len(desk.errors) == 1
    assert "a line is longer than" in desk.errors[0]


def test_a_damaged_ledger_is_said(desk: Desk, story: Any) -> None:
    with story.paths.ledger.open("ab") as handle:
        handle.write(b'{"kind": "nonsense"}\n')
    desk.delivery.turn()
    desk.delivery.turn()
    assert len(desk.errors) == 1
    assert "damaged record" in desk.errors[0]
    assert len(desk.arrived()) == 5
