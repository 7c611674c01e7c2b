"""What is gathered from a ledger: trials, findings, progress, lineage."""

import re

import pytest

from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.trials import Group, clean
from runner.report.build import ReportFiles
from runner.rundir.ledger import AttemptStarted, Ledger, SweepStarted
from runner.rundir.paths import RunPaths


def kinds(collected: Collected) -> dict[str, int]:
    return {finding.kind: len(finding.trials) for finding in collected.findings}


def test_every_fate_is_a_finding_of_its_own(hard: tuple[RunPaths, ReportFiles]) -> None:
    assert kinds(collect(hard[0])) == {
        "failed": 1,
        "out of memory": 1,
        "unfinished": 1,
        "waiting": 1,
        "diverged": 1,
        "infeasible": 9,
    }


def test_a_finished_trial_can_be_collapsed_or_under_trained(quickstart: tuple[RunPaths, ReportFiles]) -> None:
    collected = collect(quickstart[0])
    assert kinds(collected) == {"diverged": 1, "collapsed": 1, "under-trained": 1}
    assert [trial.name for finding in collected.findings for trial in finding.trials] == [
        "1m-h5-s1",
        "1m-h5-s0",
        "1m-h1-s1",
    ]


def test_findings_gather_trials_by_reason(run) -> None:
    cells = [
        *run.grid(["50k", "1m"], [30], fate="infeasible", reason="23 effective samples"),
        *run.grid(["50k", "1m"], [60], fate="infeasible", reason="11 effective samples"),
    ]
    found = [(finding.reason, len(finding.trials)) for finding in collect(run(cells)).findings]
    assert found == [("23 effective samples", 2), ("11 effective samples", 2)]


@pytest.mark.parametrize(
    ("fates", "closed", "complete", "ended"),
    [
        (["finished", "diverged", "infeasible"], True, True, 3),
        (["finished", "diverged", "infeasible"], False, True, 3),  # killed after the last trial: nothing is missing
        (["finished", "failed", "out_of_memory"], True, True, 3),  # tried as often as allowed
        (["finished", "failed"], False, False, 2),  # the next round tries again
        (["finished", "running"], False, False, 1),
        (["finished", "waiting"], False, False, 1),
        (["finished", "unrecorded"], False, False, 1),
        (["finished", "interrupted"], True, False, 1),
        (["finished", "thermal_stop"], True, False, 1),
    ],
)
def test_complete_means_that_nothing_is_left_to_wait_for(
    run, fates: list[str], closed: bool, complete: bool, ended: int
) -> None:
    progress = collect(
        run([run.cell("50k", seed=i, fate=fate) for i, fate in enumerate(fates)], closed=closed)
    ).progress
    assert (progress.complete, progress.ended, progress.cells) == (complete, ended, len(fates))


def test_numbers_come_through_unchanged(run) -> None:
    (trial,) = collect(run([run.cell("2m", 5, 3, loss=0.6123)])).trials
    assert (trial.budget, trial.n_params, trial.horizon, trial.seed) == ("2m", 1_992_000, 5, 3)
    assert trial.val_loss.value == 0.6123
    assert trial.val_loss.low < 0.6123 < trial.val_loss.high
    assert trial.skill.value == pytest.approx(1 - 0.6123 / 0.6718)
    assert trial.curve[5] == (162, 0.6123)
    assert (trial.n_train, trial.n_val_effective) == (3457, 137)


def test_a_loss_that_is_not_finite_is_unknown(run) -> None:
    paths = run([run.cell("2m", fate="diverged")])
    text = paths.ledger.read_text().replace('"result":{}', '"result":{"val_loss":"NaN","test_loss":"Infinity"}')
    paths.ledger.write_text(re.sub(',"chain":"[0-9a-f]{16}"', "", text))  # as before there were hashes
    (trial,) = collect(paths).trials
    assert trial.val_loss.value is None
    assert trial.test_loss is None


