"""Temperature protection for anybody's own training loop, without Ray."""

import functools
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Self

from pydantic import ValidationError

from runner.thermal.local_gate import LocalGovernor
from runner.thermal.monitor import ThermalMonitor
from runner.thermal.spec import ThermalSpec
from trainables.errors import ConfigError, Problem, ThermalStopError
from trainables.training.gate import Action

WAIT_S = 1.0
SAY_S = 5.0  # of holding, until it is logged

log = logging.getLogger(__name__)


class Governor:
    """Samples the temperature of this host's device in a thread, and makes a training loop rest where it is warm.

    One thread calls `wait` between its steps; on several GPUs each process has a governor of its own.

    Example::

        with isotherm.Governor("cuda", thermal={"interval_s": 0.5}) as governor:
            for batch in batches:
                governor.wait()
                step(batch)
    """

    def __init__(
        self,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        *,
        thermal: ThermalSpec | Mapping[str, Any] | None = None,
    ) -> None:
        """Open the sensor and begin to sample. The device is on hold until the first good reading.

        Args:
            device: ``cuda`` is the current CUDA device; ``auto`` is ``cuda`` where PyTorch sees one.
            thermal: the block `thermal` of a sweep file.

        Raises:
            ConfigError: a wrong setting, or no temperature can be read; ``{"require_sensors": False}`` runs without
                protection there, with a warning in the log.
            SensorError: limits as headroom, for a device without a threshold.
        """
        self._device = _device() if device == "auto" else device
        self._local = LocalGovernor.open(_spec(thermal), self._device, log.warning)
        self._rested = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def monitor(self) -> ThermalMonitor | None:
        """What samples and judges, for readings and limits; None without protection."""
        return None if self._local is None else self._local.station

    @property
    def celsius(self) -> float | None:
        """The latest temperature; None before the first reading."""
        return None if self._local is None else self._local.gate.readings().get("celsius")

    def wait(self) -> float:
        """Wait until the next step may begin: a moment where the device is warm, longer where it is too hot.

        While it is warm, CUDA's queue is waited for, too, so that the device does rest. Memory is never released.

        Returns:
            Seconds waited. Of a cool device it costs about a microsecond.

        Raises:
            ThermalStopError: the device reached its stop limit, or its temperature is unknown for too long.
        """
        if self._local is None:
            return 0.0
        if self._rested and self._device == "cuda":
            import torch

            torch.cuda.synchronize()
        gate, waited_s, said = self._local.gate, 0.0, False
        while (action := gate.check()) is not Action.RUN:
            if action is Action.STOP:
                raise ThermalStopError(gate.reason)
            waited_s += gate.wait(WAIT_S)
            if waited_s >= SAY_S and not said:
                log.warning("waiting: %s", gate.reason)
                said = True
        self._rested = waited_s > 0
        return waited_s

    def close(self) -> None:
        """End the threads and let go of the sensor."""
        if self._local is not None:
            self._local.close()


@contextmanager
def thermal_gate(governor: Governor | None = None) -> Iterator[None]:
    """One step of a training loop, which begins when the device may work.

    Example::

        for batch in batches:
            with isotherm.thermal_gate():
                step(batch)

    Args:
        governor: whose gate; None = one with the default settings, which the process keeps to its end.

    Raises:
        ThermalStopError: see `Governor.wait`.
        ConfigError: see `Governor`.
    """
    (governor or _of_this_process()).wait()
    yield


@functools.cache
def _of_this_process() -> Governor:
    return Governor()


def _device() -> Literal["cpu", "cuda"]:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _spec(given: ThermalSpec | Mapping[str, Any] | None) -> ThermalSpec:
    if isinstance(given, ThermalSpec):
        return given
    try:
        return ThermalSpec.model_validate(given or {})
    except ValidationError as error:
        raise ConfigError(map(_problem, error.errors(include_url=False))) from error


def _problem(issue: Any) -> Problem:
    place = ".".join(("thermal", *map(str, issue["loc"])))
    return Problem(place=place, message=issue["msg"].removeprefix("Value error, "))
