from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from runner import baselines
from runner.config import sweep_file
from runner.planning import plan as planning
from runner.planning.plan import Plan
from runner.report import page
from runner.report.analysis.trials import baselines_of
from runner.rundir import ledger, results
from runner.rundir.ledger import SweepStarted
from runner.rundir.recorder import Recorder
from trainables.data import catalog, windows
from trainables.schema import MetricSpec

SWEEP = """\
name: tiny
data: {source: sp500, tier: ohlcv}
task: {kind: threshold, context: 20}
model: {name: mlp}
training: {epochs: 1, global_batch: 128, lr: 1.0e-3}
grid: {budget: [20k, 40k], horizon: [1, 200], seed: [0]}
execution: {device: cpu, threads: 1}
thermal: {require_sensors: false}
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    return planning.build(sweep_file.load(Path("tiny.yaml"), (), tracking=False))


def started(plan: Plan, recorder: Recorder) -> None:
    keys = tuple(cell.key for cell in plan.grid.cells)
    recorder.record(SweepStarted(run="tiny", keys=keys, config={}, code_version="", versions={}))
    for cell in plan.grid.cells:
        spec = cell.spec.model_dump(mode="json")
        recorder.record(
            ledger.CellRecorded(key=cell.key, name=cell.name, labels=cell.labels, sizes=cell.sizes, spec=spec)
        )


def test_each_feasible_task_gets_its_baselines_once(plan: Plan) -> None:
    assert len(baselines.of(plan)) == 4  # two budgets share them, horizon 200 is infeasible
    recorder = Recorder(plan.paths)
    started(plan, recorder)
    for _ in range(2):
        baselines.run(plan, recorder, Path("data"))
    recorder.close()
    view = ledger.read(plan.paths.ledger)
    states = results.baseline_states(view)
    assert [len(state.attempts) for state in states] == [1] * 4
    table = results.frame(view)
    rows = table[table["kind"] == "baseline"].set_index("model")
    assert set(rows.index) == {"prior", "volatility", "linear", "boosted_trees"}
    assert rows["budget"].isna().all()
    assert rows["n_params"].isna().all()
    assert (rows["status"] == "finished").all()
    assert rows.loc["prior", "skill"] == pytest.approx(0)
    assert rows.loc["volatility", "skill_low"] > 0  # a threshold label is about volatility
    assert rows["test_loss"].notna().all()
    assert all(plan.paths.prediction(key).exists() for key in rows["key"])


def test_keys_follow_the_data_and_task_alone(plan: Plan) -> None:
    keys = {baseline.name: baseline.key for baseline in baselines.of(plan)}
    assert len(set(keys.values())) == 4
    (Path("tiny.yaml")).write_text(SWEEP.replace("epochs: 1", "epochs: 2"))
    again = planning.build(sweep_file.load(Path("tiny.yaml"), (), tracking=False))
    assert {baseline.name: baseline.key for baseline in baselines.of(again)} == keys
    (Path("tiny.yaml")).write_text(SWEEP.replace("context: 20", "context: 30"))
    other = planning.build(sweep_file.load(Path("tiny.yaml"), (), tracking=False))
    assert not set(keys.values()) & {baseline.key for baseline in baselines.of(other)}


def test_baselines_of_an_earlier_grid_are_left_out(plan: Plan) -> None:
    recorder = Recorder(plan.paths)
    started(plan, recorder)
    baselines.run(plan, recorder, Path("data"))
    recorder.record(SweepStarted(run="tiny", keys=(), config={}, code_version="", versions={}))
    recorder.close()
    assert results.frame(ledger.read(plan.paths.ledger)).empty


def test_where_trials_choose_an_epoch_baselines_are_judged_on_the_same_rest_of_validation(plan: Plan) -> None:
    whole = {baseline.name: baseline.key for baseline in baselines.of(plan)}
    Path("tiny.yaml").write_text(SWEEP.replace("epochs: 1", "epochs: 1, judged_epoch: best"))
    split = planning.build(sweep_file.load(Path("tiny.yaml"), (), tracking=False))
    assert not set(whole.values()) & {baseline.key for baseline in baselines.of(split)}
    recorder = Recorder(split.paths)
    started(split, recorder)
    baselines.run(split, recorder, Path("data"))
    recorder.close()
    cell = split.grid.cells[0]
    data = windows.build(catalog.load(cell.entry, Path("data")), cell.spec.data, cell.spec.task, torch.device("cpu"))
    for baseline in baselines.of(split):
        frame = pd.read_parquet(split.paths.prediction(baseline.key))
        judged = frame[frame["split"] == "validation"]
        assert np.array_equal(judged["date"].to_numpy(), data.validation.dates_N)
        loss = (np.logaddexp(0, judged["logit"]) - judged["logit"] * judged["label"]).mean()
        result = recorder.view.cells[baseline.key].ended.result
        assert result["val_loss"] == pytest.approx(loss)


def test_metrics_of_a_sweep_are_in_results_and_report(plan: Plan) -> None:
    recorder = Recorder(plan.paths)
    started(plan, recorder)
    baselines.run(plan, recorder, Path("data"), [MetricSpec(name="hit_rate")])
    recorder.close()
    view = ledger.read(plan.paths.ledger)
    table = results.write(view, plan.paths).set_index("model")
    for split in ("val", "test"):
        low, value, high = (table[f"metric:{split}_hit_rate{end}"] for end in ("_low", "", "_high"))
        assert ((low <= value) & (value <= high)).all()
    [prior] = [trial for trial in baselines_of(view) if trial.group.model == "prior"]
    assert dict(prior.metrics)["val_hit_rate"].value == table.loc["prior", "metric:val_hit_rate"]
    shown = page._trial_table(baselines_of(view))
    names = [column.name for column in shown.columns]
    assert shown.rows[0][names.index("val_hit_rate [95 %]")].startswith("0.")
