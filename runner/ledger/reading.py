"""A ledger file as its records, in order. What is damaged is refused, a torn last line is left out."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Discriminator, TypeAdapter, ValidationError

from runner.ledger.kinds import SCHEMA_VERSION, AnyRecord
from runner.ledger.values import MAX_LINE_BYTES
from runner.ledger.view import LedgerView, fold
from trainables.errors import LedgerError

log = logging.getLogger(__name__)

_TAIL_BYTES = 2**20  # the last record lies within this
_ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Discriminator("kind")])
_RESTORE = "restore the file from a copy; the ledger is append-only and must not be edited"


def whole_lines(path: Path) -> Iterator[bytes]:
    """Complete lines; an unfinished last one is left out, with a warning."""
    with path.open("rb") as handle:
        while line := handle.readline(MAX_LINE_BYTES):
            if len(line) == MAX_LINE_BYTES:
                raise LedgerError(f"{path}: a line is longer than {MAX_LINE_BYTES:,} bytes\n    mend: {_RESTORE}")
            if not line.endswith(b"\n"):
                log.warning("%s: the last line is unfinished (%d bytes) and is left out", path, len(line))
                return
            yield line


def records(path: Path) -> Iterator[AnyRecord]:
    """The records of a ledger file, in order.

    Raises:
        LedgerError: a line is damaged or endless, or the schema is another version's.
    """
    for number, line in enumerate(whole_lines(path), 1):
        try:
            yield _ADAPTER.validate_json(line)
        except ValidationError as error:
            raise LedgerError(_explain(path, number, line, error)) from error


def _explain(path: Path, number: int, line: bytes, error: ValidationError) -> str:
    try:
        version = json.loads(line).get("v")
    except (ValueError, AttributeError, RecursionError):
        version = SCHEMA_VERSION
    if version != SCHEMA_VERSION:
        return (
            f"{path}:{number}: ledger schema {str(version)[:20]}, this isotherm reads schema {SCHEMA_VERSION}\n"
            f"    mend: use the isotherm that wrote it, or start a new run under another name"
        )
    first = error.errors(include_url=False, include_input=False)[0]
    where = "".join(f"{part}: " for part in first["loc"][1:])
    return f"{path}:{number}: damaged record ({where}{first['msg']})\n    mend: {_RESTORE}"


def read(path: Path) -> LedgerView:
    """Read and fold a ledger file; an absent file is an empty ledger.

    Raises:
        LedgerError: a damaged record or another schema version.
    """
    return fold(records(path)) if path.exists() else LedgerView()


def last_seq(path: Path) -> int:
    """Number of the last complete record of a ledger file; -1 where there is none that can be read."""
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = handle.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["seq"]) if lines else -1
    except (OSError, ValueError, KeyError, TypeError):
        return -1
