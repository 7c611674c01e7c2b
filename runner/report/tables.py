"""A table of a report, as text, for every format that it is written in."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """A table column; numbers are aligned to the right, code is shown as it is, a key leads to its specification."""

    name: str
    kind: Literal["text", "number", "code", "key"] = "text"


@dataclass(frozen=True)
class ReportTable:
    """Cells as text, one tuple a row."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
