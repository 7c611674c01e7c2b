"""One sensor, its policies, and what they published: the governor of one host, free of Ray and of threads."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from runner.host import clock as wall
from runner.thermal import policy
from runner.thermal.policy import Level, Limits, Rules, State
from runner.thermal.power_limit import PowerLimits
from runner.thermal.reading import ANY_DEVICE, MISSING, Channel, Reading
from runner.thermal.sensors import Sensor, SensorError
from runner.thermal.spec import LimitsSpec, ThermalSpec

PRESENT_S = 5.0  # a trial that has not asked for so long does not work any more
KEPT_SAMPLES = 36_000  # ten hours of one channel, if they are not fetched


@dataclass(frozen=True)
class Published:
    """What holds for one device. Times are of this host's monotonic clock, which all its processes share.

    Attributes:
        sampled_at_s: when the sensor was last asked; a gate that sees this grow old fails closed.
        level: how much the device is held back.
        duty: share of each period, from its start, in which trials work.
        period_s: length of a duty period; periods start at whole multiples of it, so that all trials rest together.
        celsius: latest good reading of the device's first channel.
        reason: in words.
        watts: what the device took on average between its two latest readings; None where its sensor does not say.
        limited: whether its power limit is lowered.
    """

    sampled_at_s: float
    level: Level
    duty: float
    period_s: float
    celsius: float | None
    reason: str
    watts: float | None = None
    limited: bool = False


def together(devices: Sequence[Published]) -> Published:
    """What holds for a trial on several devices: the worst of them, the highest temperature, and the power of all."""
    worst = max(devices, key=lambda one: (one.level, -one.duty))
    celsius = max((one.celsius for one in devices if one.celsius is not None), default=None)
    watts = [one.watts for one in devices if one.watts is not None]
    limited = any(one.limited for one in devices)
    return replace(worst, celsius=celsius, watts=sum(watts) if len(watts) == len(devices) else None, limited=limited)


@dataclass(frozen=True)
class Sample:
    """One row of telemetry; limits in Celsius."""

    seq: int
    time: datetime
    device: str
    sensor: str
    part: str
    celsius: float | None
    state: str
    duty: float
    power_watts: float | None
    utilisation: float | None
    slowed_by: str
    reason: str
    limits: Limits


class ThermalMonitor:
    """Samples one sensor and judges every channel; a device is as hot as its worst channel. Thread-safe.

    Stopped devices stay stopped until `reset`. A reading that fails counts as unknown for every channel.
    """

    def __init__(
        self,
        spec: ThermalSpec,
        sensor: Sensor,
        *,
        stopped: frozenset[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with every device on hold.

        Args:
            spec: limits and times.
            sensor: owned from now on; used by whoever calls `sample`.
            stopped: devices that a predecessor had stopped.
            clock: seconds, monotonic.

        Raises:
            SensorError: limits as headroom, for a device without a threshold.
        """
        self.sensor = sensor
        self._spec = spec
        self._clock = clock
        self._rules = {channel: _rules(spec, channel) for channel in sensor.channels}
        now = clock()
        self._states = {channel: policy.begin(now) for channel in sensor.channels}
        for channel in sensor.channels:
            if channel.device in stopped:
                reason = "stopped before the governor was replaced"
                self._states[channel] = policy.stopped(self._states[channel], reason)
        self._readings: dict[Channel, Reading] = dict.fromkeys(sensor.channels, MISSING)
        self._sampled_at_s = now
        self._power: PowerLimits | None = getattr(sensor, "power_limits", None)
        self._duties = dict.fromkeys(self.devices, 0.0)
        self._present: dict[str, dict[str, float]] = {}
        self._samples: deque[Sample] = deque(maxlen=KEPT_SAMPLES)
        self._seq = 0
        self._lock = threading.Lock()

    @property
    def devices(self) -> tuple[str, ...]:
        """Watched devices."""
        return tuple(dict.fromkeys(channel.device for channel in self._states))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as the settings ask, in words."""
        refused = self._power.refused if self._power is not None else {}
        return tuple(
            f"the power limit of {device} is left alone, and trials rest instead: {why}"
            for device, why in refused.items()
        )

    def sample(self) -> None:
        """Ask the sensor once, judge, and set power limits. The lock is not held meanwhile, as a driver may hang."""
        try:
            readings: Mapping[Channel, Reading] = self.sensor.read(self._load())
        except Exception:  # whatever a driver's library throws, it is no reading
            readings = {}
        now = self._clock()
        with self._lock:
            states = {
                channel: policy.advance(
                    self._rules[channel],
                    state,
                    readings.get(channel, MISSING),
                    now,
                    busy=self._busy(channel.device, now),
                )
                for channel, state in self._states.items()
            }
        duties = {device: self._limited(device, states) for device in self.devices}
        with self._lock:
            self._sampled_at_s, self._states, self._duties = now, states, duties
            for channel in states:
                reading = readings.get(channel, MISSING)
                if reading.good:
                    self._readings[channel] = reading
                self._note(channel, reading)

    def published(self, device: str, trial: str | None = None) -> Published:
        """What holds for a device; a trial's name says that it works there. A device without a sensor is unknown."""
        with self._lock:
            watched = ANY_DEVICE if ANY_DEVICE in self.devices else device
            if trial is not None:
                self._present.setdefault(watched, {})[trial] = self._clock()
            return self._published(watched)

    def samples_after(self, seq: int) -> list[Sample]:
        """Telemetry with a higher number."""
        with self._lock:
            return [sample for sample in self._samples if sample.seq > seq]

    def _limited(self, device: str, states: Mapping[Channel, State]) -> float:
        """The duty of a device, as far as its power limit is not lowered for it."""
        duty = min(state.duty for channel, state in states.items() if channel.device == device)
        return duty if self._power is None else self._power.apply(device, duty)

    # ---- inside the lock -----------------------------------------------------------------------------------------

    def _published(self, device: str) -> Published:
        states = {channel: state for channel, state in self._states.items() if channel.device == device}
        if not states:
            reason = f"device {device} is not watched; watched are {', '.join(self.devices) or 'none'}"
            return Published(-self._spec.unknown_stop_s, Level.HOLD, 0.0, self._spec.period_s, None, reason)
        first = self._readings[next(iter(states))]
        worst = max(states.values(), key=lambda state: (state.level, -state.duty))
        share = self._power.share(device) if self._power is not None else 1.0
        return Published(
            sampled_at_s=self._sampled_at_s,
            level=worst.level,
            duty=self._duties[device],
            period_s=self._spec.period_s,
            celsius=first.celsius,
            reason=worst.reason if share == 1.0 else f"{worst.reason}; power limit at {100 * share:.0f} %",
            watts=first.power_watts,
            limited=share < 1.0,
        )

    def _load(self) -> float:
        """Share of the time that trials may work anywhere; what a simulated plant heats by."""
        with self._lock:
            now = self._clock()
            return max((self._published(one).duty for one in self.devices if self._busy(one, now)), default=0.0)

    def _busy(self, device: str, now: float) -> bool:
        return any(now - seen <= PRESENT_S for seen in self._present.get(device, {}).values())

    def _note(self, channel: Channel, reading: Reading) -> None:
        state = self._states[channel]
        self._samples.append(
            Sample(
                seq=self._seq,
                time=wall.now(),
                device=channel.device,
                sensor=self.sensor.name,
                part=channel.part,
                celsius=reading.celsius if reading.good else None,
                state=state.level.word,
                duty=state.duty,
                power_watts=reading.power_watts,
                utilisation=reading.utilisation,
                slowed_by=reading.slowed_by,
                reason=state.reason,
                limits=self._rules[channel].limits,
            )
        )
        self._seq += 1


def _rules(spec: ThermalSpec, channel: Channel) -> Rules:
    limits: LimitsSpec = {"gpu": spec.gpu, "memory": spec.memory, "cpu": spec.cpu}[channel.part]
    try:
        return Rules.of(spec, Limits.of(limits, channel.slowdown_celsius), channel.quantum)
    except ValueError as error:
        raise SensorError(f"thermal.{channel.part}, device {channel.device}: {error}") from error
