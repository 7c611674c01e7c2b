"""Replays of what went wrong for others, with known truth: what the report must say, and what it must never say."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from runner.report import page, render
from runner.report.analysis.agreement import SOUND
from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.fits import LENGTH
from runner.report.build import build
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, Ledger, SweepStarted
from runner.rundir.paths import RunPaths

PRIOR = 0.65
SIZES = (50_000, 200_000, 800_000, 3_200_000, 12_800_000)
DATA = {"content_sha256": "0" * 64, "splits": {}, "features": [], "assets": []}
TASK = {"kind": "threshold", "threshold": 0.01, "price": "high", "context": 60, "horizon": 1}


@dataclass(frozen=True)
class Made:
    """A trial or, without a size, a baseline."""

    name: str
    loss: float
    size: int | None = None
    seed: int = 0
    collapsed: bool = False
    test_loss: float | None = None
    half: float = 0.01
    fraction: float = 1.0
    horizon: int = 1
    train_skill: float = 0.0
    steps: int | None = None  # the value of the axis training.length.steps
    context: int = 60


def trials(
    loss: Callable[[int], float], sizes: Sequence[int] = SIZES, noise: float = 0.001, **same: object
) -> list[Made]:
    random = np.random.default_rng(0)
    return [
        Made(f"{size}-s{seed}", loss(size) + noise * float(random.normal()), size, seed, **same)  # type: ignore[arg-type]
        for size in sizes
        for seed in range(3)
    ]


def baselines(*losses: float) -> list[Made]:
    names = ("volatility", "linear", "boosted_trees")
    return [Made("prior", PRIOR), *(Made(name, loss) for name, loss in zip(names, losses, strict=True))]


def write(root: Path, cells: Sequence[Made]) -> RunPaths:
    paths = RunPaths(root / "runs" / "made")
    with patch("os.fsync"):
        ledger = Ledger(paths.ledger)
        keys = {cell: f"{number:012x}" for number, cell in enumerate(cells)}
        models = tuple(keys[cell] for cell in cells if cell.size)
        ledger.append(SweepStarted(run="made", keys=models, config={}, code_version="1", versions={}))
        for cell, key in keys.items():
            _write(ledger, cell, key)
        ledger.close()
    return paths


def _write(ledger: Ledger, cell: Made, key: str) -> None:
    labels = {"horizon": cell.horizon, "tier": "a20", "timescale": "daily", "data_fraction": cell.fraction}
    labels |= {"model": "patchtst", "budget": str(cell.size), "seed": cell.seed} if cell.size else {"model": cell.name}
    labels |= {"axes": {"training.length.steps": cell.steps}} if cell.steps else {}
    training = {"training": {"global_batch": 64}} if cell.steps else {}
    task = {**TASK, "horizon": cell.horizon, "context": cell.context}
    ledger.append(
        CellRecorded(
            key=key, name=cell.name, cell_kind="model" if cell.size else "baseline", labels=labels, n_params=cell.size,
            sizes={"n_train": round(3000 * cell.fraction), "n_val": 600, "n_test": 600, "n_val_effective": 600},
            spec={"data": {**DATA, "fraction": cell.fraction}, "task": task, **training},
        )
    )  # fmt: skip
    ledger.append(AttemptStarted(key=key, attempt=1, execution={}))
    test = cell.loss + 0.005 if cell.test_loss is None else cell.test_loss
    skill, half = 1 - cell.loss / PRIOR, cell.half / PRIOR
    if cell.name == "prior":
        half = 0.0
    result = {
        "val_loss": cell.loss, "val_loss_low": cell.loss - cell.half, "val_loss_high": cell.loss + cell.half,
        "prior_loss": PRIOR, "skill": skill, "skill_low": skill - half, "skill_high": skill + half,
        "epochs": 8, "best_epoch": 6, "steps": cell.steps, "train_skill": cell.train_skill,
        "collapsed": cell.collapsed, "test_loss": test, "test_skill": 1 - test / (PRIOR + 0.005),
    }  # fmt: skip
    ledger.append(CellEnded(key=key, attempt=1, status="finished", result=result))


def verdict_of(root: Path, cells: Sequence[Made]) -> tuple[str, str]:
    (one,) = collect(write(root, cells)).verdicts
    return one.verdict, one.reason


def law(size: int) -> float:
    return 0.45 + 0.12 * (size / SIZES[0]) ** -0.3


def test_a_true_power_law_is_called_one_and_its_exponent_is_covered(tmp_path: Path) -> None:
    collected = collect(write(tmp_path, [*trials(law), *baselines(0.6, 0.58, 0.57)]))
    (one,) = collected.verdicts
    assert one.verdict == "power law"
    assert one.fit is not None
    low, high = one.fit.intervals["alpha"]
    assert low <= 0.3 <= high
    assert "holds on test" in one.reason


def test_three_sizes_identify_nothing(tmp_path: Path) -> None:
    word, reason = verdict_of(tmp_path, [*trials(law, SIZES[:3]), *baselines(0.6, 0.58, 0.57)])
    assert word == "not identifiable"
    assert "3 distinct sizes" in reason


def test_noise_labels_are_flat_without_signal_even_where_all_models_collapse(tmp_path: Path) -> None:
    for part, collapsed in enumerate((False, True)):
        cells = trials(lambda size: PRIOR + 0.002, collapsed=collapsed)
        word, reason = verdict_of(tmp_path / str(part), [*cells, *baselines(0.652, 0.66, 0.67)])
        assert word == "flat: no learnable signal"
        assert "0 of 15 trials" in reason
        assert "0 of 3 baselines" in reason


def test_one_lucky_seed_is_no_signal(tmp_path: Path) -> None:
    cells = trials(lambda size: PRIOR + 0.002)
    cells[4] = Made("lucky", PRIOR - 0.02, cells[4].size, cells[4].seed)
    assert verdict_of(tmp_path, [*cells, *baselines(0.652, 0.66, 0.67)])[0] == "flat: no learnable signal"


def test_collapsed_models_beside_skilled_baselines_are_an_optimisation_failure(tmp_path: Path) -> None:
    cells = trials(lambda size: PRIOR + 0.001, collapsed=True)
    word, reason = verdict_of(tmp_path, [*cells, *baselines(0.6, 0.55, 0.54)])
    assert word == "optimisation failure"
    assert "boosted_trees" in reason


@pytest.mark.parametrize("beside", [(0.6, 0.55, 0.54), (0.652, 0.66, 0.67)])
def test_collapse_at_different_speeds_is_never_inverse_scaling(tmp_path: Path, beside: tuple[float, ...]) -> None:
    """Larger models sat nearer to the prior because they got there faster; that was once published as a finding."""
    cells = trials(lambda size: PRIOR - 0.04 + 0.007 * np.log(size / SIZES[0]), collapsed=True)
    word, _ = verdict_of(tmp_path, [*cells, *baselines(*beside)])
    assert word in ("optimisation failure", "not identifiable", "flat: no learnable signal")


def test_inverse_scaling_that_rests_on_collapsed_trials_does_not_stand(tmp_path: Path) -> None:
    fine = trials(lambda size: 0.5, SIZES[:3])
    gone = trials(lambda size: 0.5 + 0.05 * np.log(size / SIZES[2]), SIZES[3:], collapsed=True)
    word, reason = verdict_of(tmp_path, [*fine, *gone, *baselines(0.55, 0.54, 0.53)])
    assert word == "not identifiable"
    assert "without collapsed" in reason


def test_inverse_scaling_of_sound_trials_is_said(tmp_path: Path) -> None:
    cells = trials(lambda size: 0.5 + 0.01 * np.log(size / SIZES[0]))
    assert verdict_of(tmp_path, [*cells, *baselines(0.55, 0.54, 0.53)])[0] == "inverse"


def test_a_law_on_validation_alone_does_not_stand(tmp_path: Path) -> None:
    cells = [Made(c.name, c.loss, c.size, c.seed, test_loss=0.5 + 1e-4 * c.seed) for c in trials(law)]
    word, reason = verdict_of(tmp_path, [*cells, *baselines(0.6, 0.58, 0.57)])
    assert word == "not identifiable"
    assert "test" in reason


def test_one_seed_gives_no_direction_and_no_law(tmp_path: Path) -> None:
    """A single seed adds no seed noise: intervals missed 0 in a fifth of sweeps without any change."""
    for name, loss in (("law", law), ("same", lambda size: 0.5), ("rise", lambda size: 0.4 + 0.01 * np.log(size))):
        cells = [cell for cell in trials(loss) if cell.seed == 0]
        (one,) = collect(write(tmp_path / name, [*cells, *baselines(0.6, 0.58, 0.57)])).verdicts
        assert (one.verdict, one.direction, one.form) == ("not identifiable", "can't tell", "form not identified")
        assert "fewer than 2 seeds" in one.reason
        assert "grid.seed: [0, 1]" in one.reason
        assert "(no interval)" in one.changes


def test_three_sizes_have_a_direction(tmp_path: Path) -> None:
    (one,) = collect(write(tmp_path, [*trials(law, SIZES[:3]), *baselines(0.6, 0.58, 0.57)])).verdicts
    assert (one.verdict, one.direction, one.form) == ("not identifiable", "falls", "form not identified")
    assert one.fits == {}


def test_a_turn_is_said_and_no_direction_is_read_into_it(tmp_path: Path) -> None:
    losses = dict(zip(SIZES, (0.50, 0.47, 0.45, 0.47, 0.5001), strict=True))
    (one,) = collect(write(tmp_path, [*trials(lambda size: losses[size]), *baselines(0.6, 0.58, 0.57)])).verdicts
    assert (one.verdict, one.direction, one.form) == ("not identifiable", "can't tell", "turns")
    assert "lowest at 800,000" in one.reason


def test_equal_losses_are_flat(tmp_path: Path) -> None:
    assert verdict_of(tmp_path, [*trials(lambda size: 0.5), *baselines(0.55, 0.54, 0.53)])[0] == "flat"


def test_data_fractions_make_a_second_variable(tmp_path: Path) -> None:
    cells = [
        Made(f"{size}-{fraction}", law(size) + 0.05 * fraction**-0.4, size, 0, fraction=fraction)
        for size in SIZES
        for fraction in (0.25, 0.5, 0.75, 1.0)
    ]
    (one,) = collect(write(tmp_path, [*cells, *baselines(0.7, 0.69, 0.6)])).verdicts
    assert one.fit is not None
    assert "D^beta" in one.fit.form


def test_lengths_make_a_second_variable_for_all_series_together(tmp_path: Path) -> None:
    """L = E + A/N^0.3 + B/D^0.4, one series a length. A trial that collapsed is left out; two lengths are too few."""
    cells = [
        Made(f"{size}-{steps}", law(size) + 0.05 * (steps / 100) ** -0.4, size, steps=steps)
        for size in SIZES
        for steps in (100, 200, 400)
    ]
    gone = replace(cells[0], name="gone", seed=2, loss=PRIOR, collapsed=True)
    collected = collect(write(tmp_path, [*cells, gone, *baselines(0.7, 0.69, 0.6)]))
    assert len(collected.verdicts) == 3, "one for each length"
    (joint,) = (one for one in collected.fits if one.variable == LENGTH)
    assert joint.place == f"horizon 1, all lengths: validation, {SOUND}"
    assert joint.fit.n_points == len(cells)
    assert joint.fit.parameters["alpha"] == pytest.approx(0.3, abs=0.02)
    assert joint.fit.parameters["beta"] == pytest.approx(0.4, abs=0.02)
    few = collect(write(tmp_path / "few", [cell for cell in cells if cell.steps != 200]))
    assert LENGTH not in {one.variable for one in few.fits}


def test_series_are_pooled_with_an_offset_each(tmp_path: Path) -> None:
    near = trials(law)
    far = [replace(cell, name=f"far-{cell.name}", loss=cell.loss + 0.05, horizon=5) for cell in trials(law)]
    losses = (0.6, 0.58, 0.57)
    others = [replace(one, name=one.name, horizon=5, half=0.011) for one in baselines(*losses)]
    collected = collect(write(tmp_path, [*near, *far, *baselines(*losses), *others]))
    assert [one.verdict for one in collected.verdicts] == ["power law", "power law"]
    fit = collected.fits[-1].fit
    assert collected.fits[-1].place == "all of these pooled, each with an E of its own"
    assert fit.n_points == 30
    assert fit.irreducible["horizon 5"] - fit.irreducible["horizon 1"] == pytest.approx(0.05, abs=0.01)
    low, high = fit.intervals["alpha"]
    assert low <= 0.3 <= high
    assert fit.extrapolation is not None
    assert abs(fit.extrapolation.relative_error) < 0.01
    text = render.markdown(page.make(collected, ()), "figures")
    assert re.search(r"pooled, .* horizon 1 0\.44\d\d, horizon 5 0\.49\d\d \|", text)


def test_one_series_is_not_pooled(tmp_path: Path) -> None:
    collected = collect(write(tmp_path, [*trials(law), *baselines(0.6, 0.58, 0.57)]))
    assert [one.place for one in collected.fits] == [
        "horizon 1: validation, all trials",
        "horizon 1: test, all trials",
    ]


def test_what_remains_without_marked_trials_is_told_and_decides_nothing(tmp_path: Path) -> None:
    early = [replace(cell, train_skill=0.9 if cell.seed == 0 else 0.0) for cell in trials(law)]
    word, reason = verdict_of(tmp_path / "some", [*early, *baselines(0.6, 0.58, 0.57)])
    assert word == "power law"
    assert "without the 5 trials that are under-trained or over-fitted validation says 'falls, power law'" in reason
    all_early = [replace(cell, train_skill=0.9) for cell in trials(law)]
    word, reason = verdict_of(tmp_path / "all", [*all_early, *baselines(0.6, 0.58, 0.57)])
    assert word == "power law"
    assert "too few sizes remain" in reason


def test_predictions_give_shared_resamples(tmp_path: Path) -> None:
    """All trials share the validation period: its luck moves the level of the losses, hardly their differences."""
    cells = [*trials(law), *baselines(0.6, 0.58, 0.57)]
    paths = write(tmp_path, cells)
    paths.predictions.mkdir()
    random = np.random.default_rng(0)
    signal, dates = random.normal(size=600), pd.date_range("2015-01-01", periods=600, freq="B")
    label = (random.random(600) < 1 / (1 + np.exp(-signal))).astype("float32")
    for number, cell in enumerate(cells):
        quality = (PRIOR - cell.loss) * 5
        for_split = pd.DataFrame({"date": dates, "asset": "x", "label": label, "logit": quality * signal})
        parts = [for_split.assign(split=split) for split in ("validation", "test")]
        pd.concat(parts).to_parquet(paths.prediction(f"{number:012x}"))
    (one,) = collect(paths).verdicts
    assert one.fit is not None
    change = one.fit.direction.change
    assert change.low < change.value < change.high < 0  # type: ignore[operator]
    assert "1,000 resamples of blocks of the period" in one.changes
    paths.prediction(f"{3:012x}").unlink()
    (without,) = collect(paths).verdicts
    assert "without the sampling of the period, as predictions of 1 of 15 trials are missing" in without.changes


def test_the_report_opens_with_the_verdict_and_lists_baselines(tmp_path: Path) -> None:
    paths = write(tmp_path, [*trials(law), *baselines(0.6, 0.58, 0.57)])
    report = build(paths)
    html = report.html.read_text(encoding="utf-8")
    first = html.index("Horizon 1: falls with size, the change from 50,000 to 12,800,000 parameters is")
    assert first < html.index("trials finished")
    assert "boosted_trees" in html
    assert "earlier grid" not in html  # baselines are no cells of one
    assert "the shaded band" in html
    assert html.index("Power law: L = E + A/N^alpha") > first
    opening = report.markdown.read_text(encoding="utf-8").replace("\\", "")[:800]
    assert "Horizon 1: falls with size" in opening
    assert "Power law: L" in opening


def test_a_run_without_an_end_has_no_verdict_yet(run: Callable[..., RunPaths]) -> None:
    collected: Collected = collect(run([run.cell("50k", 1, fate="running")]))  # type: ignore[attr-defined]
    assert collected.verdicts == ()


def test_without_baselines_of_the_same_inputs_nothing_is_said_about_what_there_is_to_learn(tmp_path: Path) -> None:
    beside = [*trials(lambda _: PRIOR), *baselines(0.70, 0.71, 0.72)]
    assert verdict_of(tmp_path / "beside", beside)[0] == "flat: no learnable signal"
    elsewhere = [*trials(lambda _: PRIOR, context=20), *baselines(0.50, 0.51, 0.52)]
    verdict, reason = verdict_of(tmp_path / "elsewhere", elsewhere)
    assert verdict == "not identifiable"
    assert "no baseline has these inputs" in reason
