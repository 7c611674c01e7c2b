"""Temperature protection in Lightning: the trainer rests between batches where the device is warm.

trainer = Trainer(callbacks=[ThermalGate()])   # or ThermalGate(isotherm.Governor("cuda", thermal={...}))
"""

from typing import Any

from lightning.pytorch import Callback

import isotherm


class ThermalGate(Callback):
    """Waits before each batch. At the stop limit `ThermalStopError` ends the fit, as any exception does."""

    def __init__(self, governor: isotherm.Governor | None = None) -> None:
        self.governor = governor

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.governor = self.governor or isotherm.Governor()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.governor.wait()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.governor.close()
