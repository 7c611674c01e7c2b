"""What went wrong for others, replayed on labels and predictions of known truth: from scored predictions to the report.

Nothing is scripted here but what models would have predicted: losses, skill, intervals and collapse are those that the
trainer's own scorer gives, predictions lie where a sweep puts them, and what is read is the written report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from runner.report import page, render
from runner.report.analysis.collect import Collected, collect
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, Ledger, SweepStarted
from runner.rundir.paths import RunPaths
from trainables.schema import ResolvedTask
from trainables.training.metrics import Prior, Scorer, is_collapsed
from trainables.training.result import split_columns

TASK = ResolvedTask(context=60)
SIZES = (50_000, 200_000, 800_000, 3_200_000, 12_800_000)
SPLITS = {"validation": ("val", "2013-01-01"), "test": ("test", "2016-01-01")}
N = 700
FAILED = "**Horizon 1: can't tell whether the loss falls with size: optimisation failure."
Floats = np.ndarray
Model = Callable[["Truth", str], Floats]  # the logits of a split


class Truth:
    """Labels of two splits, and the logits that they were drawn from (`signal` 0: nothing can be known)."""

    def __init__(self, signal: float, base: float = -0.6) -> None:
        random = np.random.default_rng(0)
        self.base = base
        self.prior = Prior(float(expit(base)), float(expit(base) * (1 - expit(base))))
        self.logits = {split: base + signal * random.normal(size=N) for split in SPLITS}
        self.labels = {split: (random.random(N) < expit(z)).astype(float) for split, z in self.logits.items()}
        self.dates = {split: pd.date_range(start, periods=N, freq="B") for split, (_, start) in SPLITS.items()}

    def scorer(self, split: str) -> Scorer:
        dates_N = self.dates[split].to_numpy().astype("datetime64[ns]")
        return Scorer(self.labels[split], dates_N, task=TASK, prior=self.prior)

    def shrunk(self, share: float) -> Model:
        """A model that knows a share of the truth."""
        return lambda _, split: self.base + share * (self.logits[split] - self.base)

    def of_loss(self, loss: float) -> Model:
        """The model that knows so much that its loss on validation is this one."""
        scorer = self.scorer("validation")
        share = brentq(lambda s: scorer.scores(self.shrunk(s)(self, "validation")).loss - loss, 0.0, 0.9)
        return self.shrunk(share)


@dataclass(frozen=True)
class Made:
    """A model of a size, or a baseline by its name."""

    model: Model
    size: int | None = None
    seed: int = 0
    name: str = ""


def grid(model_of: Callable[[int, int], Model], sizes: Sequence[int] = SIZES, seeds: int = 2) -> list[Made]:
    return [Made(model_of(size, seed), size, seed) for size in sizes for seed in range(seeds)]


def baselines(truth: Truth, share: float) -> list[Made]:
    """The prior, and three baselines that know this share of the truth (0: they fit noise)."""
    random = np.random.default_rng(9)
    noise = {split: random.normal(0, 0.05, N) for split in SPLITS}
    known = truth.shrunk(share)
    names = ("volatility", "linear", "boosted_trees")
    learned = [Made(lambda t, split: known(t, split) + noise[split], name=name) for name in names]
    return [Made(truth.shrunk(0.0), name="prior"), *learned]


def write(root: Path, truth: Truth, cells: Sequence[Made]) -> RunPaths:
    """A run directory as a sweep would leave it."""
    paths = RunPaths(root / "runs" / "made")
    paths.predictions.mkdir(parents=True)
    with patch("os.fsync"):  # durability is not the subject here
        ledger = Ledger(paths.ledger)
        keys = tuple(f"{number:012x}" for number, cell in enumerate(cells) if cell.size)
        ledger.append(SweepStarted(run="made", keys=keys, config={}, code_version="1", versions={}))
        for number, cell in enumerate(cells):
            _write(ledger, paths, truth, cell, f"{number:012x}")
        ledger.close()
    return paths


def _write(ledger: Ledger, paths: RunPaths, truth: Truth, cell: Made, key: str) -> None:
    labels = {"horizon": 1, "tier": "a20", "timescale": "daily", "data_fraction": 1.0}
    labels |= {"model": "patchtst", "budget": str(cell.size), "seed": cell.seed} if cell.size else {"model": cell.name}
    spec = {"data": {"content_sha256": "0" * 64, "splits": {}}, "task": TASK.model_dump(mode="json")}
    shape = {"name": "patchtst", "context": 60, "patch": 10, "channels": "mixed", "n_features": 20}
    ledger.append(
        CellRecorded(
            key=key,
            name=f"{cell.size or cell.name}-s{cell.seed}",
            cell_kind="model" if cell.size else "baseline",
            labels=labels,
            n_params=cell.size,
            n_params_non_embedding=cell.size,
            sizes={"n_train": 3000, "n_val": N, "n_test": N, "n_val_effective": N},
            spec=spec | ({"model": shape, "training": {"global_batch": 128}} if cell.size else {}),
        )
    )
    ledger.append(AttemptStarted(key=key, attempt=1, execution={}))
    result, frames = {"epochs": 8, "best_epoch": 6, "steps": 184}, []
    for split, (prefix, _) in SPLITS.items():
        logits_N = cell.model(truth, split)
        scorer = truth.scorer(split)
        scores, intervals = scorer.scores(logits_N), scorer.intervals(logits_N)
        result |= split_columns(prefix, scores, intervals)  # type: ignore[arg-type]
        if split == "validation":
            result["collapsed"] = cell.name != "prior" and is_collapsed(scores, intervals)
        columns = {"date": truth.dates[split], "asset": "x", "split": split, "label": truth.labels[split]}
        frames.append(pd.DataFrame(columns | {"logit": logits_N}))
    pd.concat(frames).to_parquet(paths.prediction(key))
    ledger.append(CellEnded(key=key, attempt=1, status="finished", result=result))


def told(collected: Collected) -> str:
    """The verdict as the report's page has it; figures take most of a report's time and say nothing of it."""
    text = render.markdown(page.make(collected, ()), "figures")
    return next(line for line in text.splitlines() if line.startswith("**Horizon 1: ")).replace("\\", "")


@pytest.fixture(scope="module")
def learnable() -> Truth:
    return Truth(signal=1.5)


def power_law(size: int) -> float:
    """From 0.66 down to 0.53 nats; the prior is at 0.70 and the truth itself at 0.526."""
    return 0.50 + 0.16 * (size / SIZES[0]) ** -0.3


@pytest.fixture(scope="module")
def law_cells(learnable: Truth) -> list[Made]:
    random = np.random.default_rng(1)
    return grid(lambda size, seed: learnable.of_loss(power_law(size) + 0.0003 * random.normal()))


def test_a_true_power_law_is_called_one_and_its_exponent_is_covered(tmp_path, learnable, law_cells) -> None:
    paths = write(tmp_path, learnable, [*law_cells, *baselines(learnable, 0.4)])
    collected = collect(paths)
    (one,) = collected.verdicts
    assert one.verdict == "power law", one.reason
    assert one.fit is not None
    low, high = one.fit.intervals["alpha"]
    assert low <= 0.3 <= high
    assert (one.direction, one.form) == ("falls", "power law")
    assert "it holds on test" in one.reason
    assert "fitted without the largest size, it misses the loss there by" in one.reason
    assert told(collected).startswith(
        "**Horizon 1: falls with size, the change from 50,000 to 12,800,000 parameters is \N{MINUS SIGN}0.1"
    )
    assert "1,000 resamples of blocks of the period, and the spread between seeds). Power law: L = E" in told(collected)


def test_three_sizes_of_the_same_law_are_not_enough(tmp_path, learnable, law_cells) -> None:
    cells = [cell for cell in law_cells if cell.size in SIZES[:3]]
    text = told(collect(write(tmp_path, learnable, [*cells, *baselines(learnable, 0.4)])))
    assert text.startswith(
        "**Horizon 1: falls with size, the change from 50,000 to 800,000 parameters is \N{MINUS SIGN}0.09"
    )
    assert "Form not identified: 3 distinct sizes cannot identify a law" in text


def test_noise_labels_are_flat_and_keep_their_cells_to_that_verdict(tmp_path) -> None:
    """Healthy models of noise predict next to the prior, and so 'collapse': the verdict must not hide behind that."""
    truth = Truth(signal=0.0)
    noise = {split: np.random.default_rng(2).normal(size=N) for split in SPLITS}
    cells = grid(lambda size, seed: lambda t, split: t.base + 0.02 * (1 + seed) * noise[split])
    paths = write(tmp_path, truth, [*cells, *baselines(truth, 0.0)])
    collected = collect(paths)
    assert any(trial.collapsed for trial in collected.trials)
    (one,) = collected.verdicts
    assert one.verdict == "flat: no learnable signal"
    assert "0 of 10 trials" in one.reason
    assert told(collected).startswith("**Horizon 1: flat: no learnable signal.")


@pytest.mark.parametrize("share", [0.4, 0.0])
def test_collapse_at_different_speeds_is_never_inverse_scaling(tmp_path, learnable, share) -> None:
    """Every model ends at the prior, the larger ones sooner; the losses rise with size, and it was once published."""
    left = dict(zip(SIZES, (0.022, 0.016, 0.011, 0.006, 0.002), strict=True))
    cells = grid(lambda size, seed: learnable.shrunk(left[size] / 1.5))
    paths = write(tmp_path, learnable, [*cells, *baselines(learnable, share)])
    collected = collect(paths)
    losses = [trial.val_loss.value for trial in collected.trials]
    assert losses == sorted(losses)  # larger is worse, as it seems
    assert all(trial.collapsed for trial in collected.trials)
    assert "inverse" not in told(collected)
    assert collected.verdicts[0].verdict == "optimisation failure" if share else True


def test_models_that_collapse_beside_skilled_baselines_failed_to_learn(tmp_path, learnable) -> None:
    cells = grid(lambda size, seed: learnable.shrunk(0.0))
    text = told(collect(write(tmp_path, learnable, [*cells, *baselines(learnable, 0.4)])))
    assert text.startswith(f"{FAILED} 10 of 10 trials collapsed, while the baseline")


def doubled(truth: Truth) -> list[Made]:
    """Good models, the larger the better, with a sigmoid in the model and another in the loss."""

    def model(size: int, seed: int) -> Model:
        known = truth.shrunk(0.9 - 0.6 * (size / SIZES[0]) ** -0.3)
        return lambda t, split: expit(known(t, split))

    return grid(model)


def test_a_sigmoid_too_many_on_a_rare_class_is_collapse(tmp_path) -> None:
    """No probability below one half is left: where positives are as rare as the quickstart's, the prior is better."""
    truth = Truth(signal=1.5, base=-2.2)
    paths = write(tmp_path, truth, [*doubled(truth), *baselines(truth, 0.4)])
    collected = collect(paths)
    assert all(trial.collapsed for trial in collected.trials)
    assert all(trial.marked("squashed outputs") for trial in collected.trials)
    finding = next(one for one in collected.findings if one.kind == "collapsed")
    assert "is wholly below 0" in finding.reason
    assert told(collected).startswith(FAILED)


