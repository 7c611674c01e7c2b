"""A sweep of 3 folds x 2 thresholds x 2 horizons: all that its report says, recomputed from predictions on disk.

Baselines are real; trials are predictors of known strength on the real windows. What belongs together is found by the
windows' dates and labels alone, never by the specifications that the report goes by.
"""

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import optimal_block_length
from matplotlib.colors import to_hex

from runner import baselines
from runner.config import sweep_file
from runner.planning import plan as planning
from runner.planning.data_rules import RULES
from runner.planning.plan import Plan
from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.contrasts import contrasts
from runner.report.analysis.trials import Estimate, Trial, trials_of
from runner.report.analysis.verdict import beside, verdicts
from runner.report.build import ReportFiles, build
from runner.report.figures import drawing
from runner.report.page import OWN_RATE
from runner.rundir import ledger
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, MetricsRecorded, SweepStarted
from runner.rundir.paths import RunPaths
from runner.rundir.recorder import Recorder
from runner.tracking import fields
from trainables.data import catalog
from trainables.data.window_index import index_windows

SWEEP = """\
name: many
data: {source: sp500, tier: ohlcv, splits: {train: 0.5, validation: 0.15, test: 0.15, folds: 3}}
task: {kind: threshold, context: 20}
model: {name: mlp}
training: {epochs: 1, global_batch: 128, lr: 1.0e-3}
grid:
  budget: [20k, 40k]
  horizon: [1, 5]
  seed: [0, 1]
  data.splits.fold: [0, 1, 2]
  task.threshold: [0.007, 0.01]
execution: {device: cpu, threads: 1}
thermal: {require_sensors: false}
"""
PLACES = list(itertools.product((1, 5), (0, 1, 2), (0.007, 0.01)))
Place = tuple[int, int, float]


@dataclass
class Made:
    """The run, its report, what was drawn, and each key's predictions by split."""

    paths: RunPaths
    plan: Plan
    collected: Collected
    report: ReportFiles
    figures: list[tuple[str, Any]]
    predictions: dict[str, dict[str, pd.DataFrame]]

    def loss(self, key: str, split: str = "validation") -> float:
        return float(losses(self.predictions[key][split]).mean())

    def judged(self, key: str) -> tuple[bytes, bytes]:
        """The windows and their labels: what a loss is a loss of."""
        frame = self.predictions[key]["validation"]
        dates = frame["date"].to_numpy().astype("datetime64[ns]")
        return dates.tobytes(), frame["label"].to_numpy(dtype=np.float64).tobytes()

    def at(self, place: Place) -> list[Trial]:
        """The trials of one place, by what the sweep file asked for."""
        horizon, fold, threshold = place
        keys = {
            cell.key
            for cell in self.plan.grid.cells
            if (cell.spec.task.horizon, cell.spec.data.splits.fold, cell.spec.task.threshold)
            == (horizon, fold, threshold)
        }
        return [trial for trial in self.collected.trials if trial.key in keys]

    def baselines_of(self, place: Place) -> dict[str, str]:
        """Keys of the baselines that were judged on a place's windows and labels, by model."""
        asked = self.judged(self.at(place)[0].key)
        return {one.group.model: one.key for one in self.collected.baselines if self.judged(one.key) == asked}


def losses(frame: pd.DataFrame) -> np.ndarray:
    probability = 1 / (1 + np.exp(-frame["logit"].to_numpy(dtype=np.float64)))
    return -np.log(np.where(frame["label"] == 1, probability, 1 - probability))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    before, folder = Path.cwd(), tmp_path_factory.mktemp("many")
    os.chdir(folder)
    try:
        Path("many.yaml").write_text(SWEEP)
        plan = planning.build(sweep_file.load(Path("many.yaml"), (), tracking=False))
        recorder = Recorder(plan.paths)
        write_trials(plan, recorder)
        baselines.run(plan, recorder, Path("data"))
        recorder.close()
        figures: list[tuple[str, Any]] = []
        with pytest.MonkeyPatch.context() as patch:
            finish = drawing.finish

            def spy(figure: Any, title: str, *rest: Any) -> bytes:
                figures.append((title, figure))
                return finish(figure, title, *rest)

            collected: list[Collected] = []
            patch.setattr(drawing, "finish", spy)
            patch.setattr("runner.report.build.collect", lambda paths: collected.append(collect(paths)) or collected[0])
            report = build(plan.paths)
        known = {}
        for path in plan.paths.predictions.glob("*.parquet"):
            frame = pd.read_parquet(path).sort_values(["split", "date"])
            known[path.stem] = {str(split): part for split, part in frame.groupby("split")}
        yield Made(RunPaths(plan.paths.root.resolve()), plan, collected[0], report, figures, known)
    finally:
        os.chdir(before)


