"""Run by each Python that is started with this folder on its path: a trial's worker waits at each optimizer step.

So a small model trains for long enough to be disturbed, on machines of every speed, and uses no processor for it. The
wait is made through torch's own hook; nothing of ours is touched, and no result differs.
"""

import os
import sys
import time
from collections.abc import Sequence
from types import ModuleType

SECONDS_PER_STEP = float(os.environ.get("SLOW_STEP_S", "0.3"))


class _WithTorch:
    """Sets the hook when torch's optimizers are imported: Ray has workers that never import torch."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "torch.optim.adamw":
            from torch.optim.optimizer import register_optimizer_step_pre_hook

            sys.meta_path.remove(self)
            register_optimizer_step_pre_hook(lambda *_: time.sleep(SECONDS_PER_STEP))


if any("default_worker" in part for part in sys.orig_argv):
    sys.meta_path.insert(0, _WithTorch())
