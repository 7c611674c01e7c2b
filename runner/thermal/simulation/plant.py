"""A simulated device: one thermal mass between its power and its surroundings. Seeded, exact between two moments.

With power P, resistance R and ambient temperature A the temperature goes towards A + R P with the time constant:
dT/dt = (A + R P - T) / time constant (Newton's law of cooling).
"""

import math
import random
from collections import deque

from runner.thermal.reading import MISSING, Reading
from runner.thermal.spec import PlantSpec


class Plant:
    """The device and its sensor. Time runs by `run`; `read` is what the sensor says now."""

    def __init__(self, spec: PlantSpec) -> None:
        self.spec = spec
        self.time_s = 0.0
        self.celsius = spec.ambient_celsius + spec.resistance * spec.idle_power_watts
        self._worked_s = self._counted_s = 0.0  # full load and time since the latest reading
        self._load = 0.0
        self._random = random.Random(spec.seed)
        # (start, temperature at the start, temperature it goes to) of each stretch that a late reading may still show
        self._past: deque[tuple[float, float, float]] = deque([(0.0, self.celsius, self.celsius)])

    def ambient(self) -> float:
        """Temperature of the surroundings now."""
        wave = self.spec.heat_wave
        inside = wave is not None and wave.start_s <= self.time_s < wave.end_s
        return self.spec.ambient_celsius + (wave.celsius if wave is not None and inside else 0.0)

    def run(self, seconds: float, load: float) -> None:
        """Let time go by at a constant load (0 idle, 1 full)."""
        if seconds <= 0:
            return
        spec = self.spec
        power_watts = spec.idle_power_watts + load * (spec.power_watts - spec.idle_power_watts)
        final = self.ambient() + spec.resistance * power_watts
        self._past.append((self.time_s, self.celsius, final))
        self.celsius = final + (self.celsius - final) * math.exp(-seconds / spec.time_constant_s)
        self.time_s += seconds
        self._worked_s += load * seconds
        self._counted_s += seconds
        while len(self._past) > 1 and self._past[1][0] <= self.time_s - spec.delay_s:
            self._past.popleft()

    def read(self) -> Reading:
        """The sensor's answer: late, noisy, rounded, or none. Power is the mean since the reading before."""
        spec = self.spec
        if self._counted_s > 0:
            self._load = self._worked_s / self._counted_s
            self._worked_s = self._counted_s = 0.0
        noise = self._random.gauss(0.0, spec.noise_celsius) if spec.noise_celsius else 0.0
        if any(start <= self.time_s <= end for start, end in spec.dropout):
            return MISSING
        celsius = self._at(self.time_s - spec.delay_s) + noise
        if spec.quantum_celsius:
            celsius = round(celsius / spec.quantum_celsius) * spec.quantum_celsius
        power_watts = spec.idle_power_watts + self._load * (spec.power_watts - spec.idle_power_watts)
        return Reading(celsius, power_watts=power_watts, utilisation=self._load)

    def _at(self, time_s: float) -> float:
        if time_s <= 0:
            return self._past[0][1] if self._past[0][0] == 0.0 else self.celsius
        start, celsius, final = next(stretch for stretch in reversed(self._past) if stretch[0] <= time_s)
        return final + (celsius - final) * math.exp(-(time_s - start) / self.spec.time_constant_s)
