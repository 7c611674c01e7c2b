"""The probe of a step of one's own: a script's function, run in another process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import isotherm
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """\
from dataclasses import dataclass

import torch
from neighbour import WIDTH

import isotherm


@dataclass
class Options:
    width: int = WIDTH


def make_step(micro_batch):
    model = torch.nn.Linear(Options().width, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(micro_batch, Options().width)

    def step():
        if micro_batch > 16:
            held = bytearray(10**9)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    probe = isotherm.Probe(make_step, batch=48, device="cpu", memory_limit=1_200_000_000)
    best = probe.run()
    print(best.micro_batch, best.samples_per_second > 0, best.peak_bytes < 1e9, [one.outcome for one in probe.measured])
"""


def make_step(micro_batch: int) -> object:
    raise AttributeError(f"no such layer for {micro_batch}")


def test_a_scripts_step_is_measured_in_another_process_which_alone_runs_out_of_memory(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("WIDTH = 16\n")
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    size, timed, small, outcomes = done.stdout.split(" ", 3)
    assert int(size) in (1, 2, 4, 8, 16)
    assert (timed, small) == ("True", "True")
    assert "ok" in outcomes


def test_what_a_step_raises_is_shown() -> None:
    from runner.probe.child import ProbeError

    with pytest.raises(ProbeError, match="no such layer for 1"):
        isotherm.Probe(make_step, batch=4, device="cpu").run()


def test_not_even_one_sample_fits() -> None:
    with pytest.raises(isotherm.InfeasibleError, match=r"a micro-batch of 1 does not fit .*the limit asked for"):
        isotherm.Probe(sized, batch=4, device="cpu", memory_limit=10**8).run()


def sized(micro_batch: int) -> object:
    return lambda: torch.ones(micro_batch)


def test_functions_that_no_other_process_can_import_are_refused() -> None:
    with pytest.raises(isotherm.ConfigError) as raised:
        isotherm.Probe(lambda size: lambda: None, batch=0, margin=1)
    assert [problem.place for problem in raised.value.problems] == ["make_step", "batch", "margin"]
    with pytest.raises(isotherm.ConfigError, match="at the top level"):
        isotherm.Probe(print, batch=1)  # type: ignore[arg-type]
