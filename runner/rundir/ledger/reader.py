"""A ledger file as its records, in order. What is damaged is refused, a torn last line is left out."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import Discriminator, TypeAdapter, ValidationError

from runner.rundir.ledger import rescue
from runner.rundir.ledger.chain import Chain, whole_lines
from runner.rundir.ledger.records import READABLE, AnyRecord
from runner.rundir.ledger.values import MAX_LINE_BYTES
from runner.rundir.ledger.view import LedgerView, fold
from trainables.errors import LedgerError

log = logging.getLogger(__name__)

_TAIL_BYTES = 2**20  # the last record lies within this
_ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Discriminator("kind")])


def records(path: Path) -> Iterator[AnyRecord]:
    """The records of a ledger file, in order, with those that a driver rescued from a change of the file.

    Raises:
        LedgerError: a line is damaged, missing, doubled or out of order, or the schema is another version's.
    """
    chain = Chain()
    for number, line in enumerate(_lines(path), 1):
        yield parse(line, chain, f"{path}:{number}")


def parse(line: bytes, chain: Chain, place: str) -> AnyRecord:
    """One line as its record, which the chain goes on by.

    Raises:
        LedgerError: it is damaged or not the line that comes next.
    """
    try:
        record = _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise LedgerError(_explain(place, line, error, chain.length)) from error
    if wrong := chain.accept(line, record.seq):
        raise LedgerError(f"{place}: {wrong}\n    fix: {_restore(chain.length)}")
    return record


def _lines(path: Path) -> Iterator[bytes]:
    """Complete lines; an unfinished last one is left out, and rescued ones are put in, each with a warning."""
    if rescued := rescue.files(path):
        log.warning("%s: read with the records in %s", path, ", ".join(one.name for one in rescued))
        yield from whole_lines(rescue.merged(path, path.read_bytes() if path.is_file() else b"", rescued))
        return
    with path.open("rb") as handle:
        for line in bounded_lines(handle, path):
            if not line.endswith(b"\n"):
                log.warning("%s: the last line is unfinished (%d bytes) and is left out", path, len(line))
                return
            yield line


def bounded_lines(handle: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of an open ledger file; the last one may be unfinished.

    Raises:
        LedgerError: a line is longer than any record.
    """
    while line := handle.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES:
            raise LedgerError(f"{path}: a line is longer than {MAX_LINE_BYTES:,} bytes\n    fix: {_restore(0)}")
        yield line


def _explain(place: str, line: bytes, error: ValidationError, sound: int) -> str:
    try:
        version = json.loads(line).get("v", READABLE[-1])
    except (ValueError, AttributeError, RecursionError):
        version = READABLE[-1]
    if version not in READABLE:
        known = " and ".join(map(str, READABLE))
        return (
            f"{place}: ledger schema {str(version)[:20]}, this isotherm reads schema {known}\n"
            f"    fix: use the isotherm that wrote it, or start a new run under another name"
        )
    first = error.errors(include_url=False, include_input=False)[0]
    where = "".join(f"{part}: " for part in first["loc"][1:])
    return f"{place}: damaged record ({where}{first['msg']})\n    fix: {_restore(sound)}"


def _restore(sound: int) -> str:
    """What to do about a ledger whose first so many lines are sound."""
    cut = f"; or keep its first {sound} lines alone: what came later is run again" if sound else ""
    return f"restore the file from a copy; the ledger is append-only and must not be edited{cut}"


def read(path: Path) -> LedgerView:
    """Read and fold a ledger file; an absent file is an empty ledger.

    Raises:
        LedgerError: see `records`.
    """
    return fold(records(path)) if path.exists() or rescue.files(path) else LedgerView()


def last_seq(path: Path) -> int:
    """Number of the last complete record of a ledger file; -1 where there is none that can be read."""
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = handle.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["seq"]) if lines else -1
    except (OSError, ValueError, KeyError, TypeError):
        return -1
