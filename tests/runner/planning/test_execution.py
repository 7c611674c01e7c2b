"""Shares of GPUs for a whole grid: what the probe measured, the number of trials and of GPUs together."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import sweep_file as sweepfile
from runner.host.device import Device, Site
from runner.host.memory_limits import Limit
from runner.planning import execution
from runner.planning import plan as planning
from runner.planning.plan import Plan
from runner.probe.batch_size import Measurement
from runner.probe.request import ProbeRequest, ProbeResult

Write = Callable[..., Path]
TOTALS = ((1, 1000.0), (2, 1500.0), (4, 2000.0), (8, 2500.0))


class Measured:
    """Answers every question with eight trials a GPU, as a prober does on one."""

    def __init__(self) -> None:
        self.asked: list[ProbeRequest] = []

    def decide(self, question: ProbeRequest) -> ProbeResult:
        self.asked.append(question)
        share = question.record.gpu_share if "gpu_share" in question.pinned else None
        return ProbeResult(
            question=question,
            stopped="cap",
            chosen=Measurement(micro_batch=16, outcome="ok", peak_bytes=10**9, samples_per_second=1000.0),
            limit=Limit(80 * 10**9, "free device memory"),
            usable_bytes=72 * 10**9,
            needed_bytes=10**9,
            copies=8,
            execution=question.record.model_copy(update={"gpu_share": share or 0.125, "reserved_cores": 1}),
            totals=TOTALS if share is None else (),
            samples_per_second=2500.0 / 8,
        )


def plan(path: Path, gpus: int, prober: Measured, *overrides: str, accelerators: tuple[str, ...] = ()) -> Plan:
    site = Site(Device("cuda", "NVIDIA H100", gpus, accelerators))
    loaded = sweepfile.load(path, ("execution.device=cuda", "execution.micro_batch=auto", *overrides))
    return planning.build(loaded, prober=prober, site=site)


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "usable_cores", lambda: 64)


@pytest.mark.parametrize(("seeds", "gpus", "share"), [(8, 4, 0.5), (8, 1, 0.125), (3, 4, 1.0), (9, 4, 0.3333)])
def test_eight_trials_on_four_gpus_are_two_on_each(
    seeds: int, gpus: int, share: float, sweep_file: Write, many_cores: None
) -> None:
    prober = Measured()
    made = plan(sweep_file(("seed: [0]", f"seed: {list(range(seeds))}")), gpus, prober)
    assert {cell.record.gpu_share for cell in made.grid.cells} == {share}
    assert {(one.n_trials, one.n_alike) for one in prober.asked} == {(seeds, seeds)}
    copies = int(1 / share)
    for cell in made.grid.cells:
        assert cell.decision is not None
        assert cell.decision.copies == copies
        assert cell.record.measured is not None
        total = cell.decision.samples_per_second * copies
        assert total == pytest.approx(dict(TOTALS).get(copies, 1750.0)), "the forecast is that of so many copies"


def test_a_pinned_share_stays(sweep_file: Write, many_cores: None) -> None:
    path = sweep_file(("seed: [0]", "seed: [0, 1]"))
    made = plan(path, 4, Measured(), "execution.gpu_share=0.25")
    assert {cell.record.gpu_share for cell in made.grid.cells} == {0.25}


def test_cores_are_looked_at(sweep_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "usable_cores", lambda: 4)
    made = plan(sweep_file(("seed: [0]", f"seed: {list(range(8))}")), 4, Measured())
    assert {cell.record.gpu_share for cell in made.grid.cells} == {1.0}, "four cores feed one trial on each GPU"


def test_trials_start_by_their_expected_time_or_by_their_size(sweep_file: Write, many_cores: None) -> None:
    path = sweep_file(("seed: [0]", "training.epochs: [1, 6]\n  seed: [0]"))
    measured = plan(path, 1, Measured(), "grid.budget=[20k, 40k]").grid.cells
    assert [cell.spec.training.epochs for cell in execution.longest_first(measured)] == [6, 6, 1, 1]
    unmeasured = [
        dataclasses.replace(cell, record=cell.record.model_copy(update={"measured": None})) for cell in measured
    ]
    ordered = execution.longest_first(unmeasured)
    assert [cell.labels["budget"] for cell in ordered] == ["40k", "40k", "20k", "20k"]
