"""A table of sizes and losses, and the CSV that it comes from."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from runner.scaling.law import Design, Floats, Ints
from trainables.errors import DataError, Problem

REQUIRED = ("n_params", "loss")
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
        rows: number of each point in its source, for messages.
    """

    n_params: Floats
    loss: Floats
    n_samples: Floats | None = None
    weight: Floats | None = None
    group: npt.NDArray[np.str_] | None = None
    rows: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

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
        group = None if self.group is None else self.group[keep_N]
        return FitTable(
            self.n_params[keep_N], self.loss[keep_N], part(self.n_samples), part(self.weight), group, rows[keep_N]
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


def read_csv(path: Path, *, weight: str | None = None, group: str | None = None) -> FitTable:
    """Read a table with columns ``n_params``, ``loss``, and optionally ``n_samples``, a weight and a group.

    Args:
        path: the file; further columns are ignored.
        weight: column of weights; the default is ``weight``, if there is one.
        group: column of groups; the default is ``group``, if there is one.

    Raises:
        DataError: every problem of the file, with rows.
    """
    return of_frame(_read(path), str(path), weight=weight, group=group)


def of_frame(frame: pd.DataFrame, place: str, *, weight: str | None = None, group: str | None = None) -> FitTable:
    """A table of a data frame; see `read_csv`.

    Args:
        frame: with the columns; further ones are ignored. Rows are counted from 1, whatever the index is.
        place: how messages name it.
        weight: as of `read_csv`.
        group: as of `read_csv`.

    Raises:
        DataError: every problem, with rows.
    """
    wanted = [*REQUIRED, *(name for name in (weight, group) if name)]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise DataError(
            Problem(
                place=place,
                message=f"column {', '.join(repr(name) for name in missing)} is missing; "
                f"there are: {', '.join(map(repr, frame.columns)) or 'none'}",
                fix="name the columns n_params, loss and, where it varies, n_samples",
            )
        )
    if frame.empty:
        raise DataError(Problem(place=place, message="no rows below the heading", fix="one row a trained model"))
    weight = weight or ("weight" if "weight" in frame.columns else None)
    group = group or ("group" if "group" in frame.columns else None)
    numeric = [*REQUIRED, *(["n_samples"] if "n_samples" in frame.columns else []), *([weight] if weight else [])]
    problems: list[Problem] = []
    values = {name: _positive(frame, name, place, problems) for name in numeric}
    if group and frame[group].isna().any():
        row = int(np.flatnonzero(frame[group].isna())[0]) + 1
        problems.append(Problem(place=f"{place}: row {row}", message=f"{group} is empty", fix="name every row's group"))
    if problems:
        raise DataError(problems)
    return FitTable(
        n_params=values["n_params"],
        loss=values["loss"],
        n_samples=values.get("n_samples"),
        weight=values[weight] if weight else None,
        group=frame[group].astype(str).to_numpy(dtype=str) if group else None,
        rows=np.arange(1, len(frame) + 1),
    )


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


def _positive(frame: pd.DataFrame, name: str, place: str, problems: list[Problem]) -> Floats:
    numbers = pd.to_numeric(frame[name], errors="coerce")
    values: Floats = np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
    bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if len(bad):
        first = int(bad[0])
        more = f" (and in {len(bad) - 1} more rows)" if len(bad) > 1 else ""
        problems.append(
            Problem(
                place=f"{place}: row {first + 1}",
                message=f"{name} is {str(frame[name].iloc[first])!r}{more}; a finite number above 0 is needed",
                fix="correct the rows, or leave them out",
            )
        )
    return values
