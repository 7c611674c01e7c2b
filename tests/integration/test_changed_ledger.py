"""Real sweeps with a ledger that something else changes: exit code 3, and the next sweep has every record."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import LONGER, Workplace, same, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def edited(path: Path) -> None:
    """As editors save: a new file, renamed over the old one; here with a changed line."""
    aside = path.with_suffix(".swp")
    aside.write_bytes(path.read_bytes().replace(b'"attempt":1', b'"attempt":7', 1))
    aside.replace(path)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (Path.unlink, "was removed by something else"),
    "renamed over": (edited, "was replaced by another file by something else"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size // 2), "was cut from"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_ledger_stops_the_sweep_and_loses_nothing(
    workplace: Workplace, calm: pd.DataFrame, name: str
) -> None:
    change, words = CHANGES[name]
    path = workplace.folder / "runs" / "small" / "ledger.jsonl"
    process = workplace.start("sweep", "sweep.yaml", *LONGER)
    wait_for(workplace.has_checkpoint)
    before = workplace.ledger()
    change(path)
    assert process.wait(timeout=180) == 3, workplace.log()
    said = " ".join(workplace.log().split())
    assert "stopped by a change of the ledger from outside" in said
    assert words in said
    assert "runs/small/ledger.rescued-1.jsonl" in said
    assert b"\0" not in (path.read_bytes() if path.exists() else b"")
    assert "ledger.rescued-1.jsonl" in workplace.run("status", "small").stderr
    workplace.run("sweep", "sweep.yaml", *LONGER)
    records = workplace.ledger()
    assert records[: len(before)] == before
    assert [record["seq"] for record in records] == list(range(len(records)))
    assert [record["what"] for record in records if record["kind"] == "event"].count("rescued") == 1
    same(calm, workplace.results())


def test_a_second_driver_is_refused_where_the_lock_file_was_removed(workplace: Workplace) -> None:
    process = workplace.start("sweep", "sweep.yaml", *LONGER)
    wait_for(workplace.has_checkpoint)
    (workplace.folder / "runs" / "small" / ".lock").unlink()
    refused = workplace.run("sweep", "sweep.yaml", *LONGER, expect=2)
    assert f"another sweep writes here: process {process.pid}" in refused.stderr
    assert process.wait(timeout=240) == 0, workplace.log()
    records = workplace.ledger()
    assert [record["seq"] for record in records] == list(range(len(records)))
