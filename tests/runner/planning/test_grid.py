"""The grid: keys, resolved values, execution records, feasibility."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import sweep_file as sweepfile
from runner.host.device import Device
from runner.planning import grid
from trainables.errors import BudgetError, ConfigError
from trainables.schema import SELECTION, ExecutionSpec, ResolvedTraining, TrainingSpec

Write = Callable[..., Path]


def cells(path: Path, *overrides: str) -> tuple[grid.Cell, ...]:
    return grid.expand(sweepfile.load(path, overrides)).cells


def training_of(global_batch: int, loss: str = "bce") -> ResolvedTraining:
    asked = TrainingSpec.model_validate({"global_batch": global_batch, "loss": loss})
    return grid.resolved_training(asked, 20_000, 1000, lambda: None)[0]


def test_keys_are_content(sweep_file: Write) -> None:
    path = sweep_file()
    [cell] = cells(path)
    assert len(cell.key) == 12
    assert cells(path)[0].key == cell.key, "the same question has the same key"
    for execution in ("micro_batch=16", "threads=2", "checkpoint_interval_s=1", "max_attempts=7"):
        assert cells(path, f"execution.{execution}")[0].key == cell.key, "how it is run is no part of the key"
    assert cells(path, "execution.optimizer_states=bf16")[0].key != cell.key, "but what changes its numbers is"
    assert cells(path, "name=other", "tracking.mlflow=null")[0].key == cell.key
    assert cells(path, "grid.budget=[20000]")[0].key == cell.key, "labels are left out"
    changes = ("training.lr=2e-3", "training.seed=1", "task.horizon=2", "data.scaling=none", "data.fraction=0.5")
    other = [cells(path, change, "grid={budget: [20k]}") for change in changes if change.startswith("data")]
    other += [cells(path, change) for change in changes if change.startswith("training.lr")]
    other += [cells(path, "grid.seed=[1]"), cells(path, "grid.horizon=[2]"), cells(path, "data.source=nasdaq")]
    keys = {cell.key, *(one[0].key for one in other)}
    assert len(keys) == len(other) + 1


def test_a_shorter_training_span_is_the_newest_part(sweep_file: Write) -> None:
    whole, half = cells(sweep_file(), "grid.data_fraction=[1.0, 0.5]")
    assert half.sizes["n_val"] == whole.sizes["n_val"]
    assert 0.4 < half.sizes["n_train"] / whole.sizes["n_train"] < 0.5


def test_rules_of_the_size_are_resolved_at_the_budget(sweep_file: Write) -> None:
    rules = [
        "training.lr={base: 1.0e-3, at: 20k, exponent: -0.5}",
        "training.global_batch={base: 64, at: 20k, exponent: 0.5}",
    ]
    small, large = cells(sweep_file(), "grid.budget=[20k, 80k]", *rules)
    assert small.spec.training.lr == pytest.approx(1e-3)
    assert large.spec.training.lr == pytest.approx(0.5e-3)
    assert (small.spec.training.global_batch, large.spec.training.global_batch) == (64, 128)


@pytest.mark.parametrize(
    ("asked", "global_batch", "micro", "accumulation"),
    [("auto", 128, 32, 4), ("auto", 8, 8, 1), (48, 128, 48, 3), (256, 128, 128, 1)],
)
def test_the_micro_batch_divides_the_global_batch(
    asked: int | str, global_batch: int, micro: int, accumulation: int
) -> None:
    spec = ExecutionSpec.model_validate({"micro_batch": asked})
    training = training_of(global_batch)
    record = grid.execution_record(spec, training, Device("cpu", "test", 2))
    assert (record.micro_batch, record.accumulation) == (micro, accumulation)


def test_a_loss_that_compares_windows_takes_the_global_batch_as_one(sweep_file: Write) -> None:
    device, training = Device("cpu", "test", 2), training_of(128, "soft_auc")
    record = grid.execution_record(ExecutionSpec(), training, device)
    assert (record.micro_batch, record.accumulation, record.smallest_micro_batch) == (128, 1, 128)
    with pytest.raises(ConfigError, match="128 cannot be taken 48 at a time"):
        grid.execution_record(ExecutionSpec(micro_batch=48), training, device)
    assert grid.execution_record(ExecutionSpec(micro_batch=256), training, device).micro_batch == 128


def test_every_budget_that_cannot_be_met_is_named(sweep_file: Write) -> None:
    with pytest.raises(BudgetError) as caught:
        cells(sweep_file(), "grid.budget=[100, 20k, 200]")
    assert len(caught.value.problems) == 2


def test_a_hand_written_shape_wins_and_is_checked(sweep_file: Write, folder: Path) -> None:
    shapes = folder / "shapes"
    shapes.mkdir()
    [solved] = cells(sweep_file())
    shape = solved.spec.model.shape
    sizes = ", ".join(f"{size}: {value}" for size, value in {**shape, "heads": 1}.items())
    (shapes / "20k.yaml").write_text(f"patchtst: {{{sizes}}}\n")
    [own] = cells(sweep_file(), f"model.shapes={shapes}")
    assert own.spec.model.shape["heads"] == 1
    (shapes / "20k.yaml").write_text("patchtst: {width: 64, depth: 2, heads: 1, feed_forward: 64}\n")
    with pytest.raises(BudgetError, match="20k"):
        cells(sweep_file(), f"model.shapes={shapes}")


def test_too_small_splits_make_infeasible_cells_and_not_errors(sweep_file: Write) -> None:
    feasible, infeasible = cells(sweep_file(), "grid.horizon=[1, 200]")
    assert feasible.infeasible == ""
    assert "effective" in infeasible.infeasible
    assert infeasible.sizes["n_val_effective"] < 100


def test_names_show_what_varies(sweep_file: Write) -> None:
    named = cells(sweep_file(), "grid.model.dropout=[0.0, 0.1]")
    assert [cell.name for cell in named] == ["20k-h1-s0-dropout=0.0", "20k-h1-s0-dropout=0.1"]
    assert named[0].axes == {"model.dropout": 0.0}


def test_a_sweep_over_sources_has_one_dataset_each(sweep_file: Write) -> None:
    named = cells(sweep_file(), "grid.data.source=[sp500, nasdaq]")
    assert [cell.entry.assets for cell in named] == [("sp500",), ("nasdaq",)]
    assert len({cell.key for cell in named}) == 2


def test_an_empty_split_is_a_problem_of_the_config(sweep_file: Write) -> None:
    late = "data.splits={train: 2030-01-01, validation: 2031-01-01, test: 2032-01-01}"
    with pytest.raises(ConfigError):
        cells(sweep_file(), late)


@pytest.mark.parametrize("choosing", ["training.judged_epoch=best", "training.early_stopping={patience: 2}"])
def test_what_chooses_an_epoch_chooses_on_a_part_of_validation(sweep_file: Write, choosing: str) -> None:
    [whole], [split] = cells(sweep_file()), cells(sweep_file(), choosing)
    assert (whole.spec.data.splits.selection, split.spec.data.splits.selection) == (0.0, SELECTION)
    assert whole.sizes["n_selection"] == 0
    assert split.sizes["n_selection"] + split.sizes["n_val"] == whole.sizes["n_val"]
    assert split.key != whole.key
    [larger] = cells(sweep_file(), choosing, "data.splits.selection=0.5")
    assert larger.sizes["n_selection"] == pytest.approx(whole.sizes["n_val"] / 2, abs=1)


def test_trials_that_choose_and_trials_that_do_not_are_judged_on_the_same_windows(sweep_file: Write) -> None:
    last, best = cells(sweep_file(), "grid.training.judged_epoch=[last, best]")
    assert last.spec.data == best.spec.data
    assert last.sizes == best.sizes
    assert last.facts is best.facts


def test_a_choice_on_no_part_of_validation_is_refused(sweep_file: Write) -> None:
    with pytest.raises(ConfigError, match=r"data\.splits\.selection, its share, must be above 0"):
        cells(sweep_file(), "training.judged_epoch=best", "data.splits.selection=0")


def test_a_part_too_small_to_choose_or_to_judge_makes_an_infeasible_cell(sweep_file: Write) -> None:
    [chooses_by_few] = cells(sweep_file(), "training.judged_epoch=best", "grid.horizon=[5]")
    assert "the selection part of validation has 43 effective samples" in chooses_by_few.infeasible
    [judged_by_few] = cells(sweep_file(), "training.judged_epoch=best", "data.splits.selection=0.9")
    assert "validation has 6" in judged_by_few.infeasible
    assert cells(sweep_file(), "grid.horizon=[5]")[0].infeasible == ""
