"""The probe through the command, and trials that run out of memory, with real Ray and real processes."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import SWEEP, Workplace
from tests.waiting import wait_for

pytestmark = pytest.mark.xdist_group("probe")

ONE = ("--set", "grid.budget=[20k]", "--set", "model.dropout=0", "--no-tracking")

# Loaded by every Python that is started with this folder on its path. In a trial's worker it makes the fault at an
# optimizer step, once, through torch's own hook: nothing of ours is touched.
FAULT = """\
import sys
if any("default_worker" in part for part in sys.orig_argv):
    import os
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    steps = 0

    def fault(*_):
        global steps
        steps += 1
        if steps == {step} and not os.path.exists({flag!r}):
            open({flag!r}, "w").close()
            {action}

    register_optimizer_step_pre_hook(fault)
"""
CUDA_ERROR = 'raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")'
GREED = "hoard = [bytearray(os.urandom(1 << 20)) * 64 for _ in range(200)]"  # 12.8 GB, every page touched
SUICIDE = "os.kill(os.getpid(), 9)"


@dataclass
class FaultyPlace(Workplace):
    """A workplace with its own probe cache, and a fault for its workers."""

    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "ISOTHERM_CACHE_DIR": str(self.folder / "cache"), **self.variables}

    def break_at(self, step: int, action: str) -> None:
        faults = self.folder / "faults"
        faults.mkdir()
        text = FAULT.format(step=step, flag=str(self.folder / "broken"), action=action)
        (faults / "sitecustomize.py").write_text(text)
        self.variables["PYTHONPATH"] = str(faults)

    def results(self, run: str = "small") -> pd.DataFrame:
        table = super().results(run)
        return table[table["kind"] == "model"]

    def starts(self) -> list[int]:
        executions = [one["execution"] for one in self.ledger() if one["kind"] == "attempt"]
        return [
            execution["micro_batch"] for execution in executions if "micro_batch" in execution
        ]  # baselines have none

    def ends(self) -> list[tuple[str, str]]:
        started = {one["key"] for one in self.ledger() if "micro_batch" in one.get("execution", {})}
        ended = [one for one in self.ledger() if one["kind"] == "ended" and one["key"] in started]
        return [(one["status"], one["reason"]) for one in ended]


@pytest.fixture
def make_place() -> Iterator[Callable[[Path], FaultyPlace]]:
    places: list[FaultyPlace] = []

    def make(folder: Path, text: str = SWEEP) -> FaultyPlace:
        place = FaultyPlace(folder)
        place.write(text)
        places.append(place)
        return place

    yield make
    for place in places:
        place.stop()


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Results of the undisturbed trial, and what the probe promised."""
    place = FaultyPlace(tmp_path_factory.mktemp("calm"))
    place.write()
    place.run("sweep", "sweep.yaml", *ONE)
    assert place.starts() == [64]
    return place.results()


