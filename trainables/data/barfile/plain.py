"""Files that pandas reads by itself, which most are, and symbols as they are written."""

from collections.abc import Mapping
from io import BytesIO

import pandas as pd

from trainables.data.barfile import names
from trainables.data.columns import NUMBERS

_WHOLE = r"0|[1-9]\d{0,17}"  # a number that is written in one way only
_MISSING = [  # pandas' own
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
]  # fmt: skip


def table_of(data: bytes, mapping: Mapping[str, str]) -> pd.DataFrame | None:
    """The table of a CSV file, where pandas finds all bars in it; None where it does not.

    Args:
        data: the file's content.
        mapping: names of columns, by ours.
    """
    try:
        table = _read(data)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError):
        return None
    theirs = {str(name).strip().lower(): name for name in table.columns}
    numbers = [theirs.get(mapping.get(name, name).strip().lower()) for name in NUMBERS]
    understood = (
        isinstance(table.index, pd.RangeIndex)
        and len(table.columns) > len(NUMBERS)
        and all(name is not None and pd.api.types.is_numeric_dtype(table[name]) for name in numbers)
    )
    return table if understood else None


def _read(data: bytes) -> pd.DataFrame:
    """A table as pandas reads it, but for symbols: 'NA' is a ticker, and '000001' is not 1."""
    columns = pd.read_csv(BytesIO(data), nrows=0).columns
    symbols = [name for name in columns if names.normalised(name) in (*names.SYMBOLS, "asset")]
    if not symbols:
        return pd.read_csv(BytesIO(data), low_memory=False)
    table = pd.read_csv(
        BytesIO(data),
        low_memory=False,
        dtype=dict.fromkeys(symbols, str),
        keep_default_na=False,  # it holds for all columns or none
        na_values={name: [""] if name in symbols else _MISSING for name in columns},
    )
    for name in symbols:
        held = symbol_texts(pd.Series(table[name].unique()))
        if len(held) and held.str.fullmatch(_WHOLE).fillna(False).all():
            table[name] = symbol_texts(table[name]).astype("int64")  # nothing of how it is written is lost
    return table


def symbol_texts(column: pd.Series) -> pd.Series:
    """Symbols as text; those that are whole numbers with gaps between them, which pandas holds as 858.0, as '858'."""
    if pd.api.types.is_float_dtype(column) and (column.isna() | (column % 1 == 0)).all():
        column = column.astype("Int64")
    return column.astype("string").str.strip()
