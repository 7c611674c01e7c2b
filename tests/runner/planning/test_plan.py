"""The plan: gates, states against a ledger, what it needs."""

import io
import re
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from runner.cli import app
from runner.config import sweep_file as sweepfile
from runner.host.device import Device
from runner.host.memory_limits import Limit
from runner.planning import checks
from runner.planning import plan as planning
from runner.planning.plan import Plan
from runner.rundir.ledger import AttemptStarted, CellEnded, CellRecorded, Ledger, SweepStarted
from runner.terminal import plan as terminal
from runner.terminal.console import Console
from trainables.data import sources

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]


def build(path: Path, *overrides: str) -> Plan:
    return planning.build(sweepfile.load(path, overrides))


def shown(plan: Plan, width: int = 140, *, cells: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width)
    terminal.show(plan, console, cells=cells)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_states_follow_the_ledger(sweep_file: Write, folder: Path) -> None:
    path = sweep_file(("seed: [0]", "seed: [0, 1, 2]"))
    fresh = build(path)
    assert set(fresh.states.values()) == {"new"}
    keys, orphan = list(fresh.states), "0" * 12
    ledger = Ledger(fresh.paths.ledger)
    ledger.append(SweepStarted(run="tiny", keys=tuple(keys), config={}, code_version="1", versions={}))
    for key in [*keys, orphan]:
        ledger.append(CellRecorded(key=key, name=key, labels={}, sizes={}, spec={}))
    ledger.append(CellEnded(key=keys[0], attempt=1, status="finished"))
    ledger.append(AttemptStarted(key=keys[1], attempt=1, execution={}))
    ledger.append(CellEnded(key=keys[1], attempt=1, status="interrupted"))
    ledger.close()
    plan = build(path)
    assert list(plan.states.values()) == ["done", "resumable", "new"]
    assert plan.orphaned == (orphan,)
    assert [cell.key for cell in plan.to_run] == keys[1:]
    text = shown(plan)
    assert "1 new, 1 resumable, 1 done" in text
    assert "orphan" in text


def test_a_failed_cell_is_run_again(sweep_file: Write) -> None:
    path = sweep_file()
    fresh = build(path)
    [key] = fresh.states
    ledger = Ledger(fresh.paths.ledger)
    ledger.append(CellRecorded(key=key, name=key, labels={}, sizes={}, spec={}))
    ledger.append(AttemptStarted(key=key, attempt=1, execution={}))
    ledger.append(CellEnded(key=key, attempt=1, status="failed", reason="killed"))
    ledger.close()
    assert build(path).states[key] == "resumable"


def test_a_search_over_inputs_at_several_sizes_is_warned_of(folder: Path) -> None:
    here = ("execution.device=cpu", "execution.dtype=fp32", "thermal.require_sensors=false")
    searched = "search.space={task.context: {choices: [20, 30]}}"
    assert "searched: task.context; sizes whose winners differ" in shown(
        build(ROOT / "configs/sweeps/tuned.yaml", *here, searched)
    )
    assert "searched: " not in shown(build(ROOT / "configs/sweeps/tuned.yaml", *here))


def test_four_sizes_cannot_identify_a_law_and_the_plan_says_so(folder: Path) -> None:
    here = ("execution.device=cpu", "execution.dtype=fp32", "thermal.require_sensors=false")
    four = build(ROOT / "configs/sweeps/budget_grid_4.yaml", *here)
    six = build(ROOT / "configs/sweeps/budget_grid.yaml", *here)
    assert "4 distinct budgets cannot identify a scaling law" in shown(four)
    gates = {finding.gate for finding in four.findings}
    assert {"data starved", "tuning", "distinct sizes"} <= gates
    assert not {"data starved", "tuning", "distinct sizes", "seeds"} & {finding.gate for finding in six.findings}
    for plan in (four, six):
        assert not plan.errors
        for cell in plan.grid.cells:
            assert abs(cell.counts.total / cell.target - 1) <= 0.02
    assert len(six.grid.cells) == 6 * 2 * 3 * 4


def test_sizes_compared_with_one_seed_are_warned_of(sweep_file: Write) -> None:
    def found(*overrides: str) -> list[str]:
        return [one.message for one in build(sweep_file(), *overrides).findings if one.gate == "seeds"]

    (message,) = found("grid.budget=[20k, 50k]")
    assert message.startswith("2 sizes are compared with 1 seed each")
    assert found("grid.budget=[20k, 50k]", "grid.seed=[0, 1]") == []
    assert found() == []


def test_disk_is_what_the_cells_to_run_will_write(sweep_file: Write) -> None:
    """Two checkpoints of 12 bytes a parameter for each trial that runs, at last 4 bytes a parameter of every trial."""
    seeds = ", ".join(map(str, range(500)))
    one, many = build(sweep_file()), build(sweep_file(("seed: [0]", f"seed: [{seeds}]")))
    parameters = one.grid.cells[0].counts.total
    assert one.disk_bytes == (2 * 12 + 4) * parameters
    running = many.grid.device.count // (many.grid.cells[0].record.reserved_cores or many.grid.cells[0].record.threads)
    assert many.disk_bytes == (2 * 12 * min(500, max(1, running)) + 4 * 500) * parameters


