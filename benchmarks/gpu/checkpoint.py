"""Size of a checkpoint, and the seconds to copy the best weights, to write and to read it."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.cases import record, trial_data, trial_spec
from benchmarks.gpu.stages import Row, Setting
from trainables.checkpoints.file_store import FileCheckpointStore
from trainables.training.learner import Learner, Schedule
from trainables.training.losses import make_loss
from trainables.training.metrics import Prior

ROOM = 1.1  # a checkpoint is written beside nothing else


def checkpoint(setting: Setting) -> Iterator[Row]:
    """The two largest sizes; each figure as soon as it is known."""
    device = torch.device(setting.device)
    for size in setting.sizes[-2:]:
        spec = trial_spec(size, batch=setting.batch, dtype="bf16" if setting.device == "cuda" else "fp32")
        data = trial_data(spec, device, 1000)
        loss = make_loss(spec.training, spec.task.outcome, Prior(0.5, 0.25))
        began = time.perf_counter()
        learner = Learner(spec, record(spec, device, 32), Schedule(spec, 1000), loss, device)
        learner.step(data.train, 0)
        yield {"budget": size, "build_s": time.perf_counter() - began}
        began = time.perf_counter()
        copied = sum(tensor.numel() * tensor.element_size() for tensor in learner.weights().values())
        yield {"budget": size, "best_weights_bytes": copied, "copy_s": time.perf_counter() - began}
        with tempfile.TemporaryDirectory() as folder:
            if shutil.disk_usage(folder).free < ROOM * 3 * copied:
                yield {"budget": size, "write_s": None, "why": f"no room for {3 * copied} bytes in {folder}"}
                continue
            store = FileCheckpointStore(Path(folder), attempt=1, key=spec.key)
            began = time.perf_counter()
            store.save(learner.state(), step=1, spec=spec)
            written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
            yield {"budget": size, "bytes": written, "write_s": time.perf_counter() - began}
            began = time.perf_counter()
            state = store.load()
            assert state is not None
            learner.load(state)
            yield {"budget": size, "read_s": time.perf_counter() - began}
        learner.free()
