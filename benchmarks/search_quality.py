"""How good a search is on a loss with a known optimum, by its own samplers, rungs, transfer and ladder.

    .venv/bin/python benchmarks/search_quality.py             # prints; some minutes on one core
    .venv/bin/python benchmarks/search_quality.py --write     # and writes results/search_quality.json

Trials are played by `Objective`: a loss of rate, decay and dropout at a size, with noise, that falls over the epochs
at a speed that depends on the rate. Everything else is what a sweep uses: `runner.search` and `runner.scaling.rule`.
One trial runs at a time. Ray Tune's `OptunaSearch` and the bracket of its `ASHAScheduler` get the same objective and as
many epochs, without a cluster. Losses are compared without their noise: that of the values that a search ends with.
"""

import argparse
import json
import logging
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from runner.config.search import PrunerName, Sampler
from runner.rundir.studies import StudyState, StudyTrial
from runner.scaling.rule import Tried, fit
from runner.search import ladder, pruning, sampling, transfer
from runner.search.ladder import Rungs
from runner.search.space import Axis

RESULTS = Path(__file__).parent / "results" / "search_quality.json"
EPOCHS, TRIALS, SEEDS, NOISE = 27, 30, 20, 0.002
SIZES = (50_000, 200_000, 1_000_000, 5_000_000, 20_000_000)
LR, DECAY, DROPOUT = "training.lr", "training.weight_decay", "model.dropout"
SPACE = {LR: Axis(1e-5, 1e-1, log=True), DECAY: Axis(1e-3, 10.0, log=True), DROPOUT: Axis(0.0, 0.4)}


@dataclass(frozen=True)
class Objective:
    """Optimum at lr 2e-3 (N / 1m)^-0.4, decay 0.3, dropout 0.15; `seed` is that of the noise."""

    size: float
    seed: int

    @property
    def lr(self) -> float:
        """The best rate."""
        return float(2e-3 * (self.size / 1e6) ** -0.4)

    def true(self, values: dict[str, Any]) -> float:
        """The final loss without noise."""
        lowest = 0.45 + 0.05 * (self.size / 5e4) ** -0.2
        rate, decay = math.log10(values[LR] / self.lr), math.log10(values.get(DECAY, 0.3) / 0.3)
        return lowest + 0.04 * rate**2 + 0.006 * decay**2 + 0.1 * (values.get(DROPOUT, 0.15) - 0.15) ** 2

    def curve(self, values: dict[str, Any]) -> list[float]:
        """Losses by epoch: low rates fall slowly, and the order of trials is not settled early."""
        noise = np.random.default_rng((self.seed, zlib.crc32(repr(sorted(values.items())).encode())))
        speed = 0.25 * min(3.0, max(0.2, (values[LR] / self.lr) ** 0.3))
        falling = [0.15 * math.exp(-speed * epoch) for epoch in range(1, EPOCHS + 1)]
        shift = NOISE * noise.normal()  # of the trial's own seed
        return [self.true(values) + shift + fall + NOISE / 2 * noise.normal() for fall in falling]


def search(
    objective: Objective,
    *,
    sampler: Sampler = "tpe",
    pruner: PrunerName = "none",
    trials: int = TRIALS,
    space: dict[str, Axis] = SPACE,
    start: dict[str, Any] | None = None,
) -> tuple[tuple[StudyTrial, ...], int]:
    """A study with one worker; returns its trials and the epochs that they took."""
    history: list[StudyTrial] = []
    spent = 0
    for number in range(trials):
        study = f"{objective.size:g}"
        values = sampling.suggest(space, history, number=number, sampler=sampler, seed=objective.seed, study=study)
        values |= (start or {}) if number == 0 else {}
        known = {trial.number: trial.curve for trial in history}
        curve: dict[int, float] = {}
        status = "finished"
        for epoch, loss in enumerate(objective.curve(values), 1):
            curve[epoch] = loss
            if pruning.reason(pruner, number, curve, known, EPOCHS):
                status = "pruned"
                break
        spent += len(curve)
        history.append(StudyTrial(number, f"{number:012x}", values, status, curve[max(curve)], curve))
    return tuple(history), spent


