"""How often the 95 % intervals of a trial hold the truth when losses of neighbouring dates resemble each other.

    .venv/bin/python benchmarks/interval_coverage.py             # prints; two or three minutes on one core
    .venv/bin/python benchmarks/interval_coverage.py --write     # and writes results/interval_coverage.json

A hidden state follows a first-order autoregression of the given persistence, and the label's log odds follow the state;
a model knows the state in part, mixed with one of its own that is as persistent. 665 windows are those of the
quickstart's validation split. The truth is the mean over many series. `batches` is the method of a trial's intervals;
`block_bootstrap` that of earlier versions, by resamples that all trials share. `difference` is the loss of one model
less that of a second, on the same windows.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter
from scipy.special import expit

from trainables.schema import ResolvedTask
from trainables.training import batches
from trainables.training.bootstrap import RESAMPLES, Floats, interval
from trainables.training.metrics import Prior, Scorer

RESULTS = Path(__file__).parent / "results" / "interval_coverage.json"
PERSISTENCE = (0.0, 0.9, 0.97, 0.99)
WINDOWS = 665
TRUTH_SERIES = 20_000  # of the same length, for the true loss, prior loss and skill
LEVEL, STRENGTH = -1.7, 1.5  # log odds of the label: a share of positives of 0.23, the quickstart's is 0.16 to 0.25
RATE = 0.23
KNOWN = (0.7, 0.6)  # weight of the state in what each of the two models knows; the rest is its own
TASK = ResolvedTask()
PRIOR = Prior(RATE, RATE * (1 - RATE))


def draw(random: np.random.Generator, persistence: float, series: int) -> tuple[Floats, Floats, Floats]:
    """Labels and the logits of two models, each [series, WINDOWS]."""
    state, one, two = (_state(random, persistence, series) for _ in range(3))
    labels = (random.random(state.shape) < expit(LEVEL + STRENGTH * state)).astype(np.float64)
    first, second = (
        LEVEL + 0.6 * STRENGTH * (weight * state + np.sqrt(1 - weight**2) * own)
        for weight, own in zip(KNOWN, (one, two), strict=True)
    )
    return labels, first, second


def _state(random: np.random.Generator, persistence: float, series: int) -> Floats:
    noise = random.standard_normal((series, WINDOWS))
    noise[:, 1:] *= np.sqrt(1 - persistence**2)  # the first is drawn from the state's own distribution
    found: Floats = lfilter([1.0], [1.0, -persistence], noise, axis=1)
    return found


def truth(persistence: float) -> dict[str, float]:
    labels, first, second = draw(np.random.default_rng(1), persistence, TRUTH_SERIES)
    loss, other = (float((np.logaddexp(0, z) - z * labels).mean()) for z in (first, second))
    prior = float(-(labels * np.log(RATE) + (1 - labels) * np.log(1 - RATE)).mean())
    return {"loss": loss, "skill": 1 - loss / prior, "difference": loss - other}


def simulate(persistence: float, series: int) -> dict[str, Any]:
    expected = truth(persistence)
    dates = np.datetime64("2001-01-01", "ns") + np.arange(WINDOWS) * np.timedelta64(1, "D")
    weight_RN = batches.leave_one_out(dates)
    hits: dict[str, Counter[str]] = {"batches": Counter(), "block_bootstrap": Counter()}
    widths: dict[str, list[float]] = {"batches": [], "block_bootstrap": []}
    started = time.perf_counter()
    for labels_N, first_N, second_N in zip(*draw(np.random.default_rng(2), persistence, series), strict=True):
        scorer = Scorer(labels_N, dates, task=TASK, prior=PRIOR)
        found = scorer.intervals(first_N)
        ours = {"loss": (found.loss_low, found.loss_high), "skill": (found.skill_low, found.skill_high)}
        gain_N = (np.logaddexp(0, first_N) - first_N * labels_N) - (np.logaddexp(0, second_N) - second_N * labels_N)
        ours["difference"] = batches.interval((weight_RN @ gain_N) / weight_RN.sum(axis=1))
        constant_N = np.full(WINDOWS, np.log(RATE / (1 - RATE)))
        loss_R, other_R, prior_R = scorer.loss_resamples([first_N, second_N, constant_N], count=RESAMPLES).T
        shared = {"loss": loss_R, "skill": 1 - loss_R / prior_R, "difference": loss_R - other_R}
        theirs = {name: interval(values) for name, values in shared.items()}
        for how, intervals in (("batches", ours), ("block_bootstrap", theirs)):
            widths[how].append(intervals["loss"][1] - intervals["loss"][0])  # type: ignore[operator]
            hits[how].update(name for name, (low, high) in intervals.items() if low <= expected[name] <= high)  # type: ignore[operator]
    return {
        "series": series,
        "truth": {name: round(value, 4) for name, value in expected.items()},
        **{
            how: {name: round(counted[name] / series, 3) for name in expected}
            | {"mean_width_of_loss": round(float(np.mean(widths[how])), 4)}
            for how, counted in hits.items()
        },
        "seconds_per_series": round((time.perf_counter() - started) / series, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--series", type=int, default=1000, help="simulated validation splits at each persistence")
    given = parser.parse_args()
    found = {}
    for persistence in PERSISTENCE:
        found[f"{persistence:g}"] = simulate(persistence, given.series)
        print(persistence, json.dumps(found[f"{persistence:g}"]), flush=True)
    if given.write:
        RESULTS.write_text(json.dumps({"windows": WINDOWS, "persistence": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
