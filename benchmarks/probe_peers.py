"""The resource probe against Lightning's and accelerate's batch-size finders, under a real memory limit on a CPU.

    .venv/bin/python -m benchmarks.probe_peers                                # the probe alone; about five minutes
    .venv/bin/python -m benchmarks.probe_peers --peers PATH/bin/python        # and the peers
    .venv/bin/python -m benchmarks.probe_peers --peers PATH/bin/python --write

It must run as root on Linux with a writable memory control group (version 1) or with systemd. The interpreter of the
peers needs `lightning` and `accelerate` beside this project's own packages and the same torch.

Every contestant runs in a process of its own inside a fresh group with the limit, and looks for the micro-batch of the
same 20m model, on random windows of the same shapes, with the same optimizer. The probe's answer is then trained, in a
fresh process under the same limit: `STEPS` optimizer steps of two micro-batches each, whose peak is that of any
accumulation; a peer's answer makes one such step. The peers get a second chance under a limit on a process's data,
where an allocation fails with an error that they can catch.

What it does not show: both peers are made for CUDA, where an allocation that fails is an error that they catch. That
the kernel kills them on a CPU says little of them there; it shows why the probe measures in a process of its own.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Limiter = Callable[[], contextlib.AbstractContextManager[tuple[list[str], Path | None]]]
RESULTS = Path(__file__).parent / "results" / "probe_peers.json"
ROOT = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 3 * 10**9
BUDGET, GLOBAL_BATCH, N_ROWS = "20m", 4096, 5000
STEPS = 200
TIMEOUT_S = 900.0
V1 = Path("/sys/fs/cgroup/memory")


# ---- under the limit ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def limited() -> Iterator[tuple[list[str], Path | None]]:
    """A prefix for commands that puts them under the limit, and the group if it is ours to read."""
    group = V1 / f"isotherm-benchmark-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    except OSError:
        yield ["systemd-run", "--scope", "--quiet", f"--property=MemoryMax={LIMIT_BYTES}"], None
        return
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"], group
    finally:
        time.sleep(0.5)
        group.rmdir()


def kills(group: Path | None) -> int | None:
    if group is None:
        return None
    return int((group / "memory.oom_control").read_text().split()[-1])


@contextlib.contextmanager
def polite() -> Iterator[tuple[list[str], None]]:
    """A limit on private memory: nobody is killed, an allocation fails with an error that a program can catch.

    Not on the address space, where libraries count that are mapped and never read.
    """
    yield ["prlimit", f"--data={LIMIT_BYTES}"], None


def run(command: list[str], folder: Path, limit: Limiter = limited) -> dict[str, Any]:
    """Run a command under a limit: exit code, seconds, kills, and the last line of its output as JSON."""
    started = time.perf_counter()
    with limit() as (prefix, group):
        own = {"ISOTHERM_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment = os.environ | own
        try:
            done = subprocess.run(
                [*prefix, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
            )
            code, output, errors = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, output, errors = 124, "", "timeout"
        answer: dict[str, Any] = {"exit_code": code, "seconds": round(time.perf_counter() - started, 1)}
        answer["out_of_memory_kills"] = kills(group)
    with contextlib.suppress(ValueError, IndexError):
        answer["answer"] = json.loads(output if output.startswith("{") else output.strip().splitlines()[-1])
    if tried := [int(line.split()[1]) for line in errors.splitlines() if line.startswith("trying ")]:
        answer["tried"] = list(dict.fromkeys(tried))
    if code not in (0, -9, 137):
        answer["stderr"] = errors[-600:]
    return answer


# ---- contestants; each runs in its own process -------------------------------------------------------------------


def request(micro_batch: int, batch: int = GLOBAL_BATCH) -> Any:
    """What the probe's worker is asked for this model."""
    import torch

    from benchmarks.gpu import cases
    from runner.probe.messages import Request

    spec = cases.trial_spec(BUDGET, batch=batch, dtype="fp32")
    record = cases.record(spec, torch.device("cpu"), micro_batch)
    return Request(spec=spec, record=record, n_rows=N_ROWS, n_windows=N_ROWS - cases.CONTEXT)


def train(micro_batch: int, steps: int) -> None:
    """Train steps of two micro-batches; in this process, without any guard."""
    from runner.probe import worker

    given = request(micro_batch, 2 * micro_batch).model_copy(update={"steps": steps})
    print(json.dumps(dataclasses.asdict(worker.run(given))))


def model_and_optimizer() -> tuple[Any, Any]:
    import torch

    from trainables.models import registry
    from trainables.training.optim import make_optimizer

    torch.set_num_threads(1)
    spec = request(1).spec
    model = registry.build(spec.model)
    return model, make_optimizer(model, spec.training)


