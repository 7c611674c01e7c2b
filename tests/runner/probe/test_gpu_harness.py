"""The benchmark for a GPU host, at its tiny sizes on a CPU: every stage says what it should, and budgets hold."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import harness
from benchmarks.gpu.stages import STAGES, Setting

CPU = Setting.of("cpu")
ROOT = Path(__file__).resolve().parents[3]


def rows(name: str) -> list[dict[str, Any]]:
    found = list(STAGES[name].run(CPU))
    json.dumps(found, allow_nan=False)
    return found


def test_a_step_on_the_device_is_the_step_on_the_cpu() -> None:
    found = rows("parity")
    assert [(one["budget"], one["dtype"]) for one in found] == [
        (size, dtype) for size in CPU.sizes for dtype in ("fp32", "bf16")
    ]
    for one in found:
        most = 0.0 if one["dtype"] == "fp32" else 0.02  # here both are the CPU
        assert max(one["loss_off"], one["gradient_off"]) <= most
    assert all(one["loss"] > 0.5 for one in found)


def test_steps_are_timed_against_a_product_of_matrices() -> None:
    first, *found = rows("steps")
    assert first["matmul_tflops"] > 0
    assert [one["budget"] for one in found] == list(CPU.sizes)
    assert all(0 < one["mfu"] < 1 and one["samples_per_second"] > 0 for one in found)


def test_a_checkpoint_is_written_read_and_measured() -> None:
    found = {key: one[key] for one in rows("checkpoint") if one["budget"] == CPU.sizes[-1] for key in one}
    assert found["bytes"] > 3 * found["best_weights_bytes"] > 3 * 4 * 19_000
    assert min(found["build_s"], found["copy_s"], found["write_s"], found["read_s"]) > 0


def test_an_out_of_memory_on_purpose_is_halved_and_resumed() -> None:
    first, *tried, last = rows("out_of_memory")
    assert [one["micro_batch"] for one in tried] == [32, 16]
    assert all(one["known"] for one in tried)
    assert last["micro_batch"] == 8
    assert last["off"] < 1e-5
    assert first["loss"] == pytest.approx(last["loss"], rel=1e-5)


def test_a_trial_shows_its_phases_and_limits_hold_it() -> None:
    *phases, trial = rows("trial")
    assert {one["phase"] for one in phases} == {"gather", "forward", "backward", "clip", "optimizer"}
    assert trial["status"] == "finished"
    first, *actions, last = rows("thermal")
    assert first["hold"] == first["idle_celsius"] + 4
    assert {one["action"] for one in actions} & {"hold", "throttle", "release"}
    assert last["held_s"] + last["throttled_s"] > 0


@pytest.mark.slow
def test_the_probe_and_copies_at_once() -> None:
    assert all(one["micro_batch"] and one["n_oom"] == 0 for one in rows("probe"))
    alone, two = rows("packed")
    assert (alone["copies"], two["copies"]) == (1, 2)
    assert alone["gain"] == 1.0


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "stage.py"
    path.write_text(text)
    return [sys.executable, str(path)]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", "ok"),
        ("import time; time.sleep(600)", "cut off by its budget"),
        ("raise SystemExit(3)", "failed with code 3"),
    ],
)
def test_rows_are_kept_however_a_stage_ends(
    end: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"print('{{\"a\": 1}}', flush=True)\nprint('{{\"a\": 2}}', flush=True)\n{end}\n"
    monkeypatch.setattr(harness, "command", lambda name, device: script(tmp_path, text))
    monkeypatch.setattr(harness, "TOTAL_S", 15.0)
    code = harness.run(tmp_path / "out", "cpu", ["parity", "steps"])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (code == 0) == (status == "ok")
    first, second = results["stages"]["parity"], results["stages"]["steps"]
    assert first["status"].startswith(status)
    assert first["rows"] == [{"a": 1}, {"a": 2}]
    if "time" in end:
        assert second["status"] == "not run, no time was left"


def test_all_budgets_together_are_under_seven_minutes() -> None:
    assert sum(stage.budget_s for stage in STAGES.values()) <= harness.TOTAL_S < 7 * 60


def test_no_stage_loads_ray() -> None:
    modules = sorted({f"benchmarks.gpu.{stage.module}" for stage in STAGES.values()} | {"benchmarks.gpu.harness"})
    text = f"import sys, {', '.join(modules)}\nprint('ray' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n"
