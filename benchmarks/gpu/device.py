"""The device, the driver and the sensors for real."""

import time
from collections.abc import Iterator

import torch

from benchmarks.gpu.stages import Row, Setting
from runner.doctor import gpu, memory, temperature
from runner.doctor.context import HostContext
from runner.host.cuda import cuda_visible_devices
from runner.thermal.sensors import SensorError
from runner.thermal.sensors.nvml import NvmlSensor, load_library


def device(setting: Setting) -> Iterator[Row]:
    """What doctor says, PyTorch's view, and two readings of every sensor."""
    place = HostContext()
    for check in (gpu.check, gpu.check_torch, memory.check, temperature.check):
        for finding in check(place):
            yield {"doctor": finding.check, "level": finding.level, "what": finding.what}
    if setting.device == "cuda":
        yield from _cuda()
    try:
        sensor = NvmlSensor(load_library(), cuda_visible_devices())
    except SensorError as error:
        yield {"nvml": "none", "why": str(error)}
        return
    try:
        for wait_s in (0.0, 1.0):  # power is a mean since the reading before, from the energy counter
            time.sleep(wait_s)
            for channel, reading in sensor.read(0.0).items():
                yield {
                    "nvml": channel.device,
                    "part": channel.part,
                    "slowdown_celsius": channel.slowdown_celsius,
                    "celsius": reading.celsius,
                    "watts": reading.power_watts,
                    "utilisation": reading.utilisation,
                    "slowed_by": reading.slowed_by,
                }
    finally:
        sensor.close()


def _cuda() -> Iterator[Row]:
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield {
            "cuda": index,
            "name": found.name,
            "uuid": str(found.uuid),
            "bytes": found.total_memory,
            "capability": f"{found.major}.{found.minor}",
            "multiprocessors": found.multi_processor_count,
            "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
            "torch_cuda": torch.version.cuda,
        }
