"""The studies of a sweep: one for each combination of the grid's axes but `seed`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.config.search import SearchSpec
from runner.config.search_space import higher_is_better
from runner.config.sweep_file import Sweep
from runner.config.variants import Variant
from runner.planning import execution
from runner.planning.grid import Cell, named
from runner.rundir import studies
from runner.rundir.ledger import LedgerView
from runner.rundir.studies import StudyState
from runner.search import ladder, pruning, sampling, transfer
from runner.search.space import Axis, axes_of
from trainables.errors import ConfigError, Problem
from trainables.schema import KEY_LENGTH, SizeRule

_APART = ("budget", "seed")
_NOT_ASKED = {"model": {"shapes"}}  # where a file is, and nothing of what is asked


@dataclass(frozen=True)
class Study:
    """What one study asks.

    Attributes:
        identity: 12 hex digits; equal as long as data, task, budget, ranges, metric and all that is not searched are.
        templates: the cells that would run without a search, one per seed of `grid.seed`.
        variants: what the templates were resolved from, in the same order.
        space: the searched keys.
        trials: that it makes in all.
        higher_is_better: which way `search.metric` goes.
        transfers: whether it waits for the studies of smaller sizes, and starts at what they predict.
    """

    identity: str
    name: str
    templates: tuple[Cell, ...]
    variants: tuple[Variant, ...]
    space: Mapping[str, Axis]
    trials: int
    search: SearchSpec
    higher_is_better: bool
    transfers: bool = False

    @property
    def climbs(self) -> bool:
        """Whether it is one of the sizes at which a ladder is tried."""
        return bool(self.search.ladder) and self.trials > 0

    def complete(self, state: StudyState) -> bool:
        """Whether its search is over."""
        return state.predicted is not None if self.search.ladder else len(state.trials) >= self.trials

    @property
    def size(self) -> int:
        """Its budget in parameters."""
        return self.templates[0].target

    @property
    def series(self) -> tuple[tuple[str, str], ...]:
        """What it has in common with the studies that differ from it in size alone."""
        return tuple((axis, repr(value)) for axis, value in self.variants[0].axes.items() if axis not in _APART)

    @property
    def asked(self) -> dict[str, Any]:
        """The study as the ledger has it."""
        one = self.templates[0]
        return {
            "study": self.identity,
            "name": self.name,
            "budget": one.target,
            "axes": {axis: value for axis, value in self.variants[0].axes.items() if axis != "seed"},
            "space": {dotted: axis.as_dict() for dotted, axis in self.space.items()},
            "trials": self.trials,
            "sampler": "ladder" if self.search.ladder else self.search.sampler,
            "pruner": self.search.pruner,
            "metric": self.search.metric,
            "higher_is_better": self.higher_is_better,
            "seed": self.search.seed,
            "seeds": [variant.training.seed for variant in self.variants],
            **({"transfer": True} if self.transfers else {}),
            **({"ladder": list(self.search.ladder)} if self.search.ladder else {}),
        }

    def state(self, view: LedgerView) -> StudyState:
        """How far it is."""
        return studies.state(view, self.asked)

    def pruned_share(self) -> float | None:
        """Share of a trial's epochs that a searched one trains on average, roughly; None where that is not known."""
        return pruning.expected_share(self.search.pruner, self.templates[0].spec.training.epochs)


def of_plan(sweep: Sweep, cells: tuple[Cell, ...], view: LedgerView | None = None) -> tuple[Study, ...]:
    """The studies of a sweep with a block `search`, in the grid's order; none without. Infeasible cells have none.

    Args:
        sweep: as understood.
        cells: its variants resolved, in the same order.
        view: of the run: a ladder that has begun keeps its sizes, whatever they are measured to take today.

    Raises:
        ConfigError: `search.max_hours` allow no ladder.
    """
    search = sweep.settings.search
    if search is None:
        return ()
    grouped: dict[str, list[tuple[Variant, Cell]]] = {}
    for variant, cell in zip(sweep.variants, cells, strict=True):
        if not cell.infeasible:
            grouped.setdefault(named(variant), []).append((variant, cell))
    found = tuple(_study(name, pairs, search, higher_is_better(sweep.settings)) for name, pairs in grouped.items())
    if search.ladder and found:
        return _laddered(found, search, view)
    return tuple(_transferred(study, found) for study in found) if search.transfer else found


