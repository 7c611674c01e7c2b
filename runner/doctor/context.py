"""What is examined: a host, and what a sweep would ask of it."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.config.layers import place_of_name
from runner.config.settings import (
    ProbeSpec,
    RayEnvironment,
    Secrets,
    SweepSettings,
    TrackingSpec,
    UserSettings,
    WandbEnvironment,
    tracking_of_environment,
)
from runner.host.cuda import gpu_nodes
from runner.rundir.paths import DATA, RUNS
from runner.thermal.sensors.nvml import load_library
from runner.thermal.spec import ThermalSpec
from trainables.errors import ConfigError, Problem
from trainables.schema import ExecutionSpec


def _tracking() -> TrackingSpec:
    try:
        return TrackingSpec.model_validate(tracking_of_environment())
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ConfigError(Problem(place=place_of_name("MLFLOW_TRACKING_URI"), message=message)) from None


@dataclass(frozen=True)
class HostContext:
    """A host and a sweep's wishes. The defaults are this host and a sweep without settings of its own.

    `root` is where ``proc``, ``sys`` and ``dev`` are; `nvml` gives a library with the functions of `pynvml`; `cluster`
    says that trials run on a cluster that was named.
    """

    execution: ExecutionSpec = field(default_factory=ExecutionSpec)
    probe: ProbeSpec = field(default_factory=ProbeSpec)
    thermal: ThermalSpec = field(default_factory=ThermalSpec)
    tracking: TrackingSpec = field(default_factory=_tracking)
    storage: str | None = None
    runs: Path = RUNS
    data: Path = DATA
    cache: Path = field(default_factory=lambda: UserSettings().cache_dir)
    home: Path = field(default_factory=lambda: Path(os.path.expanduser("~")))
    temp: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    root: Path = Path("/")
    ray: RayEnvironment = field(default_factory=RayEnvironment)
    secrets: Secrets = field(default_factory=Secrets)
    wandb: WandbEnvironment = field(default_factory=WandbEnvironment)
    nvml: Callable[[], Any] = load_library
    cluster: bool = False

    @classmethod
    def of(
        cls, settings: SweepSettings | None, runs: Path = RUNS, data: Path = DATA, *, cluster: bool = False
    ) -> "HostContext":
        """This host, for a sweep; on a cluster it only drives, and trials' devices and cores are elsewhere."""
        if settings is None:
            return cls(runs=runs, data=data, cluster=cluster)
        elsewhere = {"device": "auto", "threads": "auto"} if cluster else {}
        return cls(
            execution=settings.execution.model_copy(update=elsewhere),
            probe=settings.probe,
            thermal=settings.thermal,
            tracking=settings.tracking,
            storage=settings.storage_path,
            runs=runs,
            data=data,
            cluster=cluster,
        )

    @property
    def shared(self) -> tuple[Path, ...]:
        """Folders that every node of a cluster must see: none where a storage serves nodes with disks of their own."""
        return (self.runs, self.data) if self.storage is None else ()

    @property
    def gpu_nodes(self) -> list[Path]:
        """Device files of NVIDIA GPUs."""
        return gpu_nodes(self.root)
