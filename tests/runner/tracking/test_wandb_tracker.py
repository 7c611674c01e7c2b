"""W&B by itself: its directories, and its side effects."""

import re
import shutil
from typing import Any

from runner.rundir.ledger import EventRecorded

A, B = "a" * 12, "b" * 12


def test_one_directory_a_trial_in_the_run_directory(wandb_bench: Any, story: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    folders = wandb_bench.folders()
    assert len(folders) == 3
    assert all(folder.parent == story.paths.root / "wandb" for folder in folders)
    assert {folder.name.rsplit("-", 1)[1] for folder in folders} == {A, B, "sweep"}
    assert all(folder.name.startswith("offline-run-") for folder in folders)


def test_config_and_group(wandb_bench: Any, story: Any, read_wandb: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    (folder,) = (folder for folder in wandb_bench.folders() if folder.name.endswith(A))
    file = read_wandb(next(folder.glob("*.wandb")))
    assert (file.group, file.job_type, file.tags) == ("quick", "model", ("2m", "patchtst"))
    assert file.notes == f"trial {A} of sweep quick"
    assert file.config["code_version"] == "c0de"
    assert file.summary["val_loss"] == 0.61
    assert file.config["spec"]["training"] == {"lr": 0.001, "early_stopping": None}
    assert file.config["n_params"] == 2_000_000
    assert file.config["execution"]["micro_batch"] == 16
    assert file.summary["status"] == "finished"
    assert file.summary["attempts"] == 2
    assert [row["_step"] for row in file.rows] == [0, 1, 2, 3]
    assert [row["step"] for row in file.rows] == [10, 20, 30, 40]
    assert [row["epoch"] for row in file.rows] == [1, 2, 3, 4]


def test_the_trials_of_a_study_share_a_group(wandb_bench: Any, story: Any, read_wandb: Any) -> None:
    story.tell(story.sweep(A, B))
    for key, role in ((A, "searched"), (B, "confirmed")):
        cell = story.cell(key)
        story.tell(cell.model_copy(update={"labels": {**cell.labels, "study": "2m-h5", "role": role}}))
        story.attempt(key)
        story.end(key)
    story.sweep_end()
    wandb_bench.deliver()
    files = {folder.name[-12:]: read_wandb(next(folder.glob("*.wandb"))) for folder in wandb_bench.folders()}
    assert (files[A].group, files[A].job_type) == ("quick/2m-h5", "searched")
    assert (files[B].group, files[B].job_type) == ("quick/2m-h5", "confirmed")


def test_the_sweep_has_a_run_with_its_settings_answer_report_and_a_table_of_results(
    wandb_bench: Any, story: Any, read_wandb: Any
) -> None:
    story.whole()
    wandb_bench.deliver()
    assert len(wandb_bench.of_sweep()) == 1
    story.paths.report_html.write_text("<p>the report</p>")
    story.tell(EventRecorded(what="report", message="Loss with size: falls."))
    for _ in range(2):
        wandb_bench.deliver()
        [folder] = wandb_bench.of_sweep()
        file = read_wandb(next(folder.glob("*.wandb")))
        assert (file.name, file.group, file.job_type, file.tags) == ("quick", "quick", "sweep", ("sweep",))
        assert file.notes == "Loss with size: falls."
        assert file.config["grid"] == {"horizon": [1, 5]}
        assert file.config["code_version"] == "c0de"
        assert (file.summary["status"], file.summary["cells"], file.exit_code) == ("finished", 2, 0)
        table = (folder / "files" / file.summary["results"]["path"]).read_text()
        columns = re.findall(r"<th>(.*?)</th>", table)
        cells = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[1:]]
        rows = [dict(zip(columns, row, strict=True)) for row in cells]
        assert [(row["key"], row["status"], row["budget"]) for row in rows] == [
            (A, "finished", "2m"),
            (B, "infeasible", "2m"),
        ]
        assert (float(rows[0]["val_loss"]), rows[1]["val_loss"]) == (0.61, "")
        assert (folder / "files" / file.summary["report"]["path"]).read_text() == "<p>the report</p>"


def test_nothing_new_leaves_the_directories_alone(wandb_bench: Any, story: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    before = {path: path.stat().st_mtime_ns for folder in wandb_bench.folders() for path in folder.rglob("*")}
    wandb_bench.deliver()
    after = {path: path.stat().st_mtime_ns for folder in wandb_bench.folders() for path in folder.rglob("*")}
    assert after == before


def test_a_lost_directory_is_written_again(wandb_bench: Any, story: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    before = wandb_bench.shown()
    shutil.rmtree(next(folder for folder in wandb_bench.folders() if folder.name.endswith(A)))
    wandb_bench.deliver()
    assert wandb_bench.shown() == before


def test_a_damaged_note_of_what_was_delivered_is_survived(wandb_bench: Any, story: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    before = wandb_bench.shown()
    (story.paths.wandb / "delivered.json").write_text("{")
    wandb_bench.deliver()
    assert wandb_bench.shown() == before


def test_other_files_in_the_folder_are_left_alone(wandb_bench: Any, story: Any) -> None:
    strange = story.paths.wandb / f"offline-run-20200101_000000-0-{B}x"
    strange.mkdir(parents=True)
    story.whole()
    wandb_bench.deliver()
    assert strange.is_dir()