def close(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equal but for rounding: a sum over pieces of another size is rounded otherwise (fp32, 30 steps)."""
    for name in ("train_loss", "val_loss", "test_loss", "val_auc", "test_auc", "skill"):
        if name in one:
            assert one[name].tolist() == pytest.approx(other[name].tolist(), rel=1e-3), name
    assert list(one["global_batch"]) == list(other["global_batch"])
    assert list(one["steps"]) == list(other["steps"])


@pytest.mark.slow
def test_cudas_out_of_memory_halves_the_micro_batch_and_the_trial_ends_as_if_nothing_had_been(
    make_place: Callable[..., FaultyPlace], tmp_path: Path, calm: pd.DataFrame
) -> None:
    place = make_place(tmp_path)
    place.break_at(20, CUDA_ERROR)
    place.run("sweep", "sweep.yaml", *ONE)
    assert place.starts() == [64, 32]
    assert [status for status, _ in place.ends()] == ["out_of_memory", "finished"]
    assert "CUDA out of memory" in place.ends()[0][1]
    table = place.results()
    assert list(table["status"]) == ["finished"]
    assert list(table["accumulation"]) == [4]
    close(calm, table)


@pytest.mark.slow
def test_a_worker_that_crashes_keeps_its_micro_batch(
    make_place: Callable[..., FaultyPlace], tmp_path: Path, calm: pd.DataFrame
) -> None:
    place = make_place(tmp_path)
    place.break_at(20, SUICIDE)
    place.run("sweep", "sweep.yaml", *ONE)
    assert place.starts() == [64, 64]
    assert [status for status, _ in place.ends()] == ["failed", "finished"]
    assert place.results()["val_loss"].tolist() == calm["val_loss"].tolist(), "bit for bit"


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A memory control group of 3 GB; version 1, which this process may write."""
    mount = Path("/sys/fs/cgroup/memory")
    group = mount / f"isotherm-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(3 * 10**9))
    except OSError as error:
        pytest.skip(f"no writable memory cgroup (version 1): {error}")
    yield group

    def removed() -> bool:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(OSError):  # it has ended
                (mount / "cgroup.procs").write_text(pid)
        with suppress(OSError):  # one is on its way out
            group.rmdir()
        return not group.exists()

    wait_for(removed)


@pytest.mark.slow
def test_a_kill_for_lack_of_memory_halves_the_micro_batch(
    make_place: Callable[..., FaultyPlace], tmp_path: Path, calm: pd.DataFrame, small_memory: Path
) -> None:
    place = make_place(tmp_path)
    place.break_at(20, GREED)
    inside = f"echo $$ > {small_memory}/cgroup.procs && exec "
    command = inside + " ".join(f"'{part}'" for part in place.command("sweep", "sweep.yaml", *ONE))
    place.command = lambda *_: ["sh", "-c", command]  # type: ignore[method-assign]
    place.run()
    assert place.starts() == [64, 32], place.ends()
    status, reason = place.ends()[0]
    assert status == "out_of_memory"
    assert re.search("host-memory guard|killed by the kernel", reason)
    close(calm, place.results())


@pytest.mark.slow
def test_probe_answers_with_what_was_measured_and_refuses_what_cannot_fit(
    make_place: Callable[..., FaultyPlace], tmp_path: Path
) -> None:
    place = make_place(tmp_path)
    given = ("--config", "sweep.yaml", "--memory-limit", "3GB", "--set", "training.global_batch=64")
    first = json.loads(place.run("probe", "--budget", "20k", *given, "--json").stdout)
    assert first["feasible"]
    assert first["micro_batch"] * first["accumulation"] >= 64
    assert first["micro_batch"] in [one["micro_batch"] for one in first["measured"]]
    assert first["limit_bytes"] == 3 * 10**9
    assert 0 < first["peak_bytes"] <= 0.9 * first["limit_bytes"]
    assert first["n_measured"] <= 8
    assert first["n_oom"] == 0
    assert first["samples_per_second"] > 0

    second = json.loads(place.run("probe", "--budget", "20k", *given, "--json").stdout)
    assert second["n_measured_now"] == 0
    assert second["measured"] == first["measured"]

    refused = place.run("probe", "--budget", "2b", *given, expect=2)
    assert "32." in refused.stdout
    assert "3.00 GB" in refused.stdout
    shown = place.run("probe", "--budget", "20k", *given).stdout
    assert "chosen" in shown
    assert "█" in shown


@pytest.mark.slow
def test_plan_refuses_what_does_not_fit_and_measures_nothing_twice(
    make_place: Callable[..., FaultyPlace], tmp_path: Path
) -> None:
    place = make_place(tmp_path, SWEEP.replace("[20k, 60k]", "[20k, 2b]"))
    limit = ("--set", "probe.memory_limit=4GB")
    plan = json.loads(place.run("plan", "sweep.yaml", *limit, "--json").stdout)
    small, large = plan["cells"]
    assert (small["state"], large["state"]) == ("new", "infeasible")
    assert "2b does not fit" in large["infeasible"]
    assert large["needed_bytes"] > 32e9
    assert large["usable_bytes"] < 4e9
    assert small["micro_batch"] == 64, "what the file pins"
    assert small["peak_bytes"] > 100e6
    assert plan["seconds"] > 0
    assert sum(cell["n_measured_now"] for cell in plan["cells"]) == 1
    again = json.loads(place.run("plan", "sweep.yaml", *limit, "--json").stdout)
    assert sum(cell["n_measured_now"] for cell in again["cells"]) == 0

    place.run("sweep", "sweep.yaml", *limit, "--no-tracking")
    table = place.results()
    assert sorted(table["status"]) == ["finished", "infeasible"]
    measured = place.results().loc["20k-h1-s0"]
    assert measured["predicted_seconds_per_step"] > 0
    assert measured["seconds_per_step"] > 0

    nothing = place.run("plan", "sweep.yaml", *limit, "--set", "grid.budget=[2b]", expect=2)
    assert "32." in nothing.stdout
