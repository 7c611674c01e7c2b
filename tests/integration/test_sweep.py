"""The main job for real: Ray Tune, real bars, the ledger, a second run, a larger grid, signals and kills."""

import json
import signal
import time

import pandas as pd
import pytest
from mlflow import MlflowClient

from runner.rundir.results import COLUMNS
from tests.integration.workplace import LONGER, SWEEP, Descendants, Workplace, same, wait_for

pytestmark = pytest.mark.timeout(1200)


def test_a_sweep_from_start_to_end_again_and_grown(workplace: Workplace) -> None:
    first = workplace.run("sweep", "sweep.yaml", "--no-tracking")
    assert "small: 2 finished" in first.stdout
    assert "report.html" in first.stdout
    run = workplace.folder / "runs" / "small"
    for name in ("sweep.yaml", "resolved.json", "ledger.jsonl", "results.csv", "report.html", "report.md"):
        assert (run / name).stat().st_size > 0, name
    table = workplace.results()
    assert set(COLUMNS) <= {"name", *table.columns}
    assert list(table["status"]) == ["finished", "finished"]
    assert table["n_params"].between([19_600, 58_800], [20_400, 61_200]).all()
    assert (table["val_loss_low"] < table["val_loss"]).all()
    assert (table["val_loss"] < table["val_loss_high"]).all()
    for key in table["key"]:
        predictions = pd.read_parquet(run / "predictions" / f"{key}.parquet")
        assert list(predictions.columns) == ["date", "asset", "split", "label", "logit"]
        assert set(predictions["split"]) == {"validation", "test"}

    status = json.loads(workplace.run("status", "small", "--json").stdout)
    assert status["state"] == "ended"
    assert status["counts"] == {"finished": 2}

    again = workplace.run("sweep", "sweep.yaml", "--no-tracking")
    assert "nothing to run" in again.stdout
    assert workplace.attempts() == 2

    workplace.write(SWEEP.replace("[20k, 60k]", "[20k]").replace("seed: [0]", "seed: [0, 1]"))
    plan = json.loads(workplace.run("plan", "sweep.yaml", "--json").stdout)
    assert sorted(cell["state"] for cell in plan["cells"]) == ["done", "new"]
    assert len(plan["orphaned"]) == 1
    workplace.run("sweep", "sweep.yaml", "--no-tracking")
    assert workplace.attempts() == 3, "only the new cell was run"
    grown = workplace.results()
    assert list(grown.index) == ["20k-h1-s0", "20k-h1-s1"], "the removed cell left the results"
    same(table.loc[["20k-h1-s0"]], grown.loc[["20k-h1-s0"]])


@pytest.mark.slow
def test_an_interrupted_sweep_ends_with_the_same_bits(
    workplace: Workplace, calm: pd.DataFrame, orphans: list[tuple[float, Descendants]]
) -> None:
    """One sweep, stopped by each signal in turn and resumed each time."""
    for round_, number in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGKILL)):
        before = workplace.checkpoints()
        process = workplace.start("sweep", "sweep.yaml", *LONGER)
        wait_for(lambda: workplace.checkpoints() - before)  # noqa: B023
        started = Descendants.of(process.pid)
        assert len(started.found) > 5
        process.send_signal(number)
        code = process.wait(timeout=180)
        if number is signal.SIGKILL:
            assert code == -signal.SIGKILL
            orphans.append((time.monotonic(), started))
        else:
            assert code == 3, workplace.log(round_)
            wait_for(lambda: not started.alive, timeout=60)  # noqa: B023
            status = json.loads(workplace.run("status", "small", "--json").stdout)
            assert "interrupted" in status["counts"]
            assert "resume with" in workplace.log(round_)
        wait_for(lambda: not workplace.workers())

    plan = json.loads(workplace.run("plan", "sweep.yaml", *LONGER[:-1], "--json").stdout)
    assert "resumable" in [cell["state"] for cell in plan["cells"]]
    workplace.run("sweep", "sweep.yaml", *LONGER)
    same(calm, workplace.results())
    assert (workplace.results()["attempts"] > 3).any()
    ends = [record.get("reason") or "" for record in workplace.ledger() if record.get("status") == "interrupted"]
    for words in ("stopped by SIGTERM", "stopped by SIGINT", "its driver died"):
        assert any(words in reason for reason in ends), words