def write_trials(plan: Plan, recorder: Recorder) -> None:
    """Each trial's logits: a signal that the larger size sees better, and noise of its seed."""
    plan.paths.predictions.mkdir(parents=True)
    keys = tuple(cell.key for cell in plan.grid.cells)
    recorder.record(SweepStarted(run="many", keys=keys, config={}, code_version="", versions={}))
    dataset = catalog.load(plan.grid.cells[0].entry, Path("data"))
    for number, cell in enumerate(plan.grid.cells):
        labels = {**cell.labels, "axes": cell.axes}
        spec = cell.spec.model_dump(mode="json")
        recorder.record(
            CellRecorded(
                key=cell.key, name=cell.name, labels=labels, sizes=cell.sizes, spec=spec, n_params=cell.counts.total
            )
        )
        recorder.record(AttemptStarted(key=cell.key, attempt=1, execution={}))
        index = index_windows(dataset, cell.spec.data, cell.spec.task)
        rate = float(index.splits["train"].labels_N.mean())
        frames, result = [], {"epochs": 2, "best_epoch": 1, "collapsed": False}
        for split, prefix in (("validation", "val"), ("test", "test")):
            part = index.splits[split]
            seen = np.random.default_rng(len(part.labels_N)).normal(size=len(part.labels_N)) + part.labels_N
            blur = np.random.default_rng(number).normal(size=len(part.labels_N))
            strength = 0.5 if cell.labels["budget"] == "20k" else 0.9
            logit = np.log(rate / (1 - rate)) - 0.3 + strength * (seen - rate) + 0.2 * blur
            one = pd.DataFrame({"date": part.dates_N, "asset": part.assets_N, "split": split, "label": part.labels_N})
            frames.append(one.assign(logit=logit))
            loss = float(losses(frames[-1]).mean())
            prior = float(losses(one.assign(logit=np.log(rate / (1 - rate)))).mean())
            values = {"loss": loss, "loss_low": loss - 0.02, "loss_high": loss + 0.02}
            result |= {f"{prefix}_{name}": value for name, value in values.items()}
            if prefix == "val":
                skill = 1 - loss / prior
                result |= {"prior_loss": prior, "skill": skill, "skill_low": skill - 0.01, "skill_high": skill + 0.01}
        pd.concat(frames).to_parquet(plan.paths.prediction(cell.key), index=False)
        for step in (1, 2):
            value = {"val_loss": result["val_loss"] + 0.01 * step}
            recorder.record(MetricsRecorded(key=cell.key, attempt=1, step=27 * step, epoch=step, values=value))
        recorder.record(CellEnded(key=cell.key, attempt=1, status="finished", result=result))


def test_every_question_has_its_own_baselines_and_no_others(made: Made) -> None:
    assert len({made.judged(trial.key) for trial in made.collected.trials}) == len(PLACES)
    assert len(made.collected.baselines) == 4 * len(PLACES)
    for place in PLACES:
        expected = made.baselines_of(place)
        assert set(expected) == {"prior", "volatility", "linear", "boosted_trees"}
        for trial in made.at(place):
            near = {one.group.model: one.key for one in beside(trial, made.collected.baselines)}
            assert near == {name: key for name, key in expected.items() if name != "prior"}
    for one in (*made.collected.trials, *made.collected.baselines):
        assert one.val_loss.value == pytest.approx(made.loss(one.key), abs=1e-6)
        assert one.test_loss == pytest.approx(made.loss(one.key, "test"), abs=1e-6)


def test_names_hold_the_axes_and_are_distinct_in_the_trackers_too(made: Made) -> None:
    states = list(ledger.read(made.paths.ledger).cells.values())
    assert len({state.cell.name for state in states}) == len(states)
    for place in PLACES:
        horizon, fold, threshold = place
        for model, key in made.baselines_of(place).items():
            state = next(state for state in states if state.cell.key == key)
            assert state.cell.name == f"{model}-h{horizon}-fold={fold}-threshold={threshold}"
            known = fields.labels(state)
            assert (known["horizon"], known["data.splits.fold"], known["task.threshold"]) == place