def _laddered(found: tuple[Study, ...], search: SearchSpec, view: LedgerView | None) -> tuple[Study, ...]:
    """Studies with the trials that a ladder makes at their size, about; none at most sizes.

    The largest size is the largest at which `search.max_hours` suffice for all series, even where each key takes as
    many values as a ladder tries at most.
    """
    if search.max_hours is not None and view is not None and any(one.identity in view.suggested for one in found):
        known = view.studies
        return tuple(replace(one, trials=known.get(one.identity, {"trials": 0})["trials"]) for one in found)
    sizes = sorted({one.size for one in found})
    hours: float | None = None
    for largest in reversed(sizes[ladder.SIZES - 1 :] or sizes[-1:]):
        laddered = tuple(_of_ladder(one, found, largest) for one in found)
        hours = ladder_hours(laddered, ladder.MOST_RUNGS)
        if search.max_hours is None or hours is None or hours <= search.max_hours:
            return laddered
    message = f"a ladder at the smallest sizes can take {hours:.2g} hours of training"
    raise ConfigError(Problem(place="search.max_hours", message=message, fix="give more, or train shorter"))


def _of_ladder(study: Study, found: tuple[Study, ...], largest: int) -> Study:
    sizes = [one.size for one in found if one.series == study.series and one.size <= largest]
    climbs = bool(sizes) and study.size in ladder.chosen_sizes(sizes)
    return replace(study, trials=ladder.RUNGS * len(study.search.ladder) if climbs else 0)


def ladder_hours(found: tuple[Study, ...], rungs: int = ladder.RUNGS) -> float | None:
    """Hours that a ladder's trials take, added up, so many a key and size; None where one was not measured."""
    seconds = [execution.trial_seconds(one.templates[0]) for one in found if one.climbs]
    known = [each * rungs * len(found[0].search.ladder) for each in seconds if each is not None]
    return sum(known) / 3600 if len(known) == len(seconds) else None


def _transferred(study: Study, found: tuple[Study, ...]) -> Study:
    if len(smaller(study, found)) < transfer.FULL_SIZES:
        return study
    return replace(study, trials=transfer.trials(study.trials), transfers=True)


def smaller(study: Study, among: tuple[Study, ...]) -> list[Study]:
    """Studies of smaller sizes in a study's series, from small to large."""
    return sorted(
        (one for one in among if one.series == study.series and one.size < study.size), key=lambda one: one.size
    )


def confirmed_by(asked: tuple[Study, ...], view: LedgerView) -> dict[str, str]:
    """By the key of a template, the key of the trial that confirms the winner with its seed."""
    found: dict[str, str] = {}
    for study in asked:
        state = study.state(view)
        if study.complete(state) and len(state.confirmed) == len(study.templates):
            found |= dict(zip((cell.key for cell in study.templates), state.confirmed, strict=True))
    return found


def _study(name: str, pairs: list[tuple[Variant, Cell]], search: SearchSpec, higher_is_better: bool) -> Study:
    variants, cells = tuple(variant for variant, _ in pairs), tuple(cell for _, cell in pairs)
    space = axes_of(search.dimensions, variants[0])
    asked = search.trials
    trials = max(1, round(asked.value(cells[0].target))) if isinstance(asked, SizeRule) else asked
    if search.sampler == "grid" and not search.ladder:
        trials = min(trials, sampling.grid_size(space))
    identity = _identity(variants[0], cells[0], space, search)
    return Study(identity, name, cells, variants, space, trials, search, higher_is_better)


def _identity(variant: Variant, cell: Cell, space: Mapping[str, Axis], search: SearchSpec) -> str:
    """A hash of what a study asks. Settings at their defaults are left out: it outlives new settings."""
    blocks: dict[str, Any] = {
        "data": cell.spec.data.model_dump(mode="json", exclude_defaults=True),
        "task": variant.task.model_dump(mode="json", exclude_defaults=True, exclude={"calibrate"}),
        "model": variant.model.model_dump(mode="json", exclude_defaults=True, exclude=_NOT_ASKED["model"]),
        "training": variant.training.model_dump(mode="json", exclude_defaults=True),
    }
    blocks["training"]["seed"] = search.seed
    for dotted in space:
        _drop(blocks, dotted)
    ranges = {dotted: axis.as_dict() for dotted, axis in space.items()}
    asked = {"budget": cell.target, "dtype": cell.spec.dtype, "space": ranges, "metric": search.metric, **blocks}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def _drop(blocks: dict[str, Any], dotted: str) -> None:
    *parents, name = dotted.split(".")
    target: Any = blocks
    for part in parents:
        target = target.get(part) if isinstance(target, dict) else None
    if isinstance(target, dict):
        target.pop(name, None)


def spent_hours(view: LedgerView) -> float:
    """Hours that the latest attempts of the searched trials took, those that have ended, added up."""
    seconds = 0.0
    for key in view.searched_keys:
        known = view.cells[key]
        if known.ended is not None and known.attempts:
            seconds += (known.ended.time - known.attempts[-1].time).total_seconds()
    return seconds / 3600