def best(objective: Objective, trials: tuple[StudyTrial, ...]) -> float:
    """The loss, without noise, of the trial that a search ends with."""
    chosen = StudyState({}, trials).best
    assert chosen is not None
    return objective.true(chosen.values)


def _lowest(size: float) -> float:
    return Objective(size, 0).true({LR: Objective(size, 0).lr})


def state(size: int, trials: tuple[StudyTrial, ...], **asked: Any) -> StudyState:
    return StudyState({"study": str(size), "budget": size, **asked}, trials)


# ---- what is measured ------------------------------------------------------------------------------------------------


def optimum_found() -> dict[str, Any]:
    """Whether the 95 % interval of each size's optimum, and of the exponent, holds what was planted."""
    held, exponents = [], []
    for seed in range(SEEDS):
        tried = []
        for size in SIZES[:4]:
            found = state(size, search(Objective(size, seed), sampler="qmc")[0])
            tried.append(Tried(float(size), *found.tried(LR)))
        rule = fit(tried)
        assert rule is not None
        held += [one.low <= Objective(one.size, seed).lr <= one.high for one in rule.optima]
        exponents.append(rule.exponent_low <= -0.4 <= rule.exponent_high)
    return {"optima_in_interval": sum(held) / len(held), "exponents_in_interval": sum(exponents) / SEEDS}


def samplers() -> dict[str, float]:
    """Median excess over the lowest loss, at equal trials, by sampler."""
    names: tuple[Sampler, ...] = ("random", "qmc", "tpe")
    found: dict[str, float] = {}
    for name in names:
        objectives = [Objective(1e6, seed) for seed in range(SEEDS)]
        found[name] = median(best(one, search(one, sampler=name)[0]) for one in objectives) - _lowest(1e6)
    return found


def pruners() -> dict[str, Any]:
    """Median loss relative to that of the full search, and the share of its epochs."""
    full = [search(Objective(1e6, seed)) for seed in range(SEEDS)]
    lowest = _lowest(1e6)
    found: dict[str, Any] = {
        "none": {"excess": median(best(Objective(1e6, seed), full[seed][0]) for seed in range(SEEDS)) - lowest}
    }
    names: tuple[PrunerName, ...] = ("asha", "hyperband", "median")
    for name in names:
        ratios, shares, losses = [], [], []
        for seed in range(SEEDS):
            objective = Objective(1e6, seed)
            trials, spent = search(objective, pruner=name)
            losses.append(best(objective, trials))
            ratios.append(losses[-1] / best(objective, full[seed][0]))
            shares.append(spent / full[seed][1])
        found[name] = {
            "excess": median(losses) - lowest,
            "loss_ratio": median(ratios),
            "worst_loss_ratio": max(ratios),
            "epochs_share": median(shares),
        }
    return found


def transferred() -> dict[str, Any]:
    """Sizes above the two smallest: loss relative to full searches, and shares of training (size times epochs)."""
    ratios, shares, totals, excess, full_excess = [], [], [], [], []
    for seed in range(SEEDS):
        states: list[StudyState] = []
        cost, above, full_above, full = 0.0, 0.0, 0.0, 0.0
        for size in SIZES:
            objective = Objective(size, seed)
            trials, spent = search(objective)
            full += size * spent
            if len(states) < transfer.FULL_SIZES:
                cost += size * spent
            else:
                full_above += size * spent
                predicted = transfer.predicted(f"{size:012x}", SPACE, size, states)
                narrow = transfer.narrowed(SPACE, StudyState({}, (), predicted=predicted))
                few, spent = search(objective, trials=transfer.trials(TRIALS), space=narrow, start=predicted.values)
                ratios.append(best(objective, few) / best(objective, trials))
                excess.append(best(objective, few) - _lowest(size))
                full_excess.append(best(objective, trials) - _lowest(size))
                trials = few
                cost += size * spent
                above += size * spent
            states.append(state(size, trials))
        shares.append(above / full_above)
        totals.append(cost / full)
    return {
        "excess": median(excess),
        "full_excess": median(full_excess),
        "loss_ratio": median(ratios),
        "worst_loss_ratio": max(ratios),
        "training_share_above_the_two_smallest": median(shares),
        "training_share_in_all": median(totals),
    }


