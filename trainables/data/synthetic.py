"""Bars with a planted truth: nothing, volatility alone, a function, a break of it, or a leak.

They show what a pipeline finds where the answer is known.

Equal arguments give equal bars. Open, high, low and volume show four numbers of each bar that are independent of all
before: what a universe plants is in the returns of the close, and in nothing else.

Array names: T bars, X numbers shown by a bar, C numbers that the teacher reads, K its units.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlencode

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.source_registry import RawTable, source
from trainables.errors import DataError, Problem, nearest

Kind = Literal["walk", "clusters", "teacher", "regime", "leak"]
Floats = npt.NDArray[np.float64]

KINDS: tuple[Kind, ...] = get_args(Kind)
MEANING: dict[Kind, str] = {
    "walk": "a random walk: nothing predicts anything",
    "clusters": "volatility clusters (GARCH): moves above a threshold can be predicted, their direction cannot",
    "teacher": "the direction of the next bar follows a fixed random function of the last bars' open, high and low",
    "regime": "as teacher, but the function turns around after 'change' of the bars",
    "leak": "a random walk in which each bar's volume knows the next bar's direction",
}
_VERSION = 2  # raise it when equal arguments give other bars
MAX_BARS, MAX_ASSETS = 60_000, 10_000
_LAST_DAY = "2019-12-31"
_DAILY = 0.01  # deviation of a daily log return
_BAR = 0.005  # by which open, high and low differ from the close
# GARCH(1, 1) of daily stock returns, as usually estimated (Engle 2001, 'GARCH 101'): persistence 0.98.
_ALPHA, _BETA = 0.09, 0.89
_SHOWN = 3  # numbers of a bar that the teacher reads: those that open, high and low show
_NETWORK = 4  # seed of the teacher's units
_UNITS = 200  # of the teacher
_STEEPNESS = 3.0  # of its units: smooth enough to be learnt, with a detail for every size


@dataclass(frozen=True)
class Universe:
    """One asset's bars, as asked.

    Attributes:
        kind: what is planted.
        bars: daily bars.
        asset: number of the asset; assets share the teacher and nothing else.
        seed: of the assets, and of which number of which bar the teacher reads as what.
        gain: of the teacher: the log odds of a rise have this deviation.
        seen: bars that the teacher reads.
        change: share of the bars before the regime changes.
    """

    kind: Kind
    bars: int = 5_000
    asset: int = 0
    seed: int = 0
    gain: float = 4.0
    seen: int = 3
    change: float = 0.5

    def argument(self) -> str:
        """What follows ``synthetic:`` in a sweep file."""
        given = {name: value for name, value in vars(self).items() if name != "kind" and value != _DEFAULTS[name]}
        return self.kind + (f"?{urlencode(given)}" if given else "")

    @property
    def name(self) -> str:
        """Of the asset."""
        return f"{self.kind}{self.asset}"

    def frame(self) -> pd.DataFrame:
        """Date, open, high, low, close and volume."""
        random = np.random.default_rng([self.seed, self.asset, KINDS.index(self.kind)])
        shown_TX = random.uniform(-1, 1, size=(self.bars, _SHOWN + 1))
        up_T = random.random(self.bars) < self.chance(shown_TX)
        size_T = np.abs(random.normal(size=self.bars))
        size_T *= self._volatility(size_T)
        return_T = np.where(up_T, size_T, -size_T)
        if self.kind == "leak":
            shown_TX[:, -1] = np.append(np.where(up_T[1:], 0.5, -0.5), 0.0) + 0.5 * shown_TX[:, -1]
        return _bars(100 * np.exp(np.cumsum(return_T)), shown_TX)

    def chance(self, shown_TX: Floats) -> Floats:
        """Probability that a bar closes above the one before."""
        chance_T = np.full(self.bars, 0.5)
        if self.kind in ("teacher", "regime"):
            read_TC = np.hstack([np.roll(shown_TX[:, :_SHOWN], back, axis=0) for back in range(1, self.seen + 1)])
            odds_T = self.gain * _teacher(self.seed, self.seen)(read_TC)
            if self.kind == "regime":
                odds_T[round(self.change * self.bars) :] *= -1
            chance_T = 1 / (1 + np.exp(-odds_T))
            chance_T[: self.seen] = 0.5  # nothing to read yet
        return chance_T

    def irreducible(self) -> float:
        """Mean loss in nats, of the direction of the next bar, of who knows what is planted and no more.

        The task is ``direction`` with a horizon of 1; of a leak it is that of who may not read it.
        """
        random = np.random.default_rng([self.seed, self.asset, KINDS.index(self.kind)])
        chance_T = self.chance(random.uniform(-1, 1, size=(self.bars, _SHOWN + 1)))
        return float(-np.mean(chance_T * np.log(chance_T) + (1 - chance_T) * np.log1p(-chance_T)))

    def _volatility(self, shock_T: Floats) -> Floats:
        variance_T = np.ones(self.bars)
        for t in range(1, self.bars if self.kind == "clusters" else 0):
            variance_T[t] = 1 - _ALPHA - _BETA + variance_T[t - 1] * (_ALPHA * shock_T[t - 1] ** 2 + _BETA)
        return _DAILY * np.sqrt(variance_T)


_DEFAULTS: dict[str, Any] = {name: getattr(Universe, name) for name in Universe.__dataclass_fields__ if name != "kind"}


def parse(argument: str) -> Universe:
    """The universe of ``KIND?bars=5000&asset=1``.

    Raises:
        DataError: an unknown kind or key, or a value that is out of range.
    """
    kind, _, query = argument.partition("?")
    place = f"synthetic:{argument}"
    if kind not in KINDS:
        raise _error(place, f"{kind!r} is no universe", nearest(kind, KINDS))
    values: dict[str, Any] = {}
    try:
        for name, text in parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else ():
            if name not in _DEFAULTS:
                raise _error(place, f"{name!r} is no key", nearest(name, _DEFAULTS))
            values[name] = type(_DEFAULTS[name])(text)
    except ValueError as error:
        raise _error(place, str(error), "write, for instance, synthetic:teacher?bars=5000&asset=1") from error
    found = Universe(kind=kind, **values)
    limits = {"bars": (100, MAX_BARS), "asset": (0, MAX_ASSETS), "seed": (0, 2**31), "gain": (0, 100), "seen": (1, 50)}
    for name, (low, high) in {**limits, "change": (0, 1)}.items():
        if not low <= getattr(found, name) <= high:
            raise _error(place, f"{name} is {getattr(found, name)}", f"give a number from {low:g} to {high:g}")
    return found


@source("synthetic", version=_VERSION)
class Synthetic:
    """Bars with a planted truth: synthetic:KIND?bars=5000&asset=0&seed=0."""

    def read(self, argument: str) -> RawTable:
        """The bars."""
        return RawTable(parse(argument).frame(), self.digest(argument))

    def digest(self, argument: str) -> str:
        """Of what is asked: the same gives the same bars."""
        return hashlib.sha256(f"synthetic {_VERSION} {parse(argument).argument()}".encode()).hexdigest()

    def asset(self, argument: str) -> str:
        """Kind and number."""
        return parse(argument).name


def _teacher(seed: int, seen: int) -> Callable[[Floats], Floats]:
    """A sum of random rectified units whose weights fall with their number, standardised over what bars can show.

    The units are the same for every seed, which only says which number of which bar takes which place among their
    inputs, and which are turned around: so all seeds are equally hard to learn, as far as a model treats inputs alike.
    """
    fixed, own = np.random.default_rng([_NETWORK, seen]), np.random.default_rng([seed, seen])
    inputs = _SHOWN * seen
    weight_CK = fixed.normal(size=(inputs, _UNITS))
    weight_CK *= _STEEPNESS / np.linalg.norm(weight_CK, axis=0)
    offset_K = fixed.uniform(-0.8, 0.8, size=_UNITS)
    height_K = fixed.choice([-1.0, 1.0], size=_UNITS) / np.sqrt(np.arange(1, _UNITS + 1))
    weight_CK = weight_CK[own.permutation(inputs)] * own.choice([-1.0, 1.0], size=(inputs, 1))

    def raw(read_TC: Floats) -> Floats:
        total_T: Floats = np.maximum(read_TC @ weight_CK + offset_K, 0) @ height_K
        return total_T

    sample = raw(fixed.uniform(-1, 1, size=(20_000, inputs)))
    mean, deviation = float(sample.mean()), float(sample.std())
    return lambda read_TC: (raw(read_TC) - mean) / deviation


def _bars(close_T: Floats, shown_TX: Floats) -> pd.DataFrame:
    """Bars whose open, high, low and volume show four numbers, about linearly."""
    open_T = close_T * (1 + _BAR * shown_TX[:, 0])
    return pd.DataFrame(
        {
            "date": pd.bdate_range(end=_LAST_DAY, periods=len(close_T)),
            "open": open_T,
            "high": close_T * (1 + _BAR * (2 + shown_TX[:, 1])),
            "low": close_T * (1 - _BAR * (2 + shown_TX[:, 2])),
            "close": close_T,
            "volume": 1e6 * np.exp(shown_TX[:, 3]),
        }
    )


def _error(place: str, message: str, fix: str) -> DataError:
    return DataError(Problem(place=place, message=message, fix=fix))