def panels(made: Made, start: str) -> dict[Place, Any]:
    """Axes of the figures of one kind by place, as their titles say."""
    found = {}
    for title, figure in made.figures:
        if title.startswith(start):
            for axis in figure.axes:
                words = f"{title}, {axis.get_title(loc='left')}"
                horizon = re.search(r"horizon (\d)", words)
                fold, threshold = re.search(r"fold (\d)", words), re.search(r"threshold ([\d.]+)", words)
                assert horizon is not None, words
                assert fold is not None, words
                assert threshold is not None, words
                found[int(horizon[1]), int(fold[1]), float(threshold[1])] = axis
    return found


def level_lines(axis: Any, colour: str) -> list[float]:
    """Heights of the horizontal lines of one colour across a panel."""
    lines = [line for line in axis.lines if list(line.get_xdata()) == [0, 1] and to_hex(line.get_color()) == colour]
    return sorted(float(line.get_ydata()[0]) for line in lines)


def test_each_panel_of_the_loss_draws_its_own_baselines_and_means(made: Made) -> None:
    found = panels(made, "Validation loss against parameters")
    assert sorted(found) == sorted(PLACES)
    for place, axis in found.items():
        keys = made.baselines_of(place)
        prior = made.loss(keys.pop("prior"))
        assert level_lines(axis, drawing.GREY) == pytest.approx(
            sorted(made.loss(key) for key in keys.values()), abs=1e-6
        )
        assert level_lines(axis, drawing.INK) == pytest.approx([prior], abs=1e-6)
        means = next(line for line in axis.lines if line.get_markersize() == drawing.MEAN_LINE["ms"])
        expected = [np.mean([made.loss(t.key) for t in made.at(place) if t.budget == b]) for b in ("20k", "40k")]
        assert list(means.get_ydata()) == pytest.approx(expected, abs=1e-6)
        low, high = axis.get_ylim()
        assert all(low < made.loss(key) < high for key in keys.values()), "a baseline is not visible"


def test_each_cell_of_the_heat_maps_is_a_recomputed_skill(made: Made) -> None:
    seen = 0
    for title, figure in made.figures:
        for axis in figure.axes if title.startswith("AUC and skill") else ():
            words = axis.get_title(loc="left")
            if not words.startswith("skill"):
                continue
            fold, threshold = re.search(r"fold (\d)", words), re.search(r"threshold ([\d.]+)", words)
            assert fold is not None
            assert threshold is not None
            rows = [label.get_text() for label in axis.get_yticklabels()]
            columns = [int(label.get_text()) for label in axis.get_xticklabels()]
            for text in axis.texts:
                x, y = text.get_position()
                place = (columns[round(x)], int(fold[1]), float(threshold[1]))
                keys = made.baselines_of(place)
                row = rows[round(y)].replace(" ", "_")
                own = [keys[row]] if row in keys else [t.key for t in made.at(place) if t.budget == row]
                skill = np.mean([1 - made.loss(key) / made.loss(keys["prior"]) for key in own])
                shown = float(text.get_text().split("\n")[0].rstrip(" *").replace("\N{MINUS SIGN}", "-"))
                assert shown == pytest.approx(100 * skill, abs=0.06)
                seen += 1
    assert seen == len(PLACES) * 5  # two sizes and three baselines


def test_calibration_and_learning_curves_are_those_of_their_panels(made: Made) -> None:
    reliability, curves = panels(made, "Calibration"), panels(made, "Learning curves")
    assert sorted(reliability) == sorted(curves) == sorted(PLACES)
    for place in PLACES:
        drawn = [line for line in reliability[place].lines if line.get_marker() not in ("None", "", None)]
        for budget, line in zip(("20k", "40k"), drawn, strict=True):
            frames = [made.predictions[t.key]["validation"] for t in made.at(place) if t.budget == budget]
            known = pd.concat(frames).assign(p=lambda one: 1 / (1 + np.exp(-one["logit"])))
            edges = np.quantile(known["p"], np.linspace(0, 1, len(line.get_ydata()) + 1))
            bins = np.clip(np.searchsorted(edges, known["p"], side="right") - 1, 0, len(edges) - 2)
            assert list(line.get_ydata()) == pytest.approx(list(known.groupby(bins)["label"].mean()), abs=1e-6)
        ends = sorted(line.get_ydata()[-1] for line in curves[place].lines if line.get_marker() == ".")
        assert ends == pytest.approx(sorted(made.loss(t.key) + 0.02 for t in made.at(place)), abs=1e-6)
        assert level_lines(curves[place], drawing.INK) == pytest.approx([made.at(place)[0].prior_loss], abs=1e-6)


