"""Losses by fold and by volatility: where in time and in which market the sizes and baselines do well.

A window's regime is the third of the training windows that its volatility over the context falls in; limits are those
of training, so that a period can lie in one third wholly. `runner.baselines` keeps it in the run directory.

Array names: N windows, R rows of weights.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from runner.report.analysis.contrasts import SPLITS, place_of, series_of, sizes_of
from runner.report.analysis.folds import FOLD
from runner.report.analysis.paired import PLACE, Source, window_losses
from runner.report.analysis.trials import Estimate, Trial
from runner.report.tables import Column, ReportTable
from runner.report.wording import count, estimate
from runner.rundir import comparable
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.predictions import predictions
from trainables import tables
from trainables.errors import DataError
from trainables.schema import ResolvedTask
from trainables.training import batches
from trainables.training.bootstrap import Floats

WHOLE = "all"
REGIMES = ("calm third", "middle third", "volatile third")
_COLUMNS: dict[str, tables.Kind] = {"date": "time", "asset": "text", "split": "text", "regime": "number"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegimeLoss:
    """The mean loss of one size (over its seeds) or baseline in one regime of one split, in nats, with the prior's."""

    place: str
    split: str
    regime: str
    name: str
    windows: int
    loss: Estimate
    skill: float | None


def regime_losses(
    paths: RunPaths, view: LedgerView, trials: Sequence[Trial], baselines: Sequence[Trial]
) -> tuple[RegimeLoss, ...]:
    """Of all series whose regimes are known, and of all folds."""
    found: list[RegimeLoss] = []
    groups = tuple(dict.fromkeys(trial.group for trial in trials))
    for (horizon, group), members in series_of(trials):
        known = _read(paths, view, members[0])
        if known is None and FOLD not in dict(group.axes):
            continue
        entries = {size.name: size.trials for size in sizes_of(members, Source(paths, view))}
        near = [one for one in baselines if one.place == members[0].place and one.status == "finished"]
        entries |= {one.group.model.replace("_", " "): (one,) for one in near}
        for split in SPLITS:
            place = place_of(horizon, group.differing(groups))
            found += _of_split(paths, view, place, split, entries, known)
    return tuple(found)


def _read(paths: RunPaths, view: LedgerView, trial: Trial) -> pd.DataFrame | None:
    path = paths.regime(comparable.identity(view.cells[trial.key].cell.spec))
    try:
        return tables.read(path, str(path), max_bytes=tables.RUN_BYTES, columns=_COLUMNS)
    except OSError:  # of a run that has none yet
        return None
    except DataError as error:
        log.warning("left out: %s", error)
        return None


def _of_split(
    paths: RunPaths,
    view: LedgerView,
    place: str,
    split: str,
    entries: dict[str, tuple[Trial, ...]],
    known: pd.DataFrame | None,
) -> Iterator[RegimeLoss]:
    frames = {
        trial.key: frame
        for of_one in entries.values()
        for trial in of_one
        if (frame := predictions(paths, trial.key, split)) is not None and len(frame)
    }
    if not frames:
        return
    first = next(iter(frames.values()))
    places = first[list(PLACE)]
    dates_N = first["date"].to_numpy().astype("datetime64[ns]")
    regime_N = _regimes(known, split, places)
    unit = _log_unit(view, entries)
    losses: dict[str, Floats] = {}
    for name, of_one in entries.items():
        each = [
            window_losses(frames[trial.key], _task(view, trial), view.cells[trial.key])
            for trial in of_one
            if trial.key in frames and frames[trial.key][list(PLACE)].equals(places)
        ]
        whole = [one for one in each if one is not None]
        if unit is not None and len(whole) == len(of_one):
            losses[name] = np.mean(whole, axis=0) - unit
    for number, regime in enumerate((WHOLE, *REGIMES), -1):
        in_N = np.ones(len(first), dtype=bool) if regime == WHOLE else regime_N == number
        prior = losses["prior"][in_N].mean() if "prior" in losses and in_N.any() else None
        for name, losses_N in losses.items():
            if in_N.any():
                loss = _estimate(losses_N[in_N], dates_N[in_N])
                skill = 1 - (loss.value or 0.0) / float(prior) if prior and name != "prior" else None
                yield RegimeLoss(place, split, regime, name, int(in_N.sum()), loss, skill)


def _log_unit(view: LedgerView, entries: dict[str, tuple[Trial, ...]]) -> float | None:
    """What `window_losses` are above those of the results: of values the log of the labels' deviation on training.

    Of other outcomes 0. None of values without the prior: its residuals on training are what tells the deviation.
    """
    one = next(trial for of_one in entries.values() for trial in of_one)
    if _task(view, one).outcome != "value":
        return 0.0
    ended = [view.cells[prior.key].ended for prior in entries.get("prior", ())]
    variances = [state.result.get("train_residual_variance") for state in ended if state is not None]
    return 0.5 * math.log(variances[0]) if variances and variances[0] else None


def _task(view: LedgerView, trial: Trial) -> ResolvedTask:
    return ResolvedTask.model_validate(view.cells[trial.key].cell.spec["task"])


def _regimes(known: pd.DataFrame | None, split: str, places: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Of each window; -1 where it is not known."""
    if known is None:
        return np.full(len(places), -1)
    part = known[known["split"] == split].drop_duplicates(list(PLACE))
    found_N: npt.NDArray[np.int64] = (
        places.merge(part, on=list(PLACE), how="left")["regime"].fillna(-1).to_numpy(dtype=np.int64)
    )
    return found_N


def _estimate(losses_N: Floats, dates_N: npt.NDArray[np.datetime64]) -> Estimate:
    weight_RN = batches.leave_one_out(dates_N)
    mean_R = (weight_RN @ losses_N) / weight_RN.sum(axis=1)
    return Estimate(float(mean_R[0]), *batches.interval(mean_R))


def regime_table(losses: Sequence[RegimeLoss]) -> ReportTable:
    """A row for each size and baseline in each fold, split and regime."""
    columns = (
        Column("where"), Column("split"), Column("volatility, by training"), Column("of"), Column("windows", "number"),
        Column("loss (nats) [95 %]", "number"), Column("skill (%)", "number"),
    )  # fmt: skip
    rows = [
        (
            one.place, one.split, one.regime, one.name, count(one.windows), estimate(one.loss, 4),
            estimate(Estimate(one.skill), 1, signed=True, scale=100.0),
        )
        for one in losses
    ]  # fmt: skip
    return ReportTable("By fold and volatility", columns, tuple(rows))
