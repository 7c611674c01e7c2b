"""A table of sizes and losses, and the CSV that it comes from."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from runner.scaling.law import Design, Floats, Ints
from trainables.errors import DataError, Problem

# Fewer distinct numbers of samples leave a term with coefficient and exponent undetermined: they become groups instead.
MIN_LEVELS = 3
# Beyond this correlation of the logs the two terms take each other's place at will.
MAX_CORRELATION = 0.995


@dataclass(frozen=True, eq=False)
class FitTable:
    """Points to fit. All arrays have one entry a point; losses, sizes and weights are finite and positive.

    Attributes:
        n_params: the size: parameters, or compute for L(C).
        loss: in any one unit; nats in a sweep.
        n_samples: training samples or tokens, or None.
        weight: weight of each point's term in the objective; variances are taken as inverse to it.
        group: names; each group has an irreducible loss of its own.
        cluster: names; points of one cluster (a run, a curve) are not independent of each other.
        rows: number of each point in its source, for messages.
        notes: what of the source is not among the points, for the fit's notes.
    """

    n_params: Floats
    loss: Floats
    n_samples: Floats | None = None
    weight: Floats | None = None
    group: npt.NDArray[np.str_] | None = None
    rows: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    cluster: npt.NDArray[np.str_] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order in which they appear."""
        return tuple(dict.fromkeys(map(str, self.group))) if self.group is not None else ("",)

    def row(self, index: int) -> int:
        """Number of a point in its source, counted from 1 without the heading."""
        return int(self.rows[index]) if len(self.rows) else index + 1

    def select(self, keep_N: npt.NDArray[np.bool_]) -> "FitTable":
        """Some of the points."""

        def part(values: Floats | None) -> Floats | None:
            return None if values is None else values[keep_N]

        rows = self.rows if len(self.rows) else np.arange(1, len(self) + 1)
        group, cluster = (None if names is None else names[keep_N] for names in (self.group, self.cluster))
        return FitTable(
            self.n_params[keep_N],
            self.loss[keep_N],
            part(self.n_samples),
            part(self.weight),
            group,
            rows[keep_N],
            cluster,
            self.notes,
        )

    def design(self) -> tuple[Design, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """What can be fitted: the design, its variables, its groups' names, and notes on what had to be left out."""
        logs: list[Floats] = []
        variables: list[str] = []
        notes: list[str] = []
        names = self.groups
        group_N = np.array([names.index(str(g)) for g in self.group], int) if self.group is not None else None
        if len(np.unique(self.n_params)) > 1 or self.n_samples is None:
            logs.append(np.log(self.n_params))
            variables.append("n_params")
        if self.n_samples is not None:
            levels = np.unique(self.n_samples)
            if len(levels) >= MIN_LEVELS and not self._collinear():
                logs.append(np.log(self.n_samples))
                variables.append("n_samples")
            elif len(levels) >= MIN_LEVELS:
                notes.append("n_samples moves with n_params: their terms cannot be distinguished; L(N) is fitted")
            elif len(levels) > 1 and group_N is None:
                notes.append(f"{len(levels)} distinct n_samples give no term in D: each has its own E instead")
                group_N = np.searchsorted(levels, self.n_samples)
                names = tuple(f"n_samples {level:g}" for level in levels)
        if group_N is None:
            group_N, names = np.zeros(len(self), dtype=np.int64), ("",)
        if not logs:
            logs, variables = [np.log(self.n_params)], ["n_params"]
        weight_N = np.ones(len(self)) if self.weight is None else self.weight / self.weight.mean()
        return Design(tuple(logs), group_N, weight_N), tuple(variables), names, tuple(notes)

    def _collinear(self) -> bool:
        assert self.n_samples is not None
        if len(np.unique(self.n_params)) < 2:
            return False
        return abs(float(np.corrcoef(np.log(self.n_params), np.log(self.n_samples))[0, 1])) > MAX_CORRELATION


@dataclass(frozen=True)
class Columns:
    """Which columns of a table to read.

    Attributes:
        loss: of losses; None takes ``loss`` or, in a results table of ours, ``val_loss``.
        samples: of training samples or tokens; None takes ``n_samples``, if there is one.
        weight: None takes ``weight``, if there is one.
        group: None takes ``group``, if there is one.
        cluster: None takes ``cluster``, if there is one.
        where: rows to keep: columns with the text of their value; numbers are compared as numbers.
    """

    loss: str | None = None
    samples: str | None = None
    weight: str | None = None
    group: str | None = None
    cluster: str | None = None
    where: tuple[tuple[str, str], ...] = ()


def read_csv(path: Path, columns: Columns | None = None) -> FitTable:
    """Read a table with columns ``n_params``, ``loss``, and optionally ``n_samples``, a weight, a group and a cluster.

    Args:
        path: the file; further columns are ignored. In a `results.csv` of a run only finished models are read, of a
            search only the confirmed ones unless `columns.where` names ``role``.
        columns: other names, and rows to keep.

    Raises:
        DataError: every problem of the file, with rows.
    """
    return of_frame(_read(path), str(path), columns)


def of_frame(frame: pd.DataFrame, place: str, columns: Columns | None = None) -> FitTable:
    """A table of a data frame; see `read_csv`.

    Args:
        frame: with the columns; further ones are ignored. Rows are counted from 1, whatever the index is.
        place: how messages name it.
        columns: other names, and rows to keep.

    Raises:
        DataError: every problem, with rows.
    """
    columns = columns or Columns()
    ours = set(_OF_RESULTS) <= set(frame.columns)
    loss = columns.loss or ("val_loss" if ours and "loss" not in frame.columns else "loss")
    named = (columns.samples, columns.weight, columns.group, columns.cluster, *(name for name, _ in columns.where))
    missing = [name for name in ("n_params", loss, *filter(None, named)) if name not in frame.columns]
    if missing:
        raise DataError(
            Problem(
                place=place,
                message=f"column {', '.join(repr(name) for name in missing)} is missing; "
                f"there are: {', '.join(map(repr, frame.columns)) or 'none'}",
                fix="name the columns n_params, loss and, where it varies, n_samples; or give theirs: --loss NAME",
            )
        )
    rows = np.arange(1, len(frame) + 1)
    keep = np.ones(len(frame), dtype=bool)
    if ours:
        keep &= ((frame["kind"] == "model") & (frame["status"] == "finished")).to_numpy()
    if not keep.any():
        message = "no row is of a finished model" if len(frame) else "no rows below the heading"
        raise DataError(Problem(place=place, message=message, fix="one row a trained model"))
    for name, value in columns.where:
        before, keep = keep, keep & _has(frame[name], value)
        if not keep.any():
            raise DataError(_nothing_left(frame[name][before], name, value, place))
    keep, notes = _confirmed(frame, keep, place) if ours and "role" not in dict(columns.where) else (keep, ())
    frame, rows = frame[keep], rows[keep]

    def present(given: str | None, name: str) -> str | None:
        return given or (name if name in frame.columns else None)

    samples, weight = present(columns.samples, "n_samples"), present(columns.weight, "weight")
    problems: list[Problem] = []
    numeric = ["n_params", loss, *filter(None, (samples, weight))]
    values = {name: _positive(frame[name], name, place, rows, problems) for name in numeric}
    names = {}
    for what in ("group", "cluster"):
        names[what] = present(getattr(columns, what), what)
        if (column := names[what]) and (empty := frame[column].isna().to_numpy()).any():
            where = f"{place}: row {rows[np.flatnonzero(empty)[0]]}"
            problems.append(Problem(place=where, message=f"{column} is empty", fix="fill in every row's"))
    problems += _mixed(frame, place, names["group"]) if ours else []
    if problems:
        raise DataError(problems)
    texts = {what: frame[name].astype(str).to_numpy(dtype=str) if name else None for what, name in names.items()}
    return FitTable(
        n_params=values["n_params"],
        loss=values[loss],
        n_samples=values[samples] if samples else None,
        weight=values[weight] if weight else None,
        group=texts["group"],
        rows=rows,
        cluster=texts["cluster"],
        notes=notes,
    )


# Columns of a run's results.csv by which it is known, and those whose values keep losses from being comparable.
_OF_RESULTS = ("key", "kind", "status", "n_params", "val_loss")
_APART = ("horizon", "model", "tier", "timescale")
_LISTED = 6  # values named where none is the one asked for


def _has(column: "pd.Series[Any]", value: str) -> npt.NDArray[np.bool_]:
    """Which rows have a value: its text, or in a column of numbers its number.

    One empty field, such as a baseline's seed, makes a column of integers one of floats, whose texts end in '.0'.
    """
    same: npt.NDArray[np.bool_] = (column.astype(str) == value).to_numpy(dtype=bool, na_value=False)
    if (numbers := _numbers(column)) is not None:
        with suppress(ValueError):  # of a text, which no number is equal to
            same = same | (numbers == float(value))
    return same


def _numbers(column: "pd.Series[Any]") -> Floats | None:
    column = column.infer_objects()
    if pd.api.types.is_bool_dtype(column.dtype) or not pd.api.types.is_numeric_dtype(column.dtype):
        return None
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))