def climbed() -> dict[str, Any]:
    """A ladder of the rate alone: trials, and the loss of all sizes by its rule over the lowest there is."""
    trials_made, excess = [], []
    for seed in range(SEEDS):
        sizes = ladder.chosen_sizes(SIZES)
        made: dict[int, list[StudyTrial]] = {size: [] for size in sizes}
        while True:
            rungs = [Rungs(state(size, tuple(made[size]), ladder=[LR]), {LR: 1e-3}, {LR: SPACE[LR]}) for size in sizes]
            step = ladder.follow([LR], rungs, may_run=lambda key: True, takes=lambda study, values: True)
            if step.values is None:
                break
            size = int(str(step.study))
            loss = Objective(size, seed).curve(step.values)[-1]
            made[size].append(StudyTrial(len(made[size]), "0", step.values, "finished", loss, {}))
        assert step.rules is not None
        trials_made.append(sum(map(len, made.values())))
        for size in SIZES:
            objective = Objective(size, seed)
            values = {LR: ladder.at(step.rules[LR], size)}
            excess.append(objective.true(values) - _lowest(size))
    return {"trials": median(trials_made), "excess": median(excess), "worst_excess": max(excess)}


def ray_tune() -> dict[str, Any]:
    """Ray Tune's OptunaSearch and its ASHA against ours, until the epochs are used up that ours takes."""
    from ray import tune
    from ray.tune.schedulers.async_hyperband import _Bracket
    from ray.tune.search.optuna import OptunaSearch

    logging.getLogger("ray").setLevel(logging.ERROR)
    ours, theirs = [], []
    for seed in range(SEEDS):
        objective = Objective(1e6, seed)
        trials, budget = search(objective, pruner="asha")
        ours.append(best(objective, trials))
        domains = {LR: tune.loguniform(1e-5, 1e-1), DECAY: tune.loguniform(1e-3, 10), DROPOUT: tune.uniform(0, 0.4)}
        searcher = OptunaSearch(space=domains, metric="loss", mode="min", seed=seed)
        bracket = _Bracket(min_t=1, max_t=EPOCHS, reduction_factor=pruning.ETA, s=0)
        finished: list[tuple[float, dict[str, Any]]] = []
        number = 0
        while budget > 0:
            trial = _RayTrial(str(number))
            values = searcher.suggest(trial.trial_id)
            assert isinstance(values, dict)
            loss = math.inf
            for epoch, loss in enumerate(objective.curve(values), 1):
                budget -= 1
                searcher.on_trial_result(trial.trial_id, {"loss": loss, "training_iteration": epoch})
                if bracket.on_result(trial, epoch, -loss) == "STOP" or budget == 0:
                    break
            else:
                finished.append((loss, values))
            searcher.on_trial_complete(trial.trial_id, {"loss": loss, "training_iteration": epoch})
            number += 1
        theirs.append(objective.true(min(finished, key=lambda one: one[0])[1]) if finished else math.inf)
    lowest = _lowest(1e6)
    wins = sum(own < other for own, other in zip(ours, theirs, strict=True))
    return {
        "excess": median(ours) - lowest,
        "ray_tune_excess": median(theirs) - lowest,
        "seeds_where_ours_is_lower": wins,
    }


@dataclass(frozen=True)
class _RayTrial:
    trial_id: str


MEASURED: dict[str, Callable[[], dict[str, Any]]] = {
    "optimum": optimum_found,
    "samplers": samplers,
    "pruners": pruners,
    "transfer": transferred,
    "ladder": climbed,
    "ray_tune": ray_tune,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--only", choices=MEASURED, help="one part; prints alone")
    given = parser.parse_args()
    found: dict[str, Any] = {"seeds": SEEDS, "trials": TRIALS, "epochs": EPOCHS, "noise": NOISE}
    for name, measure in MEASURED.items():
        if given.only in (None, name):
            started = time.perf_counter()
            found[name] = measure()
            print(name, json.dumps(found[name]), f"({time.perf_counter() - started:.0f} s)", flush=True)
    if given.write and given.only is None:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
