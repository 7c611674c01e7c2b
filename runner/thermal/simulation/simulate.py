"""The policy against the simulated plant, second by second, in simulated time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, cast, get_args

from pydantic import ValidationError

from runner.thermal import policy
from runner.thermal.policy import Level, Limits, Rules, State, Strategy
from runner.thermal.simulation.plant import Plant
from runner.thermal.spec import LimitsSpec, PlantSpec
from trainables.errors import ConfigError, Problem
from trainables.schema import Spec

# Above the target, below it, above hold: as GpuLimits has it.
DEFAULT_HOLD, DEFAULT_RESUME, DEFAULT_STOP = 3.0, 5.0, 6.0

AFTER_DIP_TIME_CONSTANTS = 5.0  # a plant is back where it was, to 1 %, after so many

_Spec = TypeVar("_Spec", bound=Spec)


@dataclass(frozen=True)
class Outcome:
    """What a simulated time at full demand was like.

    Attributes:
        throughput_fraction: mean duty.
        sustainable_duty: highest duty that keeps the plant at the target for ever, at most 1; 0 where there is none.
        limit_fraction: mean duty in the second half over `sustainable_duty`; None where that is 0.
        swing_celsius: highest minus lowest true temperature in the second half, test dips apart.
        max_celsius: highest true temperature.
        n_holds: holds in all; `n_holds_second_half` those that began in the second half.
        seconds_held: in HOLD or RELEASE.
        seconds_stopped: in STOP.
        n_dips: tests of a reading that did not change.
        final_state: level at the end.
        final_reason: its reason.
        idle_exceeds: the limit that idle power alone exceeds, or None.
    """

    throughput_fraction: float
    sustainable_duty: float
    limit_fraction: float | None
    swing_celsius: float
    max_celsius: float
    n_holds: int
    n_holds_second_half: int
    seconds_held: float
    seconds_stopped: float
    n_dips: int
    final_state: str
    final_reason: str
    idle_exceeds: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass
class _Books:
    """Sums over the time so far."""

    seconds: float
    duty: float = 0.0
    duty_second_half: float = 0.0
    highest: float = -273.15
    high: float = -273.15
    low: float = 1e9
    holds: int = 0
    holds_second_half: int = 0
    held: float = 0.0
    stopped: float = 0.0
    dips: int = 0
    quiet_from_s: float = 0.0

    def temperature(self, celsius: float, time_s: float) -> None:
        self.highest = max(self.highest, celsius)
        if time_s >= self.seconds / 2 and time_s >= self.quiet_from_s:
            self.high, self.low = max(self.high, celsius), min(self.low, celsius)


def run(plant: PlantSpec, rules: Rules, seconds: float, interval_s: float = 1.0, period_s: float = 1.0) -> Outcome:
    """Run the policy on a plant that would work all the time if it might.

    The plant works for the first part of each duty period and rests for the remainder, as trials do.
    """
    device = Plant(plant)
    state = policy.begin(0.0)
    books = _Books(seconds)
    while device.time_s < seconds - 1e-9:
        before = state
        state = policy.advance(rules, state, device.read(), device.time_s)
        _note(books, before, state, plant.time_constant_s)
        step_s = min(interval_s, seconds - device.time_s)
        books.held += step_s * (state.level in (Level.HOLD, Level.RELEASE))
        books.stopped += step_s * (state.level is Level.STOP)
        _work(device, state.duty, step_s, period_s, books)
    return _outcome(plant, rules, books, state)


def sustainable_duty(plant: PlantSpec, target: float) -> float:
    """Duty at which the plant settles at the target: at most 1; at most 0 where idle power alone reaches it."""
    spare = target - plant.ambient_celsius - plant.resistance * plant.idle_power_watts
    return min(1.0, spare / (plant.resistance * (plant.power_watts - plant.idle_power_watts)))


def idle_exceeds(plant: PlantSpec, rules: Rules) -> str | None:
    """The highest limit that the plant exceeds at rest; then no policy can help."""
    idle = plant.ambient_celsius + plant.resistance * plant.idle_power_watts
    for name in ("stop", "hold", "target"):
        limit = getattr(rules.limits, name)
        if idle >= limit:
            return f"idle power alone keeps it at {idle:.1f} C, {name} is {limit:g}"
    return None


def from_options(
    plant: Mapping[str, Any],
    limits: Mapping[str, float | None],
    dropouts: Sequence[str],
    *,
    seconds: float,
    strategy: str,
) -> Outcome:
    """Run what a command line asks for.

    Args:
        plant: fields of `PlantSpec`, the dropouts apart.
        limits: target, and hold, resume and stop where given; else target + 3, target - 5 and hold + 6.
        dropouts: each ``START:END`` in seconds.
        seconds: simulated time.
        strategy: ``duty_cycle`` or ``bang_bang``.

    Raises:
        ConfigError: all that is wrong with them.
    """
    problems: list[Problem] = []
    if strategy not in get_args(Strategy):
        problems.append(
            Problem(place="--policy", message=f"no policy {strategy!r}", fix=" or ".join(get_args(Strategy)))
        )
    if not 0 < seconds < math.inf:
        problems.append(Problem(place="--seconds", message=f"{seconds:g} is no time to simulate", fix="above 0"))
    spans = [span for text in dropouts if (span := _span(text, problems)) is not None]
    target = limits["target"]
    assert target is not None
    hold = limits["hold"] if limits["hold"] is not None else target + DEFAULT_HOLD
    resume = limits["resume"] if limits["resume"] is not None else target - DEFAULT_RESUME
    stop = limits["stop"] if limits["stop"] is not None else hold + DEFAULT_STOP
    given = {"target": target, "hold": hold, "resume": resume, "stop": stop}
    checked = _checked(LimitsSpec, given, problems)
    spec = _checked(PlantSpec, {**plant, "dropout": spans}, problems)
    if problems:
        raise ConfigError(problems)
    assert checked is not None
    assert spec is not None
    rules = Rules(Limits.of(checked, None), quantum=spec.quantum_celsius, strategy=cast(Strategy, strategy))
    return run(spec, rules, seconds)


def _span(text: str, problems: list[Problem]) -> tuple[float, float] | None:
    start, _, end = text.partition(":")
    try:
        return float(start), float(end)
    except ValueError:
        problems.append(
            Problem(place="--dropout", message=f"{text!r} is not START:END in seconds", fix="--dropout 600:660")
        )
        return None


def _checked(model: type[_Spec], values: Mapping[str, Any], problems: list[Problem]) -> _Spec | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for issue in error.errors(include_url=False):
            message = str(issue["msg"]).removeprefix("Value error, ")
            place = ", ".join(map(str, issue["loc"])) or "the limits" * (model is LimitsSpec) or "the device"
            problems.append(Problem(place=place, message=message))
        return None


def _note(books: _Books, before: State, state: State, time_constant_s: float) -> None:
    if state.level in (Level.HOLD, Level.RELEASE) and before.level < Level.HOLD:
        books.holds += 1
        books.holds_second_half += state.time_s >= books.seconds / 2
    if state.liveness.dip_until_s > before.liveness.dip_until_s:
        books.dips += 1
    if state.time_s < state.liveness.dip_until_s:
        books.quiet_from_s = state.time_s + AFTER_DIP_TIME_CONSTANTS * time_constant_s


def _work(device: Plant, duty: float, seconds: float, period_s: float, books: _Books) -> None:
    """Run one sampling interval, whole duty periods as far as it goes."""
    second_half = device.time_s >= books.seconds / 2
    left = seconds
    while left > 1e-9:
        length = min(period_s, left)
        for part, load in ((duty * length, 1.0), ((1 - duty) * length, 0.0)):
            device.run(part, load)
            books.temperature(device.celsius, device.time_s)
        books.duty += duty * length
        books.duty_second_half += duty * length * second_half
        left -= length


def _outcome(plant: PlantSpec, rules: Rules, books: _Books, state: State) -> Outcome:
    limit = sustainable_duty(plant, rules.limits.target)
    second_half = books.duty_second_half / (books.seconds / 2)
    return Outcome(
        throughput_fraction=books.duty / books.seconds,
        sustainable_duty=max(0.0, limit),
        limit_fraction=second_half / limit if limit > 0 else None,
        swing_celsius=max(0.0, books.high - books.low),
        max_celsius=books.highest,
        n_holds=books.holds,
        n_holds_second_half=books.holds_second_half,
        seconds_held=books.held,
        seconds_stopped=books.stopped,
        n_dips=books.dips,
        final_state=state.level.word,
        final_reason=state.reason,
        idle_exceeds=idle_exceeds(plant, rules),
    )
