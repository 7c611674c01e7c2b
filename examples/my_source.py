"""A data source of one's own: daily bars made of a table of trades in an SQLite database.

    isotherm plan sweep.yaml --plugin examples/my_source.py \\
      --set 'data.source={name: trades, database: ticks.db, symbol: SPY}'

The table is `trades (symbol, time, price, size)`, with times such as `2020-01-31 15:59:00`.
"""

import sqlite3
from contextlib import closing

import pandas as pd
from pydantic import Field

import isotherm

QUERY = "select date(time) as date, price, size from trades where symbol = ? and size >= ? order by time"


@isotherm.source("trades", version=1)
class Trades:
    """Trades in an SQLite database."""

    class Config(isotherm.PartConfig):  # its keys in the block `data.source`
        database: str = Field(description="file of the database")
        symbol: str = Field(description="whose trades; also the asset's name")
        min_size: float = Field(0.0, ge=0, description="smaller trades are left out")

    def read(self, config: Config) -> pd.DataFrame:
        """One bar a day; what is raised here is reported with the source's name."""
        with closing(sqlite3.connect(f"file:{config.database}?mode=ro", uri=True)) as database:
            trades = pd.read_sql_query(QUERY, database, params=(config.symbol, config.min_size))
        days = trades.groupby("date")
        bars = days["price"].agg(open="first", high="max", low="min", close="last")
        return bars.assign(volume=days["size"].sum()).reset_index()

    def asset(self, config: Config) -> str:
        """The symbol."""
        return config.symbol
