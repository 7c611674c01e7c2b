"""One trial under Ray Tune: the only module here that imports Ray.

The class API is used because actors are shared between trials (`reset_config`). `setup` and `reset_config` only take
the job: with actor reuse, a trial that waits there can be handed to a second actor. All work happens in `step`, in
slices of seconds; while the gate holds the trial, `step` returns heartbeats.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray import tune

from trainables.parts.plugins import Plugin
from trainables.parts.plugins import load as load_plugins
from trainables.training.memory import typed
from trainables.trial_life import TrialGate, TrialJob, life


class IsothermTrial(tune.Trainable):  # type: ignore[misc]
    """Hands the reports of a trial's `life` to Tune."""

    def setup(
        self,
        config: dict[str, Any],
        make_gate: Callable[[], TrialGate],
        make_guard: Callable[[], Callable[[Path], None]],
        plugins: tuple[Plugin, ...] = (),
    ) -> None:
        """Take the job; everything else waits for the first `step`.

        Args:
            config: with a `TrialJob` as ``job``.
            make_gate: called once in this process.
            make_guard: likewise; what it makes protects the host's memory and learns whose trial it guards.
            plugins: files with parts that trials may name; loaded at the first step.
        """
        self._make_gate = make_gate
        self._gate: TrialGate | None = None
        self._guard, self._plugins = make_guard(), plugins
        self._life = self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take another trial's job into this actor."""
        self.cleanup()
        self._life = self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The trial's next report; see `life`.

        Raises:
            OutOfMemoryError: memory ran out, in whatever words; the driver goes by the type.
        """
        try:
            return next(self._life)
        except Exception as error:
            if (named := typed(error)) is error:
                raise
            raise named from error

    def cleanup(self) -> None:
        """Free memory, files and store: a reused actor stays alive."""
        self._life.close()

    def _begin(self, config: dict[str, Any]) -> Any:
        return self._live(TrialJob.model_validate_json(config["job"]["payload"]))

    def _live(self, job: TrialJob) -> Iterator[dict[str, Any]]:
        load_plugins(self._plugins)
        gate = self._gate = self._gate or self._make_gate()  # not before the first step: it may take a while
        yield from life(job, gate, self._guard)
