"""The main job for real: Ray Tune, real bars, the ledger, a second run, a larger grid, signals and kills."""

import json
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from runner.rundir.results import COLUMNS
from tests.integration.workplace import ONE, SWEEP, Descendants, Workplace, same
from tests.waiting import PATIENCE_S, wait_for


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
def test_a_sweep_goes_on_with_the_same_bits_after_all_that_ends_it(
    tmp_path: Path, calm: pd.DataFrame, orphans: list[tuple[float, Descendants]]
) -> None:
    """Stopped by SIGTERM and SIGINT to all of its processes, killed, moved, and with a worker that is killed.

    SIGTERM is what systemd and Slurm send, SIGINT is Ctrl-C in a terminal.
    """
    place = Workplace(tmp_path / "first")
    place.folder.mkdir()
    place.write()
    for round_, number in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGKILL)):
        process = place.start("sweep", "sweep.yaml", "--no-tracking")
        place.wait_for_checkpoint()
        started = Descendants.of(process.pid)
        assert len(started.found) > 5
        if number is signal.SIGKILL:
            process.kill()
            process.wait(PATIENCE_S)
            orphans.append((time.monotonic(), started))
            wait_for(lambda: not place.workers())
            continue
        for one in (*psutil.Process(process.pid).children(recursive=True), process):
            with suppress(psutil.Error):
                one.send_signal(number)
        assert process.wait(PATIENCE_S) == 3, place.log(round_)
        wait_for(lambda: not started.alive)  # noqa: B023
        status = json.loads(place.run("status", "small", "--json").stdout)
        assert "interrupted" in status["counts"]
        for words in ("resume with", f"stopped by {number.name}"):
            assert words in place.log(round_)
        assert "Traceback" not in place.log(round_)
        assert "failed" not in [record.get("status") for record in place.ledger()]

    plan = json.loads(place.run("plan", "sweep.yaml", "--json").stdout)
    assert "resumable" in [cell["state"] for cell in plan["cells"]]
    moved = Workplace(tmp_path / "second")
    (moved.folder / "runs").mkdir(parents=True)
    moved.write()
    shutil.move(place.folder / "runs/small", moved.folder / "runs/small")
    shutil.rmtree(place.folder)
    process = moved.start("sweep", "sweep.yaml", "--no-tracking")
    moved.wait_for_checkpoint()
    moved.trial_worker().kill()
    assert process.wait(PATIENCE_S) == 0, moved.log()
    same(calm, moved.results())
    assert len(moved.results()) == 2
    assert moved.results()["attempts"].max() >= 4, "a start each time, but for a trial that had not begun"
    ends = [record for record in moved.ledger() if record["kind"] == "ended"]
    assert [record["status"] for record in ends].count("failed") == 1, "the worker that was killed"
    for words in ("stopped by SIGTERM", "stopped by SIGINT", "its driver died"):
        assert any(words in record["reason"] for record in ends), words


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
    done = workplace.run("sweep", "sweep.yaml", *ONE[1:])
    assert "mlflow   sqlite:///runs/mlflow.db" in done.stdout
    workplace.run("sync", "small")
    shown = mlflow_shown(workplace)
    trials = {"small": ("FINISHED", 0), "20k-h1-s0": ("FINISHED", 2)}
    assert shown.items() >= trials.items()
    assert {status for status, _ in shown.values()} == {"FINISHED"}
    offline = sorted((workplace.folder / "runs" / "small" / "wandb").glob("offline-run-*"))
    assert len(offline) == len(shown)
    again = json.loads(workplace.run("sync", "small", "--json").stdout)
    assert [again[name]["pending"] for name in ("mlflow", "wandb")] == [0, 0]
    assert mlflow_shown(workplace) == shown
    assert sorted((workplace.folder / "runs" / "small" / "wandb").glob("offline-run-*")) == offline


@pytest.mark.slow
def test_a_diverging_and_an_infeasible_cell_are_findings_and_no_failures(workplace: Workplace) -> None:
    workplace.run("sweep", "sweep.yaml", *ONE, "--set", "training.lr=1e30", "--set", "grid.horizon=[1, 200]", expect=0)
    table = workplace.results()
    diverged, infeasible = table.loc["20k-h1-s0"], table.loc["20k-h200-s0"]
    assert diverged["status"] == "diverged"
    assert diverged["diverged"]
    assert "not finite" in diverged["reason"]
    assert infeasible["status"] == "infeasible"
    assert "effective" in infeasible["reason"]


@pytest.mark.slow
def test_changed_data_is_refused_on_resume(finished: Workplace, tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "copy")
    shutil.copytree(finished.folder, workplace.folder)
    [parquet] = (workplace.folder / "data").glob("*.parquet")
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(bytes(data))
    refused = workplace.run("sweep", "sweep.yaml", "--no-tracking", expect=2)
    assert parquet.name in refused.stderr
    assert not json.loads(workplace.run("data", "verify", "--json", expect=2).stdout)["ok"]
    workplace.run("data", "prepare", "sweep.yaml")
    workplace.run("data", "verify")
