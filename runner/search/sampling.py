"""The next values of a study: a pure function of seed, study, number, and what is known of its trials."""

import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.config.search import Sampler
from runner.rundir.studies import StudyTrial
from runner.search.space import Axis, active

Values = dict[str, Any]
MOST_POINTS = 100_000  # of a grid with conditions, which is listed to find equal points
PRUNED_IN_ORDER = frozenset({"tpe"})  # the others know no trials that ended early


def grid_size(space: Mapping[str, Axis]) -> int:
    """Number of points of `sampler: grid`."""
    return (
        len(_grid(space))
        if any(axis.when for axis in space.values())
        else math.prod(len(axis.grid()) for axis in space.values())
    )


def _grid(space: Mapping[str, Axis]) -> list[Values]:
    """The points of a grid with conditions, each once."""
    points = itertools.product(*(axis.grid() for axis in space.values()))
    found = (active(space, dict(zip(space, point, strict=True))) for point in itertools.islice(points, MOST_POINTS))
    return list({repr(values): values for values in found}.values())


def suggest(
    space: Mapping[str, Axis],
    history: Sequence[StudyTrial],
    *,
    number: int,
    sampler: Sampler,
    seed: int,
    study: str,
    again: int = 0,
) -> Values:
    """Values for the trial `number`.

    Args:
        space: of the study.
        history: its trials so far, by number; those that run have no loss.
        number: from 0; a grid has values for the numbers below `grid_size` alone.
        sampler: see `runner.config.search.SearchSpec`.
        seed: of the search.
        study: its identity; two studies of a search get different values.
        again: how many earlier suggestions for this number gave a trial that there is already.
    """
    own = zlib.crc32(study.encode())
    if sampler == "grid" and any(axis.when for axis in space.values()):
        return _grid(space)[number]
    if sampler == "grid":
        points = itertools.product(*(axis.grid() for axis in space.values()))
        return dict(zip(space, next(itertools.islice(points, number, None)), strict=True))
    if sampler == "qmc" and not again:
        from scipy.stats import qmc

        engine = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng((seed, own)))
        if number:
            engine.fast_forward(number)
        return active(space, _placed(space, engine.random(1)[0]))
    if sampler in ("random", "qmc"):
        return active(space, _placed(space, np.random.default_rng((seed, own, number, again)).random(len(space))))
    drawn = int(np.random.default_rng((seed, own, number, again)).integers(2**31))
    return _modelled(space, history, sampler, drawn)


def _placed(space: Mapping[str, Axis], units: NDArray[np.float64]) -> Values:
    return {dotted: axis.at(float(unit)) for (dotted, axis), unit in zip(space.items(), units, strict=True)}


def _modelled(space: Mapping[str, Axis], history: Sequence[StudyTrial], sampler: Sampler, seed: int) -> Values:
    """Optuna's answer, of a study in memory that is made for it."""
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import TrialState, create_trial

    def distribution(axis: Axis) -> BaseDistribution:
        if axis.choices:
            return CategoricalDistribution(axis.choices)
        if axis.integer:
            return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return FloatDistribution(axis.low, axis.high, log=axis.log)

    distributions = {dotted: distribution(axis) for dotted, axis in space.items()}
    losses = [trial.loss for trial in history if trial.loss is not None and math.isfinite(trial.loss)]
    worst = max(losses, default=0.0)
    known = []
    for trial in history:
        if not all(dotted in space and space[dotted].holds(value) for dotted, value in trial.values.items()):
            continue  # tried before the range became narrower
        if trial.status == "pruned" and trial.curve and sampler in PRUNED_IN_ORDER:
            outcome: dict[str, Any] = {"state": TrialState.PRUNED, "intermediate_values": trial.curve}
        elif trial.loss is None and not losses:
            continue  # it runs, and there is nothing yet to say of it
        else:
            loss = worst if trial.loss is None or not math.isfinite(trial.loss) else trial.loss
            outcome = {"value": loss}
        those = {dotted: distributions[dotted] for dotted in trial.values}
        known.append(create_trial(params=dict(trial.values), distributions=those, **outcome))
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of its own speed at each suggestion
    chooser = (
        optuna.samplers.GPSampler(seed=seed)
        if sampler == "gp"
        else optuna.samplers.TPESampler(seed=seed, multivariate=True)
    )
    study = optuna.create_study(sampler=chooser)
    study.add_trials(known)
    asked = study.ask({dotted: one for dotted, one in distributions.items() if not space[dotted].when})
    for dotted, axis in space.items():
        if axis.when and dotted in active(space, {**asked.params, dotted: None}):
            _ask(asked, dotted, axis)
    return {
        dotted: value if space[dotted].choices or space[dotted].integer else space[dotted].clean(value)
        for dotted, value in sorted(asked.params.items(), key=lambda pair: list(space).index(pair[0]))
    }


def _ask(trial: Any, dotted: str, axis: Axis) -> None:
    """One more value of an Optuna trial, by its own distribution: keys with conditions are not in every trial."""
    if axis.choices:
        trial.suggest_categorical(dotted, axis.choices)
    elif axis.integer:
        trial.suggest_int(dotted, int(axis.low), int(axis.high), log=axis.log)
    else:
        trial.suggest_float(dotted, axis.low, axis.high, log=axis.log)
