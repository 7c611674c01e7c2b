"""The cache: limits applied when looked up, damage survived."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from runner.probe.batch_size import Measurement
from runner.probe.cache import Cache, Curve

GB = 10**9
QUESTION: dict[str, Any] = {"model": {"width": 8}, "torch": "2"}


def ok(size: int, peak: int) -> Measurement:
    return Measurement(micro_batch=size, outcome="ok", peak_bytes=peak, samples_per_second=size, seconds_per_step=1.0)


def curve(stopped: str = "memory") -> Curve:
    made = Curve()
    for one in (ok(1, GB), ok(8, 2 * GB), ok(32, 5 * GB)):
        made.add(one)
    made.ended((1, 8, 32, 128), 6 * GB, stopped, 8.0)  # type: ignore[arg-type]
    return made


def test_what_was_stored_is_found_and_only_for_the_same_question(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.load(QUESTION) == Curve()
    cache.store(QUESTION, curve())
    assert Cache(tmp_path).load(QUESTION) == curve()
    assert cache.load({**QUESTION, "torch": "3"}) == Curve()
    assert cache.clear() == 1
    assert cache.load(QUESTION) == Curve()


@pytest.mark.parametrize(
    ("changes", "kept"), [({}, True), ({"disturbed": True}, False), ({"outcome": "timeout"}, False)]
)
def test_what_other_work_may_have_disturbed_holds_for_an_hour(
    changes: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    cache = Cache(tmp_path)
    stored = curve()
    stored.add(dataclasses.replace(ok(8, 2 * GB), **changes))
    cache.store(QUESTION, stored)
    cache.store(QUESTION, cache.load(QUESTION))
    assert cache.load(QUESTION) == stored
    assert cache.load(QUESTION).begun_at == stored.begun_at, "storing again makes nothing younger"
    [path] = (tmp_path / "probe-3").glob("*.json")
    for hours in (2, -2):  # a clock that was set back is no reason to keep it
        document = json.loads(path.read_text())
        document["curve"]["begun_at"] = time.time() - hours * 3600
        path.write_text(json.dumps(document))
        assert cache.load(QUESTION) == (stored if kept else Curve())


def test_limits_are_applied_when_looked_up() -> None:
    sizes = (1, 8, 32, 128)
    found = curve().search(sizes, 6 * GB, 8.0)
    assert found is not None
    assert found.chosen is not None
    assert found.chosen.micro_batch == 32
    tighter = curve().search(sizes, 3 * GB, 8.0)
    assert tighter is not None
    assert tighter.chosen is not None
    assert tighter.chosen.micro_batch == 8
    assert curve().search(sizes, 8 * GB, 8.0) is None, "more memory reopens a search that memory had ended"
    assert curve("plateau").search(sizes, 8 * GB, 8.0) is not None
    assert curve().search(sizes, GB // 2, 8.0) is None, "nothing of it fits: smaller sizes must be looked at"
    assert curve().search((1, 2), 6 * GB, 8.0) is None, "other sizes are another search"


def test_an_answer_that_time_cut_short_ends_with_the_hour_or_with_more_time() -> None:
    sizes = (1, 8, 32, 128)
    made = curve("time")
    assert made.search(sizes, 6 * GB, 8.0) is not None
    assert made.search(sizes, 6 * GB, 60.0) is None, "there is more time now"
    for hours in (2, -2):
        old = dataclasses.replace(made.searches[0], at=time.time() - hours * 3600)
        assert dataclasses.replace(made, searches=[old]).search(sizes, 6 * GB, 8.0) is None
    assert len(made.measured) == 3, "what was measured stays known"


def test_an_out_of_memory_counts_under_the_same_limit_or_less() -> None:
    made = Curve()
    made.add(Measurement(micro_batch=64, outcome="out_of_memory", peak_bytes=3 * GB, limit_bytes=3 * GB))
    assert made.known(64, 2 * GB) is not None
    assert made.known(64, 4 * GB) is None


def test_a_damaged_file_is_measured_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    cache.store(QUESTION, curve())
    [path] = tmp_path.rglob("*.json")
    path.write_text(path.read_text()[:100])
    assert cache.load(QUESTION) == Curve()
    assert "measured anew" in caplog.text


def test_without_a_folder_measurements_are_known_as_long_as_the_cache_lives() -> None:
    cache = Cache(None)
    cache.store(QUESTION, curve())
    assert cache.load(QUESTION) == curve()
    assert cache.load({**QUESTION, "batch": 7}) == Curve()
    assert Cache(None).load(QUESTION) == Curve()
    assert cache.clear() == 0


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    Cache(tmp_path / "file").store(QUESTION, curve())
    assert "cannot be kept" in caplog.text
