"""Records that are not in a ledger's file because something else changed it: files next to it, and their way back.

A rescue file holds lines of the ledger, from the first one that its file lacks. Readers read them as a part of the
ledger; the next driver puts them back into it.
"""

import re
from dataclasses import replace
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
    """The content of a ledger's file with its rescued records in their places.

    What the file has in place of a rescued record is left out, unless it is another driver's valid record.

    Args:
        ledger: the file, for messages.
        data: what is in it.
        rescued: its rescue files.

    Raises:
        LedgerError: records are missing between the two, a rescue file is damaged, or both go on in different ways.
    """
    for path in rescued:
        data = _with(ledger, data, path)
    return data


def _with(ledger: Path, data: bytes, path: Path) -> bytes:
    lines = list(whole_lines(path.read_bytes()))
    if not lines:
        return data
    places, whole = _places(data)
    first = seq_of(lines[0])
    if not 0 <= first < len(places):
        raise LedgerError(
            f"{path}:1: record {len(places) - 1} was expected and record {first} was found: "
            f"{ledger} lacks what is between them\n    fix: restore {ledger.name} from a copy"
        )
    start, chain = places[first]
    chain = replace(chain)
    for number, line in enumerate(lines, 1):
        if wrong := chain.accept(line, seq_of(line)):
            raise LedgerError(f"{path}:{number}: {wrong}\n    fix: {_keep_one(ledger, path)}")
    rest, here = b"".join(lines), data[start:]
    if here.startswith(rest):
        return data
    if whole and not rest.startswith(here):
        raise LedgerError(
            f"{ledger} and {path} go on in different ways after record {first + _count(here, rest)}\n"
            f"    fix: {_keep_one(ledger, path)}"
        )
    return data[:start] + rest


def _places(data: bytes) -> tuple[list[tuple[int, Chain]], bool]:
    """Where each record begins and the chain before it, as far as the lines are in order; whether all of them are."""
    chain, position = Chain(), 0
    places = [(0, replace(chain))]
    for line in whole_lines(data):
        if chain.accept(line, seq_of(line)):
            return places, False
        position += len(line)
        places.append((position, replace(chain)))
    return places, position == len(data)


def _count(one: bytes, other: bytes) -> int:
    return one.count(b"\n", 0, common_lines(one, other)) - 1


def _keep_one(ledger: Path, path: Path) -> str:
    return f"keep a copy of both, then remove {path.name}, or restore {ledger.name} from a copy that fits it"
