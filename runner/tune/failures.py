"""Why a trial failed: by the type of what its worker raised, or of what Ray says of its death."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayActorError, RayError, RayTaskError

from runner.host.memory_limits import oom_kills
from runner.tune.memory import word_of
from trainables.errors import OutOfMemoryError

MOST_WORDS = 500
DIED = "its worker process died: it was killed, or crashed outside of Python"


@dataclass(frozen=True)
class Failure:
    """What Tune knows of a failure.

    Attributes:
        error: what the worker raised, or a `RayActorError` where it died; None where Tune ended the trial itself.
        text: the traceback, or Ray's words.
    """

    error: BaseException | None
    text: str

    @classmethod
    def of(cls, trial: Any) -> "Failure":
        """The failure of one of Tune's trials.

        Tune has just written both files to this driver's own folder; its `get_error` reads their copies in the
        storage, which come too late.
        """
        try:
            raised = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
        except Exception:  # there is none, or its class cannot be built here
            raised = None
        try:
            text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        except (OSError, TypeError):
            text = str(trial.get_error() or "")
        return cls(raised.cause if isinstance(raised, RayTaskError) else raised, text)

    @property
    def died(self) -> bool:
        """Whether the worker's process ended without raising anything."""
        return isinstance(self.error, RayActorError)

    @property
    def words(self) -> str:
        """The worker's message, all its lines in one; of a death, what there is to say in a line."""
        if self.died or not self.text.strip():
            return DIED
        if self.error is None or type(self.error) is RayError:  # Ray's own stands for one that cannot be pickled
            return self.text.rstrip().splitlines()[-1].strip()[:MOST_WORDS]
        kind = type(self.error)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        message = "; ".join(line.strip() for line in str(self.error).splitlines() if line.strip())
        return f"{name}: {message}"[:MOST_WORDS]


class FailureClassifier:
    """Whether a trial failed for lack of memory. One for a sweep; it keeps the kernel's count of kills."""

    def __init__(self, kills: Callable[[], int] = oom_kills) -> None:
        self._kills = kills
        self._seen = kills()

    def out_of_memory(self, failure: Failure, checkpoints: Path) -> str:
        """How a trial ran out of memory; an empty text where it failed in another way. `checkpoints` is its folder."""
        word = word_of(checkpoints)
        if word.exists():
            reason = word.read_text()
            word.unlink()
            return f"ended by the host-memory guard: {reason}"
        if isinstance(failure.error, OutOfMemoryError):
            return str(failure.error)
        if failure.died and self._kills() > self._seen:
            self._seen += 1
            return "killed by the kernel for lack of memory (its count of such kills rose)"
        return ""