def recomputed(made: Made, place: Place, names: dict[str, list[str]], pairs: list[tuple[str, str]], split: str) -> Any:
    """Value, interval alone and joint half width of each pair: an independent two-level bootstrap."""
    known = {key: losses(made.predictions[key][split]) for keys in names.values() for key in keys}
    n, repeats, random = len(next(iter(known.values()))), 1000, np.random.default_rng(99)
    means = {name: np.mean([known[key] for key in keys], axis=0) for name, keys in names.items()}
    lengths = [optimal_block_length(means[a] - means[b])["circular"].iloc[0] for a, b in pairs]
    block = int(min(max(place[0], *np.ceil(lengths)), n // 3))
    starts = random.integers(n, size=(repeats, -(-n // block)))
    rows = ((starts[:, :, None] + np.arange(block)) % n).reshape(repeats, -1)[:, :n]
    drawn = {}
    for name, keys in names.items():
        each = np.stack([known[key][rows].mean(axis=1) for key in keys], axis=1)
        m = len(keys)
        if m > 1:
            centre = each.mean(axis=1, keepdims=True)
            picks = random.integers(m, size=each.shape)
            each = centre + np.take_along_axis(each - centre, picks, axis=1) * np.sqrt(m / (m - 1))
        drawn[name] = each.mean(axis=1)
    differences = {pair: drawn[pair[0]] - drawn[pair[1]] for pair in pairs}
    values = {pair: float((means[pair[0]] - means[pair[1]]).mean()) for pair in pairs}
    spread = {pair: one.std() for pair, one in differences.items()}
    largest = np.max([np.abs(one - values[pair]) / spread[pair] for pair, one in differences.items()], axis=0)
    reach = np.quantile(largest, 0.95)
    return {pair: (values[pair], np.percentile(one, [2.5, 97.5]), reach * spread[pair])
            for pair, one in differences.items()}  # fmt: skip


def test_every_paired_difference_is_that_of_the_predictions(made: Made) -> None:
    found = contrasts(made.paths, made.collected.view, made.collected.trials, made.collected.baselines)
    over_folds = [one for one in found if one.place.endswith("3 folds as one")]
    found = [one for one in found if one not in over_folds]
    assert [one.kind for one in found] == ["baselines", "sizes"] * len(PLACES)
    by_fold: dict[tuple[str, str, str, str], list[float]] = {}
    for number, place in enumerate(sorted(PLACES)):
        names = {b: [t.key for t in made.at(place) if t.budget == b] for b in ("20k", "40k")}
        others = {model.replace("_", " "): [key] for model, key in made.baselines_of(place).items() if model != "prior"}
        for one in found[2 * number : 2 * number + 2]:
            words = f"horizon {place[0]}, data.splits.fold {place[1]}, task.threshold {place[2]}"
            assert one.place == words
            pairs = [(a, b) for a in names for b in others] if one.kind == "baselines" else [("40k", "20k")]
            for split in ("validation", "test"):
                expected = recomputed(made, place, names | others, pairs, split)
                assert {(d.first, d.second) for d in one.families[split].differences} == set(pairs)
                for pair in one.families[split].differences:
                    value, alone, half = expected[pair.first, pair.second]
                    assert pair.value == pytest.approx(value, abs=1e-6)
                    width = alone[1] - alone[0]
                    assert pair.alone == pytest.approx(tuple(alone), abs=0.2 * width)
                    assert pair.high - pair.value == pytest.approx(half, rel=0.25)
                    whole = f"horizon {place[0]}, task.threshold {place[2]}, 3 folds as one"
                    by_fold.setdefault((whole, split, pair.first, pair.second), []).append(value)
    pooled = {
        (one.place, split, pair.first, pair.second): pair.value
        for one in over_folds
        for split, family in one.families.items()
        for pair in family.differences
    }
    assert pooled == pytest.approx({name: float(np.mean(values)) for name, values in by_fold.items()}, abs=1e-6)


def test_every_sentence_follows_its_interval(made: Made) -> None:
    text = made.report.markdown.read_text(encoding="utf-8").replace("\N{MINUS SIGN}", "-").replace("\\", "")
    words = {True: 0, False: 0}
    for place in PLACES:
        head = f"Horizon {place[0]}, data.splits.fold {place[1]}, task.threshold {place[2]}: "
        told = [line.removeprefix(head) for line in text.splitlines() if line.startswith(head)]
        about = {"baseline" if "baseline" in line else "sizes": line for line in told}
        assert set(about) == {"baseline", "sizes"}
        keys = {name: key for name, key in made.baselines_of(place).items() if name != "prior"}
        sizes = {b: np.mean([made.loss(t.key) for t in made.at(place) if t.budget == b]) for b in ("20k", "40k")}
        best, rival = min(sizes.values()), min(made.loss(key) for key in keys.values())
        for line in about.values():
            interval = re.search(r"([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]", line)
            assert interval
            value, low, high = map(float, interval.groups())
            apart = low > 0 or high < 0
            words[apart] += 1
            assert ("cannot be distinguished" not in line) == apart, line
            if line is about["baseline"]:
                assert f"{best:.4f} against {rival:.4f} nats" in line
                assert value == pytest.approx(best - rival, abs=1.1e-4)
                assert not apart or ("beats every" in line or "beats the best" in line)
            else:
                assert value == pytest.approx(sizes["40k"] - sizes["20k"], abs=1e-4)
    assert min(words.values()) > 0, "both kinds of sentences are to be seen"


def test_the_loss_at_the_splits_own_rate_is_shown_under_the_name_that_the_warning_gives(made: Made) -> None:
    warning = next(rule.fix for rule in RULES if rule.key == "base_rate")
    assert f"loss at the {OWN_RATE} (val_own_rate_loss)" in warning
    table = made.report.markdown.read_text(encoding="utf-8").partition("## All trials")[2]
    head, _, *rows = [line.split(" | ") for line in table.splitlines() if line.startswith("|")]
    column = head.index(f"loss at the {OWN_RATE} (nats)")
    shown = {row[head.index("key")].strip("` "): row[column] for row in rows if len(row) == len(head)}
    for one in made.collected.baselines:
        rate = made.predictions[one.key]["validation"]["label"].mean()
        assert float(shown[one.key]) == pytest.approx(-rate * np.log(rate) - (1 - rate) * np.log(1 - rate), abs=6e-5)


def test_figures_say_that_their_panels_ask_different_questions(made: Made) -> None:
    text = made.report.markdown.read_text(encoding="utf-8")
    assert text.count("ask different questions: compare within a panel.") == 2 + 2  # losses and heat maps, two each


def test_a_cell_from_before_a_setting_was_an_axis_is_still_told_by_it(made: Made) -> None:
    """A ledger holds a cell's labels as they were when it was first recorded."""
    view = ledger.read(made.paths.ledger)
    for key in made.collected.view.current_keys[:4]:
        state = view.cells[key]
        state.cell = state.cell.model_copy(update={"labels": {**state.cell.labels, "axes": {}}})
    assert [trial.group for trial in trials_of(view)] == [trial.group for trial in made.collected.trials]


def test_a_verdict_is_not_formed_by_the_baselines_of_another_question(made: Made) -> None:
    """Collapsed models at one threshold where no baseline has skill are no optimisation failure by another's."""
    view, trials = made.collected.view, [replace(one, collapsed=True) for one in made.collected.trials]
    mute = Estimate(0.0, -0.1, 0.1)
    others = [
        replace(one, skill=mute) if "task.threshold', '0.007'" in str(one.group.axes) else one
        for one in made.collected.baselines
    ]
    trials = [replace(one, skill=mute) for one in trials]
    loud = {one.place for one in others if one.group.model != "prior" and (one.skill.low or 0) > 0}
    judged = verdicts(made.paths, view, trials, others)
    assert len(judged) == len(PLACES)
    for one in judged:
        failed = one.verdict == "optimisation failure"
        assert failed <= (one.series.trials[0].place in loud)
        if dict(one.group.axes)["task.threshold"] == "0.007":
            assert not failed
    assert any(one.verdict == "optimisation failure" for one in judged)
