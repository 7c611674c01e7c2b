"""The whole report, from a run directory to its files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.report.build import ReportFiles, build
from runner.rundir.paths import RunPaths
from tests.waiting import PATIENCE_S
from trainables.errors import LedgerError


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_verdict_needs_no_libraries_of_pictures_and_pages() -> None:
    script = "import sys, runner.report.analysis.verdict; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"


def test_the_files_of_a_report(quickstart: tuple[RunPaths, ReportFiles]) -> None:
    paths, report = quickstart
    names = ("overview", "loss_h1", "loss_h5", "heat_map", "learning_curves", "time", "throughput")
    figures = {f"figures/{name}.png" for name in names}
    assert files(paths.root) == {"ledger.jsonl", "report.html", "report.md"} | figures
    assert {str(path.relative_to(paths.root)) for path in report.figures} == figures
    assert json.loads(json.dumps(report.as_dict()))["html"] == str(paths.report_html)
    for figure in figures:
        assert f"]({figure})" in report.markdown.read_text(encoding="utf-8")


def test_a_complete_report_has_no_notice_and_a_partial_one_opens_with_it(
    quickstart: tuple[RunPaths, ReportFiles], hard: tuple[RunPaths, ReportFiles]
) -> None:
    assert "partial" not in quickstart[1].markdown.read_text(encoding="utf-8")
    assert (
        "> **This report is partial: 43 of 46 cells have ended." in hard[1].markdown.read_text(encoding="utf-8")[:120]
    )
    assert 'class="notice"' in hard[1].html.read_text(encoding="utf-8")


def test_a_moved_run_gives_the_same_report_without_data_or_trackers(
    quickstart: tuple[RunPaths, ReportFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, report = quickstart
    moved = RunPaths(tmp_path / "elsewhere" / paths.name)
    moved.root.mkdir(parents=True)
    shutil.copy(paths.ledger, moved.ledger)
    monkeypatch.chdir(tmp_path)
    again = build(moved)
    assert again.html.read_bytes() == report.html.read_bytes()
    assert again.markdown.read_bytes() == report.markdown.read_bytes()


def test_a_smaller_grid_leaves_no_figures_of_the_larger_one(run) -> None:
    cells = run.grid(["50k", "1m"], [1, 5])
    paths = run(cells)
    build(paths)
    (paths.figures / "mine.png").write_bytes(b"kept")
    paths.ledger.unlink()
    run(cells[:2])
    build(paths)
    assert "loss_h5.png" not in files(paths.figures)
    assert {"loss_h1.png", "learning_curves.png", "mine.png"} <= files(paths.figures)


@pytest.mark.parametrize("fates", [[], ["waiting"], ["unrecorded"], ["running"], ["infeasible"], ["failed"]])
def test_a_run_with_no_result_yet_still_has_a_report(run, fates: list[str]) -> None:
    report = build(run([run.cell("50k", fate=fate) for fate in fates], closed=False))
    assert "Isotherm report: made" in report.html.read_text(encoding="utf-8")


def test_an_unfinished_last_line_is_left_out(run) -> None:
    paths = run(run.grid(["50k", "1m"]), closed=False)
    with paths.ledger.open("a") as handle:
        handle.write('{"kind":"ended","key"')
    assert build(paths).html.exists()


def test_a_damaged_ledger_is_refused_and_the_old_report_stays(run) -> None:
    paths = run(run.grid(["50k", "1m"]))
    before = build(paths).html.read_bytes()
    paths.ledger.write_text('{"v": 1}\n' + paths.ledger.read_text())
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:1: damaged record"):
        build(paths)
    assert paths.report_html.read_bytes() == before


def test_warnings_of_the_gates_stand_among_the_findings(run) -> None:
    gate = {"gate": "distinct sizes", "message": "3 sizes | too few", "fix": "more"}
    text = build(run(run.grid(["50k"]), gates=[gate])).markdown.read_text(encoding="utf-8")
    assert "checks before the start: 1 warning" in text
    assert r"3 sizes \| too few. Fix: more." in text


def test_the_report_needs_neither_torch_nor_ray_nor_pyplot() -> None:
    code = "import runner.report, sys; print([m for m in ('torch', 'ray', 'matplotlib.pyplot') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert done.stdout.strip() == "[]"


def test_two_hundred_trials_of_two_models_have_a_figure_a_horizon_and_not_one_a_trial(run) -> None:
    cells = [
        cell
        for model in ("patchtst", "mlp")
        for cell in run.grid(["2m", "200m"], [1, 2, 3, 5], range(13), model=model)  # two sizes: no law is fitted
    ]
    names = sorted(path.stem for path in build(run(cells)).figures)
    assert names == [
        "heat_map", "learning_curves", "learning_curves_2", "loss_h1", "loss_h2", "loss_h3", "loss_h5",
        "overview", "throughput", "time",
    ]  # fmt: skip
