"""A data source of one's own: daily bars made of a table of trades in an SQLite database.

    isotherm plan sweep.yaml --plugin examples/my_source.py --set data.source=trades:ticks.db#SPY

The table is `trades (symbol, time, price, size)`, with times such as `2020-01-31 15:59:00`.
"""

import sqlite3
from contextlib import closing

import pandas as pd

import isotherm

QUERY = "select date(time) as date, price, size from trades where symbol = ? order by time"


@isotherm.source("trades", version=1)
class Trades:
    """Trades in an SQLite database: trades:FILE#SYMBOL."""

    def read(self, argument: str) -> pd.DataFrame:
        """One bar a day; what is raised here is reported with the source's name."""
        path, _, symbol = argument.partition("#")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            trades = pd.read_sql_query(QUERY, database, params=(symbol,))
        days = trades.groupby("date")
        bars = days["price"].agg(open="first", high="max", low="min", close="last")
        return bars.assign(volume=days["size"].sum()).reset_index()

    def asset(self, argument: str) -> str:
        """The symbol."""
        return argument.rpartition("#")[2]