def lightning() -> None:
    import lightning
    import torch
    from lightning.pytorch.tuner.tuning import Tuner
    from torch.utils.data import DataLoader, TensorDataset

    tried: list[int] = []
    count = N_ROWS - 60
    windows = TensorDataset(torch.randn(count, 60, 20), torch.rand(count).round())  # before the search, as data are

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self._optimizer = model_and_optimizer()
            self.batch_size = 2

        def training_step(self, batch: Any, _: int) -> Any:
            x_BLF, y_B = batch
            return torch.nn.functional.binary_cross_entropy_with_logits(self.model(x_BLF), y_B)

        def configure_optimizers(self) -> Any:
            return self._optimizer

        def train_dataloader(self) -> Any:
            tried.append(self.batch_size)
            print(f"trying {self.batch_size}", file=sys.stderr, flush=True)
            return DataLoader(windows, self.batch_size)

    trainer = lightning.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False)
    started = time.perf_counter()
    found = Tuner(trainer).scale_batch_size(Module(), mode="power", max_trials=12)
    print(json.dumps({"micro_batch": found, "tried": sorted(set(tried)), "seconds": time.perf_counter() - started}))


def accelerate() -> None:
    import torch
    from accelerate.utils import find_executable_batch_size

    tried: list[int] = []

    @find_executable_batch_size(starting_batch_size=GLOBAL_BATCH)
    def steps(batch_size: int) -> int:
        tried.append(batch_size)
        print(f"trying {batch_size}", file=sys.stderr, flush=True)
        model, optimizer = model_and_optimizer()
        for _ in range(2):
            optimizer.zero_grad()
            logits_B = model(torch.randn(batch_size, 60, 20))
            torch.nn.functional.binary_cross_entropy_with_logits(logits_B, torch.ones(batch_size)).backward()
            optimizer.step()
        return batch_size

    started = time.perf_counter()
    found = steps()
    print(json.dumps({"micro_batch": found, "tried": tried, "seconds": time.perf_counter() - started}))


# ---- the comparison ----------------------------------------------------------------------------------------------


def probe(folder: Path, budget: str) -> dict[str, Any]:
    (folder / "configs").exists() or (folder / "configs").symlink_to(ROOT / "configs")
    given = ["--set", f"training.global_batch={GLOBAL_BATCH}", "--set", "execution.device=cpu", "--json"]
    return run([sys.executable, "-m", "runner", "probe", "--budget", budget, *given], folder)


def trained(size: int, folder: Path, steps: int = STEPS) -> dict[str, Any]:
    return run([sys.executable, "-m", "benchmarks.probe_peers", "--train", str(size), "--steps", str(steps)], folder)


def compare(peers: str | None, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"probe": probe(folder, BUDGET)}
    chosen = found["probe"]["answer"]["micro_batch"]
    found["probe_answer_trained"] = trained(chosen, folder)
    largest = largest_that_fits(found["probe"]["answer"])
    found["largest_that_fits"] = {"micro_batch": largest, **trained(largest, folder, 1)}
    found["four_times_that"] = {"micro_batch": 4 * largest, **trained(4 * largest, folder, 1)}
    found["two_billion"] = probe(folder, "2b")
    for name in ("lightning", "accelerate") if peers else ():
        for how, limit in (("killed", limited), ("told", polite)):
            command = [str(peers), "-m", "benchmarks.probe_peers", "--contestant", name]
            result = found[f"{name}_{how}_at_the_limit"] = run(command, folder, limit)
            size = result.get("answer", {}).get("micro_batch")
            result["answer_trained"] = trained(size, folder, 1) if size else None
    return found


def largest_that_fits(answer: dict[str, Any]) -> int:
    """The largest power of two that the two largest measured sizes predict to fit under the whole limit."""
    first, last = sorted(answer["measured"], key=lambda one: one["micro_batch"])[-2:]
    slope = (last["peak_bytes"] - first["peak_bytes"]) / (last["micro_batch"] - first["micro_batch"])
    size = last["micro_batch"]
    while last["peak_bytes"] + slope * (2 * size - last["micro_batch"]) < LIMIT_BYTES:
        size *= 2
    return int(size)


def machine() -> dict[str, Any]:
    import psutil
    import torch

    from runner.host.device import Device, resolve
    from trainables.schema import ExecutionSpec

    device: Device = resolve(ExecutionSpec(device="cpu"))[0]
    return {
        "processor": device.name,
        "cores": device.count,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="a Python that has lightning and accelerate")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    parser.add_argument("--contestant", choices=["lightning", "accelerate"], help=argparse.SUPPRESS)
    parser.add_argument("--train", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        return train(given.train, given.steps)
    if given.contestant:
        return {"lightning": lightning, "accelerate": accelerate}[given.contestant]()
    with tempfile.TemporaryDirectory(prefix="isotherm-benchmark-") as folder:
        document = {
            "limit_bytes": LIMIT_BYTES,
            "limit": "memory control group, version 1" if V1.exists() else "systemd scope",
            "model": BUDGET,
            "global_batch": GLOBAL_BATCH,
            "training_steps": STEPS,
            "machine": machine(),
            "date": datetime.now(UTC).date().isoformat(),
            "found": compare(given.peers, Path(folder)),
        }
    text = json.dumps(document, indent=2)
    print(text)
    if given.write:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
