"""The block `thermal` of a sweep file."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trainables.schema import NamedPart, Spec

Scale = Literal["celsius", "headroom"]


class LimitsSpec(Spec):
    """Limits of one kind of sensor: in Celsius, or as headroom below the device's own slowdown threshold."""

    scale: Scale = Field("celsius", description="celsius, or headroom: degrees below the slowdown threshold")
    target: float = Field(description="the duty cycle holds this temperature")
    hold: float = Field(description="trials wait between steps from here on")
    resume: float = Field(description="a hold ends at or below this")
    stop: float = Field(description="trials checkpoint and end from here on")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        limits = {"resume": self.resume, "target": self.target, "hold": self.hold, "stop": self.stop}
        sign, word = (1, "below") if self.scale == "celsius" else (-1, "above")
        for low, high in (("target", "hold"), ("resume", "hold"), ("hold", "stop")):
            if not sign * limits[low] < sign * limits[high]:
                given = ", ".join(f"{name} {value:g}" for name, value in limits.items())
                raise ValueError(f"{low} must lie {word} {high} ({given}, scale {self.scale})")
        if self.scale == "celsius" and not all(0 < value <= MAX_CELSIUS for value in limits.values()):
            raise ValueError(f"limits must lie between 0 and {MAX_CELSIUS:g} Celsius")
        if self.scale == "headroom" and self.stop < 0:
            raise ValueError("headroom is counted downwards from the slowdown threshold and cannot be negative")
        return self


MAX_CELSIUS = 150.0  # silicon is destroyed before; a reading above is no temperature


class GpuLimits(LimitsSpec):
    """Limits of a GPU's die."""

    # NVIDIA A100 as `nvidia-smi -q -d TEMPERATURE` says it: highest operating 85, slowdown 89, shutdown 92. Other
    # boards differ by a few degrees; `scale: headroom` follows the board's own threshold.
    target: float = Field(80.0, description="the duty cycle holds this temperature")
    hold: float = Field(83.0, description="trials wait between steps from here on")
    resume: float = Field(75.0, description="a hold ends at or below this")
    stop: float = Field(89.0, description="trials checkpoint and end from here on")


class MemoryLimits(LimitsSpec):
    """Limits of a GPU's memory, where the driver gives its temperature."""

    # HBM2e of the same A100: highest operating 95. GDDR6X is specified higher (Micron: 105 to 110 throttling).
    target: float = Field(87.0, description="the duty cycle holds this temperature")
    hold: float = Field(90.0, description="trials wait between steps from here on")
    resume: float = Field(82.0, description="a hold ends at or below this")
    stop: float = Field(95.0, description="trials checkpoint and end from here on")


class CpuLimits(LimitsSpec):
    """Limits of a CPU package."""

    # Throttling by the chip itself begins at 95 (AMD Ryzen 7000, 'Max. Operating Temperature (Tjmax)') or 100 (Intel
    # Core, 'T_junction'). A CPU heats by ten degrees within a second, hence the wide gap between target and hold.
    target: float = Field(80.0, description="the duty cycle holds this temperature")
    hold: float = Field(88.0, description="trials wait between steps from here on")
    resume: float = Field(75.0, description="a hold ends at or below this")
    stop: float = Field(95.0, description="trials checkpoint and end from here on")


class HwmonSpec(Spec):
    """Which hardware monitor is read; null = the first chip known to be a CPU's."""

    chip: str | None = Field(None, description="chip, such as coretemp or k10temp")
    label: str | None = Field(None, description="label within the chip, such as Package id 0; null = the hottest")


class HeatWave(Spec):
    """A rise of the ambient temperature for some time."""

    start_s: float = Field(ge=0, description="seconds after the start")
    end_s: float = Field(gt=0, description="seconds after the start")
    celsius: float = Field(description="added to the ambient temperature")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end_s <= self.start_s:
            raise ValueError(f"end_s {self.end_s:g} must lie after start_s {self.start_s:g}")
        return self


class PlantSpec(Spec):
    """A simulated device: a first-order thermal model, its load, and its sensor."""

    ambient_celsius: float = Field(25.0, description="temperature of the surroundings")
    resistance: float = Field(0.2, gt=0, description="degrees a watt (thermal resistance)")
    time_constant_s: float = Field(40.0, gt=0, description="seconds to 63 % of a change")
    power_watts: float = Field(300.0, gt=0, description="power under load")
    idle_power_watts: float = Field(0.0, ge=0, description="power at rest")
    noise_celsius: float = Field(0.0, ge=0, description="standard deviation of a reading")
    quantum_celsius: float = Field(1.0, ge=0, description="readings are multiples of this; 0 = exact")
    delay_s: float = Field(0.0, ge=0, description="age of what a reading shows")
    dropout: tuple[tuple[float, float], ...] = Field((), description="spans [start, end] in seconds without a reading")
    heat_wave: HeatWave | None = Field(None, description="a rise of the ambient temperature")
    seed: int = Field(0, ge=0, description="of the noise")

    @model_validator(mode="after")
    def _power(self) -> Self:
        if self.idle_power_watts >= self.power_watts:
            raise ValueError("idle_power_watts must lie below power_watts")
        if any(end <= start for start, end in self.dropout):
            raise ValueError("a dropout must end after its start")
        return self


class SensorSpec(NamedPart):
    """Which sensor. Further keys are the sensor's own; without any, its name alone says the same."""

    name: str = Field("auto", description="sensor; `isotherm parts` lists them, with their keys")


class ThermalSpec(Spec):
    """Temperature protection."""

    require_sensors: bool = Field(True, description="refuse to start where no temperature can be read")
    sensor: SensorSpec = Field(
        SensorSpec(),
        description="auto = nvml for trials on a GPU, hwmon for trials on the CPU; plant = simulated; replay; or one "
        "of your own: a name, or a block with it and its own keys",
    )
    gpu: GpuLimits = GpuLimits()
    memory: MemoryLimits = MemoryLimits()
    cpu: CpuLimits = CpuLimits()
    hwmon: HwmonSpec = HwmonSpec()
    replay: str | None = Field(None, description="CSV for sensor: replay; columns time_s, celsius (limits: gpu)")
    plant: PlantSpec = PlantSpec()
    min_power_limit: float | None = Field(
        None,
        ge=0.3,
        lt=1,
        description="share of a GPU's power limit down to which it is lowered before trials rest, where root may; "
        "null = never",
    )
    interval_s: float = Field(1.0, gt=0, le=60, description="seconds between two readings")
    period_s: float = Field(1.0, gt=0, le=60, description="seconds of one duty cycle")
    hold_samples: int = Field(3, ge=1, description="consecutive readings at or above hold that start a hold")
    min_hold_s: float = Field(10.0, ge=0, description="shortest hold")
    hold_timeout_s: float = Field(300.0, gt=0, description="a longer hold releases the device's memory")
    unknown_hold_s: float = Field(5.0, gt=0, description="without a good reading for so long: hold")
    unknown_stop_s: float = Field(120.0, gt=0, description="without a good reading for so long: stop")
    frozen_after_s: float = Field(
        1800.0, gt=0, description="the same temperature through so much work: test the sensor by a dip"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.unknown_stop_s <= self.unknown_hold_s:
            raise ValueError("unknown_stop_s must be longer than unknown_hold_s")
        if self.unknown_hold_s < 2 * self.interval_s:
            raise ValueError("unknown_hold_s must be at least two sampling intervals (interval_s)")
        if self.sensor.name == "replay" and self.replay is None:
            raise ValueError("sensor: replay needs the path of a CSV file in thermal.replay")
        return self