@pytest.mark.slow
def test_a_worker_that_is_killed_goes_on_in_the_next_round(workplace: Workplace, calm: pd.DataFrame) -> None:
    process = workplace.start("sweep", "sweep.yaml", *LONGER)
    wait_for(workplace.has_checkpoint)
    next(worker for worker in workplace.workers() if "Trainable" in worker.cmdline()[0]).kill()
    assert process.wait(timeout=240) == 0, (workplace.folder / "started-0.log").read_text()
    same(calm, workplace.results())
    assert workplace.attempts() == 3
    assert "failed" in [record.get("status") for record in workplace.ledger()]


def mlflow_shown(place: Workplace) -> dict[str, tuple[str, int]]:
    """Status and number of validation losses of each MLflow run, by name."""
    client = MlflowClient(f"sqlite:///{place.folder / 'runs' / 'mlflow.db'}")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return {
        run.info.run_name: (run.info.status, len(client.get_metric_history(run.info.run_id, "val_loss")))
        for run in runs
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # MLflow's own use of SQLAlchemy
def test_trackers_show_the_run_and_syncing_again_changes_nothing(workplace: Workplace) -> None:
    done = workplace.run("sweep", "sweep.yaml")
    assert "mlflow   sqlite:///runs/mlflow.db" in done.stdout
    workplace.run("sync", "small")
    shown = mlflow_shown(workplace)
    trials = {"small": ("FINISHED", 0), "20k-h1-s0": ("FINISHED", 2), "60k-h1-s0": ("FINISHED", 2)}
    assert shown.items() >= trials.items()
    assert {status for status, _ in shown.values()} == {"FINISHED"}
    offline = sorted((workplace.folder / "runs" / "small" / "wandb").glob("offline-run-*"))
    assert len(offline) == len(shown) - 1
    again = json.loads(workplace.run("sync", "small", "--json").stdout)
    assert [again[name]["pending"] for name in ("mlflow", "wandb")] == [0, 0]
    assert mlflow_shown(workplace) == shown
    assert sorted((workplace.folder / "runs" / "small" / "wandb").glob("offline-run-*")) == offline


@pytest.mark.slow
def test_two_drivers_of_one_run_are_refused(workplace: Workplace) -> None:
    process = workplace.start("sweep", "sweep.yaml", "--no-tracking", "--set", "training.epochs=30")
    wait_for(lambda: (workplace.folder / "runs" / "small" / ".driver.json").exists())
    second = workplace.run("sweep", "sweep.yaml", "--no-tracking", "--set", "training.epochs=30", expect=2)
    assert f"process {process.pid}" in second.stderr
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=180) == 3


@pytest.mark.slow
def test_a_diverging_cell_is_a_finding_and_not_a_failure(workplace: Workplace) -> None:
    workplace.run(
        "sweep", "sweep.yaml", "--no-tracking", "--set", "training.lr=1e30", "--set", "grid.budget=[20k]", expect=0
    )
    table = workplace.results()
    assert list(table["status"]) == ["diverged"]
    assert list(table["diverged"]) == [True]
    assert "not finite" in table["reason"].iloc[0]


@pytest.mark.slow
def test_an_infeasible_cell_is_recorded_and_the_rest_runs(workplace: Workplace) -> None:
    workplace.run(
        "sweep", "sweep.yaml", "--no-tracking", "--set", "grid.horizon=[1, 200]", "--set", "grid.budget=[20k]"
    )
    table = workplace.results()
    assert sorted(table["status"]) == ["finished", "infeasible"]
    assert "effective" in table.loc["20k-h200-s0", "reason"]


@pytest.mark.slow
def test_changed_data_is_refused_on_resume(workplace: Workplace) -> None:
    workplace.run("sweep", "sweep.yaml", "--no-tracking", "--set", "grid.budget=[20k]", "--set", "training.epochs=1")
    [parquet] = (workplace.folder / "data").glob("*.parquet")
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(bytes(data))
    refused = workplace.run("sweep", "sweep.yaml", "--no-tracking", expect=2)
    assert parquet.name in refused.stderr
    assert not json.loads(workplace.run("data", "verify", "--json", expect=2).stdout)["ok"]
    workplace.run("data", "prepare", "sweep.yaml")
    workplace.run("data", "verify")
