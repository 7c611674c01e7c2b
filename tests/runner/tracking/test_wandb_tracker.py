"""W&B by itself: its directories, and its side effects."""

import shutil
from typing import Any

A, B = "a" * 12, "b" * 12


def test_one_directory_a_trial_in_the_run_directory(wandb_bench: Any, story: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    folders = wandb_bench.folders()
    assert len(folders) == 2
    assert all(folder.parent == story.paths.root / "wandb" for folder in folders)
    assert {folder.name.rsplit("-", 1)[1] for folder in folders} == {A, B}
    assert all(folder.name.startswith("offline-run-") for folder in folders)


def test_config_and_group(wandb_bench: Any, story: Any, read_wandb: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    (folder,) = (folder for folder in wandb_bench.folders() if folder.name.endswith(A))
    file = read_wandb(next(folder.glob("*.wandb")))
    assert file.group == "quick"
    assert file.config["spec"]["training"] == {"lr": 0.001, "early_stopping": None}
    assert file.config["n_params"] == 2_000_000
    assert file.config["execution"]["micro_batch"] == 16
    assert file.summary["status"] == "finished"
    assert file.summary["attempts"] == 2
    assert [row["_step"] for row in file.rows] == [0, 1, 2, 3]
    assert [row["step"] for row in file.rows] == [10, 20, 30, 40]
    assert [row["epoch"] for row in file.rows] == [1, 2, 3, 4]


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