def _nothing_left(column: "pd.Series[Any]", name: str, value: str, place: str) -> Problem:
    """What to say of a `where` that no row meets, with the values that the rows before it have."""
    numbers = _numbers(column)
    found = [f"{one:.15g}" for one in numbers] if numbers is not None else list(column.dropna().astype(str))
    known = [one for one in dict.fromkeys(found) if one != "nan"]
    listed = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")
    return Problem(
        place=place,
        message=f"no row is left by --where {name}={value}; {name!r} has {listed or 'no values'}",
        fix=f"--where {name}={known[0]}" if known else f"leave --where {name}={value} out",
    )


def _confirmed(
    frame: pd.DataFrame, keep: npt.NDArray[np.bool_], place: str
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Rows without a search's trials, of which many a size had bad values by design, and a note on their number."""
    if "role" not in frame.columns:
        return keep, ()
    searched = keep & _has(frame["role"], "searched")
    if not (count := int(searched.sum())):
        return keep, ()
    if count == keep.sum():
        message = f"all {count} rows are searched trials, and laws are made of confirmed ones"
        fix = "let the search confirm its winners, or take the searched ones: --where role=searched"
        raise DataError(Problem(place=place, message=message, fix=fix))
    note = f"{count} searched trials are left out: laws are made of confirmed ones (--where role=searched takes them)"
    return keep & ~searched, (note,)


def _mixed(frame: pd.DataFrame, place: str, group: str | None) -> list[Problem]:
    """Rows of a results table that answer different questions and would be fitted as one law."""
    axes = [name for name in frame.columns if name in _APART or str(name).startswith("axis:")]
    several = {name: frame[name].dropna().unique() for name in axes if name != group}
    return [
        Problem(
            place=place,
            message=f"rows differ in {name!r} ({', '.join(map(str, found[:4]))}): their losses are not of one law",
            fix=f"--where {name}={found[0]}, or --group {name} (an irreducible loss for each)",
        )
        for name, found in several.items()
        if len(found) > 1
    ]


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, encoding="utf-8-sig", skipinitialspace=True)
    except FileNotFoundError as error:
        raise DataError(Problem(place=str(path), message="no such file", fix="give the path of a CSV")) from error
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        message = f"cannot be read as CSV: {str(error).splitlines()[0]}"
        raise DataError(Problem(place=str(path), message=message, fix="give a comma-separated UTF-8 file")) from error
    if not isinstance(frame.index, pd.RangeIndex):  # what pandas makes of it: the first columns become an index
        message = "rows have more fields than the heading has names"
        raise DataError(Problem(place=str(path), message=message, fix="name every column"))
    return frame.rename(columns=lambda name: str(name).strip())


def _positive(column: "pd.Series[Any]", name: str, place: str, rows: Ints, problems: list[Problem]) -> Floats:
    numbers = pd.to_numeric(column, errors="coerce")
    values: Floats = np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        first = int(bad[0])
        more = f" (and in {len(bad) - 1} more rows)" if len(bad) > 1 else ""
        problems.append(
            Problem(
                place=f"{place}: row {rows[first]}",
                message=f"{name} is {str(column.iloc[first])!r}{more}; a finite number above 0 is needed",
                fix="correct the rows, or leave them out",
            )
        )
    return values
