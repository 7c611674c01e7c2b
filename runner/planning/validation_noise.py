"""The error that the sampling of a validation period gives a difference of losses, from paired blocks of its dates.

Array names: N windows, T dates, R resamples, A assets.
"""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runner.planning.grid import Cell
from runner.rundir import comparable
from runner.rundir.ledger import LedgerView
from runner.rundir.paths import RunPaths
from runner.rundir.predictions import PLACE, predictions
from trainables import baselines
from trainables.data import catalog
from trainables.data.window_index import WindowIndex, index_windows
from trainables.errors import DataError
from trainables.files import replace_text
from trainables.schema import BaselineSpec
from trainables.training.bootstrap import BlockBootstrap, Floats, label_span
from trainables.training.likelihood import binary_losses, class_losses, gaussian_losses
from trainables.training.predictions import outputs

PAIR = ("linear", "boosted_trees")
_MAX_TRAIN = 20_000  # windows that the two baselines are fitted on, evenly spread: it is their difference that counts
MAX_ASSETS = 50  # whose correlation is looked at, evenly spread
_FORMAT = 2  # of what is kept; raise it when it is made in another way

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blocks:
    """The sampling of one validation period, in nats: deviation of a paired difference of two predictors' mean losses.

    `correlation` is that of the losses' differences between assets, None with a single one.
    """

    deviation: float
    prior_loss: float
    assets: int
    correlation: float | None


@dataclass
class ValidationNoise:
    """What is known of the validation periods of a plan.

    Attributes:
        paths: the run's folder.
        view: its ledger.
        data_root: folder of the datasets.
        cache: the user's folder, where what the two baselines gave is kept.
    """

    paths: RunPaths
    view: LedgerView
    data_root: Path
    cache: Path | None = None
    _of_baselines: dict[str, Blocks | None] = field(default_factory=dict)

    def of_trials(self, cells: Sequence[Cell]) -> Blocks | None:
        """Of the largest size less the smallest, means over their seeds; None without finished trials of two sizes."""
        task = cells[0].spec.task
        found: dict[int, list[tuple[pd.DataFrame, float]]] = {}
        for cell in cells:
            state = self.view.cells.get(cell.key)
            if state is None or state.status != "finished" or state.ended is None or task.outcome == "value":
                continue
            frame, prior = predictions(self.paths, cell.key, "validation"), state.ended.result.get("prior_loss")
            if frame is not None and len(frame) and prior:
                found.setdefault(cell.target, []).append((frame, prior))
        if len(found) < 2:
            return None
        small, large = found[min(found)], found[max(found)]
        first, prior = small[0]
        if any(not frame[[*PLACE, "label"]].equals(first[[*PLACE, "label"]]) for frame, _ in (*small, *large)):
            return None
        labels_N = first["label"].to_numpy()
        loss = class_losses if task.outcome == "classes" else binary_losses
        mean_N = [np.mean([loss(outputs(frame), labels_N) for frame, _ in one], axis=0) for one in (large, small)]
        dates_N = first["date"].to_numpy().astype("datetime64[ns]")
        return measure(dates_N, first["asset"].to_numpy(), mean_N[0] - mean_N[1], task.lookahead, prior)

    def of_baselines(self, cell: Cell) -> Blocks | None:
        """Of the data set and task of a cell, as kept or fitted now; None where the baselines fail on it."""
        identity = comparable.identity(cell.spec.model_dump(mode="json"))
        if identity not in self._of_baselines:
            self._of_baselines[identity] = self._kept_or_fitted(cell, identity)
        return self._of_baselines[identity]

    def _kept_or_fitted(self, cell: Cell, identity: str) -> Blocks | None:
        name = hashlib.sha256(f"{_FORMAT}{PAIR}{_MAX_TRAIN}{identity}".encode()).hexdigest()[:24]
        kept = self.cache / "power" / f"{name}.json" if self.cache else None
        if kept is not None and kept.exists():
            try:
                return Blocks(**json.loads(kept.read_text()))
            except (OSError, ValueError, TypeError) as error:
                log.warning("%s cannot be read and is made anew: %s", kept, error)
        try:
            found = _of_baselines(cell, self.data_root)
        except DataError as error:
            log.warning("the power of horizon %d is not known: %s", cell.spec.task.horizon, error)
            return None
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_text(kept, json.dumps(asdict(found)))
        return found


def _of_baselines(cell: Cell, data_root: Path) -> Blocks:
    index = index_windows(dataset := catalog.load(cell.entry, data_root), cell.spec.data, cell.spec.task)
    predicted = baselines.predict(dataset, _thinned(index), [BaselineSpec(name=one) for one in (*PAIR, "prior")])
    part = index.splits["validation"]
    losses = {one.name: _losses(one, index) for one in predicted}
    difference_N, prior = losses[PAIR[0]] - losses[PAIR[1]], float(losses["prior"].mean())
    return measure(part.dates_N, part.assets_N, difference_N, index.task.lookahead, prior)


def _thinned(index: WindowIndex) -> WindowIndex:
    train = index.splits["train"]
    chosen_N = np.zeros(len(train), dtype=bool)
    chosen_N[:: max(1, math.ceil(len(train) / _MAX_TRAIN))] = True
    return replace(index, splits={**index.splits, "train": train.where(chosen_N)})


def measure(dates_N: Any, assets_N: Any, difference_N: Floats, lookahead: int, prior_loss: float) -> Blocks:
    """The deviation of a difference of losses under resampled blocks of dates, and its correlation between assets."""

    def deviation(chosen_N: Any) -> float:
        return of_blocks(dates_N[chosen_N], difference_N[chosen_N], label_span(dates_N[chosen_N], lookahead))

    whole = deviation(np.ones(len(dates_N), dtype=bool))
    names = np.unique(assets_N)
    some = names[np.unique(np.linspace(0, len(names) - 1, MAX_ASSETS).astype(int))]
    correlation = None
    if len(names) > 1:
        of_one = float(np.mean([deviation(assets_N == name) ** 2 for name in some]))
        correlation = float(np.clip((whole**2 / of_one - 1 / len(names)) / (1 - 1 / len(names)), 0.0, 1.0))
    return Blocks(whole, prior_loss, len(names), correlation)


def of_blocks(dates_N: Any, difference_N: Floats, horizon: int) -> float:
    """Deviation of a mean under resampled blocks of dates.

    Blocks are twice as long as those of intervals: their deviation comes out too small by less, and a power that is
    too large is a promise.
    """
    blocks = BlockBootstrap(dates_N, difference_N, horizon=horizon, label="power")
    blocks = BlockBootstrap(dates_N, difference_N, horizon=2 * blocks.block_length, label="power")
    return float(np.concatenate([blocks.means(counts, difference_N) for counts in blocks.counts()]).std())


def _losses(one: baselines.Prediction, index: WindowIndex) -> Floats:
    given, labels_N = one.outputs["validation"], index.splits["validation"].labels_N
    if index.task.outcome == "value":
        assert one.residual_variance is not None
        return gaussian_losses(given - labels_N, one.residual_variance)
    return class_losses(given, labels_N) if index.task.outcome == "classes" else binary_losses(given, labels_N)