def test_cells_of_two_code_versions_are_told_apart(sweep_file: Write, folder: Path) -> None:
    path = sweep_file(("seed: [0]", "seed: [0, 1]"))
    fresh = build(path)
    key, other = fresh.states
    ledger = Ledger(fresh.paths.ledger)
    ledger.append(SweepStarted(run="tiny", keys=(key, other), config={}, code_version="1", versions={}))
    for one, version in ((key, "1.0+gold"), (other, "1.0+gnew")):
        ledger.append(CellRecorded(key=one, name=one, labels={}, sizes={}, spec={}))
        ledger.append(AttemptStarted(key=one, attempt=1, execution={}, code_version=version))
        ledger.append(CellEnded(key=one, attempt=1, status="finished"))
    ledger.close()
    found = {finding.gate: finding for finding in build(path).findings}["mixed code"]
    assert (found.level, found.number, found.limit) == ("warn", 2, 1)
    assert "1 cell by 1.0+gold, 1 cell by 1.0+gnew" in found.message
    assert [finding.gate for finding in build(path, "gates.mixed_code=error").errors] == ["mixed code"]
    assert "mixed code" not in {finding.gate for finding in build(path, "gates.mixed_code=off").findings}


def test_an_old_cell_beside_cells_to_run_warns_and_a_fresh_grid_does_not(sweep_file: Write, folder: Path) -> None:
    path = sweep_file(("seed: [0]", "seed: [0, 1]"))
    fresh = build(path)
    assert "mixed code" not in {finding.gate for finding in fresh.findings}
    key = next(iter(fresh.states))
    ledger = Ledger(fresh.paths.ledger)
    ledger.append(CellRecorded(key=key, name=key, labels={}, sizes={}, spec={}))
    ledger.append(AttemptStarted(key=key, attempt=1, execution={}, code_version="1.0+gold"))
    ledger.append(CellEnded(key=key, attempt=1, status="finished"))
    ledger.close()
    found = {finding.gate: finding for finding in build(path).findings}["mixed code"]
    assert "1 would be by" in found.message


def test_the_shipped_sweeps_have_warnings_at_most(folder: Path) -> None:
    here = ("execution.device=cpu", "execution.dtype=fp32", "thermal.require_sensors=false")
    for path in sorted((ROOT / "configs/sweeps").glob("*.yaml")):
        found = build(path, *here).findings
        assert {finding.level for finding in found} <= {"warn"}, path
        assert all(finding.message and finding.fix for finding in found)
        if path.stem != "control":  # its bars are made; 1999 to 2013 is no calm decade
            assert "distribution drift" in {finding.gate for finding in found}


def test_sensors_that_are_required_stop_the_sweep(sweep_file: Write) -> None:
    plan = build(sweep_file(), "thermal.require_sensors=true")
    assert [finding.gate for finding in plan.errors] == ["temperature sensors"]


def test_columns_that_are_not_used_are_named_by_plan_and_prepare(folder: Path, sweep_file: Write) -> None:
    bars = sources.read("sp500").frame.assign(label=1.0)
    bars.to_csv(folder / "own.csv", index=False)
    path = sweep_file(("source: sp500", "source: own.csv"))
    built = build(path)
    assert "not used: 2 columns of own.csv: Adj Close, label" in shown(built)
    assert built.as_dict()["unused_columns"] == {"own.csv": ["Adj Close", "label"]}
    prepared = CliRunner().invoke(app, ["data", "prepare", str(path)])
    assert "not used  2 columns of own.csv: Adj Close, label" in prepared.output


def test_a_plan_has_a_row_for_each_budget_and_cells_has_all(sweep_file: Write) -> None:
    path = sweep_file(
        ("budget: [20k]", "budget: [20k, 40k]"), ("horizon: [1]", "horizon: [1, 5]"), ("seed: [0]", "seed: [0, 1, 2]"),
        ("device: cpu", "device: cpu\n  micro_batch: 128"),
    )  # fmt: skip
    built = build(path)
    keys = list(built.states)
    plain = shown(built).splitlines()
    [small, large] = [line for line in plain if line.split()[:1] in (["20k"], ["40k"])]
    assert "6 new" in small
    assert "6 new" in large
    assert re.search(r"\b\d+ to \d+\b", small), "horizons have different effective samples"
    assert "each with horizon 1, 5; seed 0, 1, 2; --cells shows every cell" in plain
    assert not any(key in line for key in keys for line in plain)
    result = CliRunner().invoke(app, ["plan", str(path), "--cells"])
    assert result.exit_code == 0, result.output
    every = result.stdout.splitlines()
    assert all(any(line.split()[:1] == [key] for line in every) for key in keys)
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in [*plain, *every]), "nothing is cut in a pipe"
    narrow = shown(built, width=60, cells=True).splitlines()
    assert max(len(line) for line in narrow) <= 60
    assert all(any(line.split()[:1] == [key] for line in narrow) for key in keys), "columns go before a key is broken"


def test_state_that_the_host_has_no_memory_for_is_reported() -> None:
    gpu, limit = Device("cuda", "a card", 1), Limit(30 * 10**9, "cgroup v2")
    [found] = checks.host_memory(32 * 10**9, gpu, limit)
    assert "take 32.0 GB of the host's memory, and there are 30.0 GB (cgroup v2)" in found.message
    assert not list(checks.host_memory(29 * 10**9, gpu, limit))
    assert not list(checks.host_memory(32 * 10**9, Device("cpu", "a processor", 2), limit)), "measured there"
