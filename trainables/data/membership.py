"""When assets belong to a universe: a table of asset, from and to, such as the constituents of an index."""

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data import sources
from trainables.data.barfile import names, plain, values
from trainables.data.ohlcv import listed
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec

logger = logging.getLogger(__name__)

_FROM, _TO = ("from", "start", "date from", "added", "in"), ("to", "end", "until", "date to", "removed", "out")


@dataclass(frozen=True, eq=False)
class Members:
    """Spans of days, both ends included; an end that is not given is open.

    Attributes:
        spans: by asset.
        sha256: of the table.
    """

    spans: dict[str, list[tuple[np.datetime64, np.datetime64]]]
    sha256: str

    def on(self, asset: str, dates: pd.DatetimeIndex) -> npt.NDArray[np.bool_]:
        """Whether the asset belongs to the universe on each date; of bars within a day, their trading days."""
        day_T = dates.to_numpy().astype("datetime64[D]")
        member_T = np.zeros(len(dates), dtype=bool)
        for first, last in self.spans.get(asset, []):
            member_T |= (day_T >= first) & (day_T <= last)
        return member_T


def read(source: str, spec: DataSpec, assets: list[str]) -> Members:
    """Read `data.members`; assets that it does not name, and names that are no asset, are told.

    Raises:
        DataError: it lacks a column, a date cannot be understood or can be in two ways, or it names none of the assets.
    """
    raw = sources.read_any(source, spec, whole=True)
    table = raw.frame if isinstance(raw.frame.index, pd.RangeIndex) else raw.frame.reset_index()
    columns = {
        "asset": names.first_of(table.columns, (*names.SYMBOLS, "asset")),
        "from": names.first_of(table.columns, _FROM),
        "to": names.first_of(table.columns, _TO),
    }
    if missing := [name for name, column in columns.items() if column is None]:
        message = f"has no column {missing[0]} (its columns: {', '.join(map(str, table.columns))})"
        raise DataError(Problem(place=source, message=message, fix="give it the columns asset, from, to"))
    asset_of = plain.symbol_texts(table[columns["asset"]]).fillna("")
    ends = {}
    for name, open_end in (("from", "1678-01-01"), ("to", "2261-12-31")):
        text = table[columns[name]]
        try:
            read, _ = values.dates(text, spec.format.dates, None)
        except values.AmbiguousError as error:
            raise DataError(Problem(place=source, message=f"{name}: {error}", fix=error.fix)) from error
        given = ~text.astype("string").fillna("").str.strip().str.lower().isin(("", "nat", *values.MISSING))
        if (wrong := given & read.isna()).any():
            row = int(np.flatnonzero(wrong)[0])
            message = f"{name} cannot be understood: {text.iloc[row]!r}"
            raise DataError(Problem(place=f"{source}, row {row + 1}", message=message, fix="write YYYY-MM-DD"))
        ends[name] = read.fillna(pd.Timestamp(open_end)).to_numpy().astype("datetime64[D]")
    spans: dict[str, list[tuple[np.datetime64, np.datetime64]]] = {}
    for asset, first, last in zip(asset_of, ends["from"], ends["to"], strict=True):
        if asset:
            spans.setdefault(str(asset), []).append((first, last))
    if not set(spans) & set(assets):
        message = f"names none of the assets ({', '.join(assets[:4])} ...); it names {', '.join(list(spans)[:4])} ..."
        raise DataError(Problem(place=source, message=message, fix="use the assets' names: file, partition or symbol"))
    known = set(assets)
    if unknown := [name for name in spans if name not in known]:
        logger.warning("%s: %d of %d names are no asset: %s", source, len(unknown), len(spans), listed(unknown))
    if unlisted := [name for name in assets if name not in spans]:
        message = "%s: %d of %d assets have no row and are never members: %s"
        logger.warning(message, source, len(unlisted), len(assets), listed(unlisted))
    return Members(spans, raw.sha256)
