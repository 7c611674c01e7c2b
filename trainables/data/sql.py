"""Rows of a query as bars, from a database that SQLAlchemy or DuckDB reads."""

import re
from typing import Any

import pandas as pd

from trainables.data import sources
from trainables.data.barfile import names
from trainables.data.source_registry import Member, source
from trainables.data.universe import by_symbol
from trainables.errors import DataError, Problem
from trainables.schema import DataSpec

_FORM = "write sql:URL QUERY, such as sql:sqlite:///prices.db select * from bars"
_OWN = "let the driver find them, in PGUSER and PGPASSWORD or ~/.pgpass for instance"
_INSTALL = "pip install 'isotherm[sql]', and the database's driver"


@source("sql")
class Sql:
    """What a query gives: sql:URL QUERY. A column of symbols makes it a universe."""

    def read(self, argument: str) -> pd.DataFrame:
        """The rows. Nothing that the query changes is kept."""
        url, _, query = argument.partition(" ")
        if "://" not in url or not query.strip():
            raise _error(argument, "is no address and query", _FORM)
        return _of_duckdb(url, query) if url.startswith("duckdb:") else _of_sqlalchemy(url, query)

    def asset(self, argument: str) -> str:
        """Where the rows have no symbol."""
        return "sql"

    def members(self, argument: str, spec: DataSpec) -> list[Member]:
        """The rows of each symbol; of the whole query where it gives none."""
        table = sources.read(f"sql:{argument}")
        if names.first_of(table.frame.columns, names.SYMBOLS) is None:
            return [Member(self.asset(argument), f"sql:{argument}", lambda: table)]
        return by_symbol(table, f"sql:{argument}")


def _of_sqlalchemy(url: str, query: str) -> pd.DataFrame:
    try:
        import sqlalchemy
    except ImportError as exc:
        raise _error(url, "needs the package sqlalchemy, which is not installed", _INSTALL) from exc
    try:
        address = sqlalchemy.make_url(url)
        if address.username or address.password or any("pass" in key.lower() for key in address.query):
            shown = sqlalchemy.URL.create(address.drivername, host=address.host, database=address.database)
            raise _error(
                shown.render_as_string(), "the address holds user or password, and it would be written to files", _OWN
            )
        if address.get_backend_name() == "sqlite":  # a file that is not there must not be made
            address = address.set(database=f"file:{address.database}", query={"mode": "ro", "uri": "true"})
        engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.pool.NullPool)
        with engine.connect() as connection:  # without a commit
            return pd.read_sql_query(sqlalchemy.text(query), connection)
    except ImportError as exc:
        raise _error(url, f"needs a driver that is not installed: {exc}", _INSTALL) from exc
    except (sqlalchemy.exc.SQLAlchemyError, pd.errors.DatabaseError) as exc:
        raise _error(url, f"the query fails: {_first_line(exc)}", "correct the address or the query") from exc


def _of_duckdb(url: str, query: str) -> pd.DataFrame:
    try:
        import duckdb
    except ImportError as exc:
        raise _error(url, "needs the package duckdb, which is not installed", _INSTALL) from exc
    path = url.removeprefix("duckdb://").removeprefix("/")
    try:
        statements = duckdb.extract_statements(query)
        if [one.type for one in statements] != [duckdb.StatementType.SELECT]:
            raise _error(url, "the query is not one SELECT", _FORM)
        with duckdb.connect(path or ":memory:", read_only=bool(path)) as connection:
            rows: pd.DataFrame = connection.execute(query).df()
            return rows
    except duckdb.Error as exc:
        raise _error(url, f"the query fails: {_first_line(exc)}", "correct the address or the query") from exc


def _first_line(error: Any) -> str:
    return str(error).splitlines()[0]


def _error(place: str, message: str, fix: str) -> DataError:
    return DataError(Problem(place="sql:" + re.sub("//[^/@]*@", "//", place), message=message, fix=fix))