@pytest.mark.parametrize("base", [0.0, -0.6])
def test_a_sigmoid_too_many_on_balanced_classes_makes_no_law(tmp_path, base) -> None:
    """Such losses have skill and fall as a power law: nothing but the outputs themselves gives them away."""
    truth = Truth(signal=1.5, base=base)
    paths = write(tmp_path, truth, [*doubled(truth), *baselines(truth, 0.4)])
    collected = collect(paths)
    assert not any(trial.collapsed for trial in collected.trials)
    (finding,) = collected.findings
    assert (finding.kind, len(finding.trials)) == ("squashed outputs", 10)
    assert told(collected).startswith("**Horizon 1: can't tell whether the loss falls with size, ")
    assert "without collapsed or squashed trials: there is none" in told(collected)


def test_the_report_shows_the_fits_by_parameters_and_by_compute(tmp_path, learnable, law_cells) -> None:
    collected = collect(write(tmp_path, learnable, [*law_cells, *baselines(learnable, 0.4)]))
    fits = {(one.place, one.variable): one.fit for one in collected.fits}
    by_size = fits["horizon 1: validation, all trials", "parameters"]
    by_compute = fits["horizon 1: validation, all trials", "compute (FLOP)"]
    assert ("horizon 1: test, all trials", "parameters") in fits
    # at equal steps compute is in proportion to size: the same law in another unit
    assert by_compute.parameters["alpha"] == pytest.approx(by_size.parameters["alpha"], rel=0.02)
    assert by_compute.law.centres[0] > by_size.law.centres[0]
    html = render.html(page.make(collected, ()))
    assert "largest size left out: predicted" in html
    assert "compute (FLOP)" in html
