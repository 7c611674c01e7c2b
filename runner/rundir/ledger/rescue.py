"""Whole copies of a ledger whose file something else changed: files next to it, and their way back.

A rescue file is the ledger as its driver wrote it and goes on writing it. Readers read it in the ledger's place; the
next driver puts back what the ledger's file lacks.
"""

import re
from pathlib import Path

from runner.rundir.ledger.chain import Chain, common_lines, seq_of, whole_lines
from trainables.errors import LedgerError


def files(ledger: Path) -> list[Path]:
    """Rescue files of a ledger, the oldest first."""
    found = ledger.parent.glob(f"{ledger.stem}.rescued-*{ledger.suffix}")
    numbered = {int(match[1]): path for path in found if (match := re.search(r"-(\d+)$", path.stem))}
    return [numbered[number] for number in sorted(numbered)]


def free_name(ledger: Path, what: str) -> Path:
    """A name next to the ledger that no file has: `ledger.<what>-<n>.jsonl`."""
    number = 1
    while (path := ledger.with_name(f"{ledger.stem}.{what}-{number}{ledger.suffix}")).exists():
        number += 1
    return path


def merged(ledger: Path, data: bytes, rescued: list[Path]) -> bytes:
    """The content that a ledger's file is to have.

    What the file has in place of a rescued record is left out, unless all of it is sound: then another driver has gone
    on with it. Of several rescue files the newest counts: it was begun because the one before it was changed, too.

    Args:
        ledger: the file, for messages.
        data: what is in it.
        rescued: its rescue files.

    Raises:
        LedgerError: the rescue file is damaged, or it and the ledger go on in different ways.
    """
    if not rescued:
        return data
    path = rescued[-1]
    content = b"".join(whole_lines(path.read_bytes()))
    number, wrong = _first_wrong(content)
    fix = f"keep a copy of both, then remove {path.name}, or restore {ledger.name} from a copy"
    if wrong:
        raise LedgerError(f"{path}:{number}: {wrong}\n    fix: {fix}")
    if data.startswith(content):
        return data
    keep = common_lines(data, content)
    if data.endswith(b"\n") and keep < len(data) and not _first_wrong(data)[1]:
        count = data.count(b"\n", 0, keep)
        raise LedgerError(f"{ledger} and {path} go on in different ways after line {count}\n    fix: {fix}")
    return content


def _first_wrong(data: bytes) -> tuple[int, str]:
    """Number of the first line that is out of its place, and what is wrong with it; empty where nothing is."""
    chain, number = Chain(), 0
    for number, line in enumerate(whole_lines(data), 1):
        if wrong := chain.accept(line, seq_of(line)):
            return number, wrong
    return number, ""