def test_cells_of_an_earlier_grid_are_left_out_and_counted(run) -> None:
    cells = run.grid(["50k", "1m", "2m"])
    paths = run(cells)
    ledger = Ledger(paths.ledger)
    ledger.append(SweepStarted(run="made", keys=(cells[0].key,), config={}, code_version="2", versions={}))
    ledger.close()
    collected = collect(paths)
    assert [trial.key for trial in collected.trials] == [cells[0].key]
    assert (collected.progress.earlier, collected.restarts) == (2, 1)


def test_a_resumed_trial_is_unfinished_again(run) -> None:
    cell = run.cell("50k", fate="interrupted")
    paths = run([cell], closed=False)
    ledger = Ledger(paths.ledger)
    ledger.append(AttemptStarted(key=cell.key, attempt=2, execution={}))
    ledger.close()
    (trial,) = collect(paths).trials
    assert (trial.status, trial.attempts, trial.ended) == ("unfinished", 2, False)


def test_lineage_tells_data_sets_apart_and_gives_sizes_by_horizon(run) -> None:
    cells = [*run.grid(["50k", "1m"], [1, 5]), run.cell("50k", fraction=0.5), run.cell("50k", timescale="weekly")]
    lineage = collect(run(cells)).lineage
    assert [(data.timescale, data.fraction, len(data.sizes)) for data in lineage] == [
        ("daily", 1.0, 2),
        ("daily", 0.5, 1),
        ("weekly", 1.0, 1),
    ]
    assert lineage[0].sizes == ((1, (3461, 693, 695, 693)), (5, (3457, 689, 691, 137)))
    assert lineage[0].content_sha256 == lineage[1].content_sha256 != lineage[2].content_sha256


def test_mixed_code_versions_are_counted(run) -> None:
    cells = [
        *run.grid(["50k"], seeds=[0, 1], code_version="a"),
        run.cell("1m", code_version="b"),
        run.cell("2m", fate="waiting"),
    ]
    assert collect(run(cells, closed=False)).code_versions == (("a", 2), ("b", 1))


def test_gates_are_those_of_the_latest_start(run) -> None:
    old, new = ({"gate": "sizes", "message": message, "fix": "more"} for message in ("old", "3 sizes"))
    paths = run([run.cell("50k")], gates=[old])
    ledger = Ledger(paths.ledger)
    ledger.append(SweepStarted(run="made", keys=(), config={}, code_version="", versions={}, gates=(new, new)))
    ledger.close()
    assert collect(paths).gates == ("sizes: 3 sizes. Fix: more.",)


def test_commands_quote_an_odd_folder(tmp_path) -> None:
    paths = RunPaths(tmp_path / "a b; rm -rf x")
    Ledger(paths.ledger).close()
    assert collect(paths).commands[-1] == "isotherm report 'runs/a b; rm -rf x'"


def test_groups_differ_by_what_varies_and_never_by_budget_horizon_or_seed(run) -> None:
    cells = [
        run.cell("50k", axes={"training.lr": 0.001, "task.horizon": 1, "training.seed": 0}),
        run.cell("1m", axes={"training.lr": 0.01, "task.horizon": 1, "training.seed": 1}, model="mlp", fraction=0.25),
    ]
    groups = tuple(trial.group for trial in collect(run(cells)).trials)
    assert groups[0].axes == (("training.lr", "0.001"),)
    assert groups[1].differing(groups) == "mlp, 25 % of the training data, training.lr 0.01"
    assert groups[1].differing(groups[1:]) == ""
    assert groups[0] == Group("patchtst", "a20", "daily", 1.0, (("training.lr", "0.001"),), groups[0].asked)


def test_text_from_configs_is_on_one_line_without_hidden_characters(run) -> None:
    assert clean("a\r\n\tb\x00\x1b[31m\u202eexe\u2066\u200f") == "a   b\ufffd\ufffd[31m\ufffdexe\ufffd\ufffd"
    assert clean(None) == ""
    assert "\u202e" in run.evil
    assert "\u202e" not in clean(run.evil)
    assert clean("Ünï→ 漢") == "Ünï→ 漢"
