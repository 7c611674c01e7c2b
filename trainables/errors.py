"""The exception tree; catch `IsothermError` to catch everything raised on purpose.

IsothermError
├── InputError              the user can fix it; carries every problem found; exit code 2
│   ├── ConfigError         a sweep file, a setting or a command line
│   ├── DataError           a data source or a dataset file
│   └── BudgetError         a parameter budget that cannot be met, or a shape that misses it
├── InfeasibleError         this cell cannot be run honestly (too few effective samples, too large); others can
├── DivergedError           a loss or gradient stopped being finite; a finding, not a failure
├── CheckpointError         a checkpoint that is torn, altered or of another trial
│   └── FencedError         a newer attempt owns this trial: this worker must end and write nothing
├── LedgerError             a ledger that cannot be read or written
├── LostRankError           a process of a trial over several devices has failed: it resumes from its checkpoint
├── OutOfMemoryError        the device's or the host's memory ran out
└── ThermalStopError        a device reached its stop limit, or its temperature is unknown
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        place: where it is, as exactly as known: ``file:line: key``, a row and date, an option.
        message: what is wrong, in one sentence.
        fix: what to do about it.
    """

    place: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head}\n    fix: {self.fix}" if self.fix else head


def nearest(name: str, known: Iterable[str]) -> str:
    """Which name may have been meant, and all names where they are few."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near and len(names) > 12:  # a long list would hide the answer
        return f"did you mean {near[0]!r}?"
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(names) or 'none'}"


class IsothermError(Exception):
    """Base of everything raised on purpose."""


class InputError(IsothermError):
    """Bad input. Holds all problems found, so that they are reported together."""

    def __init__(self, problems: Iterable[Problem] | Problem) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type["InputError"], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)  # survives the trip through a worker process


class ConfigError(InputError):
    """A sweep file, a setting or a command line is wrong."""


class DataError(InputError):
    """A data source or a dataset file is wrong."""


class BudgetError(InputError):
    """A parameter budget cannot be met, or a hand-written shape misses it."""


class InfeasibleError(IsothermError):
    """A cell that cannot be run honestly; the message is the reason recorded in the ledger."""


class DivergedError(IsothermError):
    """A loss or gradient is not finite; the optimizer step was refused."""

    def __init__(self, step: int, what: str) -> None:
        self.step = step
        self.what = what
        super().__init__(f"{what} is not finite at optimizer step {step}")

    def __reduce__(self) -> tuple[type["DivergedError"], tuple[int, str]]:
        return type(self), (self.step, self.what)


class CheckpointError(IsothermError):
    """A checkpoint is torn, altered or belongs to another trial."""


class FencedError(CheckpointError):
    """A newer attempt owns this trial."""


class LedgerError(IsothermError):
    """A ledger cannot be read or written."""


class LostRankError(IsothermError):
    """A process of a trial over several devices has failed, and all of them with it."""


class OutOfMemoryError(IsothermError):
    """The device's or the host's memory ran out; the message is whoever's words said so."""


class ThermalStopError(IsothermError):
    """A device reached its stop limit, or its temperature is unknown for too long: save, and end."""
