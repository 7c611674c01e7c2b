"""The search while a sweep runs: which trial comes next. All it knows is in the ledger."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.config.settings import SweepSettings
from runner.planning import execution
from runner.planning.grid import Builder, Cell, Grid
from runner.planning.record import record_cell
from runner.planning.studies import Study, spent_hours
from runner.planning.studies import smaller as studies_smaller
from runner.probe.request import Decides
from runner.rundir.ledger import TrialSuggested, WinnerChosen
from runner.rundir.recorder import Recorder
from runner.rundir.studies import StudyState
from runner.search import ladder, pruning, sampling, space, transfer
from runner.search.sampling import Values
from trainables.errors import BudgetError, ConfigError

MOST_REPEATS = 50  # suggestions for one number that give a trial that there is, or none; then a study is exhausted

log = logging.getLogger(__name__)


@dataclass
class Search:
    """The studies of a sweep, and the trials that came of them.

    Attributes:
        studies: of the sweep.
        builder: resolves suggested values to trials.
        recorder: the way into the ledger.
        settings: of the sweep.
        prober: measures what was not measured yet, such as a suggested shape; None measures nothing.
        on_cell: called with each trial before it is in the ledger.
        cells: trials of the search that the ledger has, by key.
        refused: why a ladder has no rule, by series.
    """

    studies: tuple[Study, ...]
    builder: Builder
    recorder: Recorder
    settings: SweepSettings
    prober: Decides | None = None
    on_cell: Callable[[Cell], None] = lambda _: None
    cells: dict[str, Cell] = field(default_factory=dict)
    refused: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict)
    _exhausted: set[str] = field(default_factory=set)
    _winners: dict[str, int | None] = field(default_factory=dict)  # numbers by study, as far as confirmed in this sweep
    _confirmations: list[Cell] = field(default_factory=list)  # recorded, and not handed out

    def __post_init__(self) -> None:
        """Resolve again what an earlier start has suggested and chosen."""
        for study in self.studies:
            state = study.state(self.recorder.view)
            for trial in state.trials:
                self._remember(trial.key, self._searched(study, trial.number, trial.values))
            if state.confirmed and state.chosen is not None:
                for key, cell in zip(state.confirmed, self._confirming(study, state.chosen[1]), strict=False):
                    self._remember(key, cell)

    def _remember(self, key: str, cell: Cell | None) -> None:
        if cell is None or cell.key != key:
            log.warning("%s: its values give another trial today; it is left as it is", key)
            return
        self.cells[key] = cell
        self.on_cell(cell)

    def next(self, may_run: Callable[[str], bool]) -> Cell | None:
        """The next trial, written to the ledger; None while there is none until others end, or at the end of all.

        Args:
            may_run: whether a trial that has not ended for good runs, or will in this sweep.

        Raises:
            OSError: the ledger cannot be written.
        """
        view = self.recorder.view
        states = {study.identity: study.state(view) for study in self.studies}
        limited = self._limited()

        def settled(study: Study) -> bool:
            state = states[study.identity]
            more = not limited and self._wants_more(study, state)
            return not more and not any(may_run(trial.key) for trial in state.trials)

        if (climbing := self._climb(states, limited, may_run)) is not None:
            return self.next(may_run) if self._over(climbing) else climbing
        for study in sorted(self.studies, key=lambda study: study.size):
            smaller = studies_smaller(study, self.studies)
            if self._waits(study, states[study.identity]) and all(map(settled, smaller)):
                self.recorder.record(
                    transfer.predicted(
                        study.identity, study.space, study.size, [states[one.identity] for one in smaller]
                    )
                )
                states[study.identity] = study.state(view)
        for study in filter(settled, self.studies):
            self._confirm(study, states[study.identity])
        if self._confirmations:
            return self._confirmations.pop(0)
        open_ = [
            study
            for study in self.studies
            if not limited
            and not study.search.ladder
            and self._wants_more(study, states[study.identity])
            and not self._waits(study, states[study.identity])
        ]
        # The study that is least far goes on, of equals the largest: a suggestion then knows of most trials before it.
        open_.sort(key=lambda study: (len(states[study.identity].trials) / study.trials, -study.templates[0].target))
        for study in open_:
            if (cell := self._suggested(study, states[study.identity])) is not None:
                return self.next(may_run) if self._over(cell) else cell
        return self.next(may_run) if open_ else None  # those were exhausted: their winners can be confirmed now

    def _over(self, cell: Cell) -> bool:
        """Whether a trial need not run: it cannot, or another study has had it."""
        return bool(cell.infeasible) or self.recorder.view.cells[cell.key].final

    def _limited(self) -> bool:
        search, view = self.settings.search, self.recorder.view
        assert search is not None
        if search.max_trials is not None and len(view.searched_keys) >= search.max_trials:
            return True
        return search.max_hours is not None and spent_hours(view) >= search.max_hours

    def _wants_more(self, study: Study, state: StudyState) -> bool:
        return not study.complete(state) and study.identity not in self._exhausted

    def _waits(self, study: Study, state: StudyState) -> bool:
        """Whether a study waits for those of smaller sizes."""
        return study.transfers and state.predicted is None

    # ---- ladders -------------------------------------------------------------------------------------------------

    def _climb(self, states: dict[str, StudyState], limited: bool, may_run: Callable[[str], bool]) -> Cell | None:
        """The next trial of a ladder; where one is complete, what it says of all sizes is in the ledger."""
        by_identity = {study.identity: study for study in self.studies}

        def takes(identity: str, values: Values) -> bool:
            return self._resolved(by_identity[identity], values) is not None

        for series in dict.fromkeys(study.series for study in self.studies if study.climbs):
            members = [study for study in self.studies if study.series == series]
            if self.refused.get(series) or all(states[one.identity].predicted for one in members):
                continue
            climbing = sorted((one for one in members if one.climbs), key=lambda one: one.size)
            rungs = [
                ladder.Rungs(states[one.identity], {key: self._default(one, key) for key in one.space}, one.space)
                for one in climbing
            ]
            found = ladder.follow(climbing[0].search.ladder, rungs, may_run=may_run, takes=takes)
            if found.study is not None and found.values is not None and limited:
                self.refused[series] = "search.max_trials or search.max_hours ended the ladder before it had a rule"
            elif found.study is not None and found.values is not None:
                study = by_identity[found.study]
                return self._tried(study, states[study.identity], found.values)
            elif found.refused:
                self.refused[series] = found.refused
            for one in members if found.rules else ():
                self.recorder.record(ladder.predicted(one.identity, one.space, one.size, found.rules or {}))
                states[one.identity] = one.state(self.recorder.view)
        return None

    def _default(self, study: Study, dotted: str) -> float:
        return float(space.default(dotted, study.variants[0]))

    def _tried(self, study: Study, state: StudyState, values: Values) -> Cell | None:
        """A trial of values that were chosen, in the ledger."""
        number = max((trial.number for trial in state.trials), default=-1) + 1
        if (cell := self._searched(study, number, values)) is not None:
            self._write(cell)
            self.recorder.record(TrialSuggested(study=study.identity, number=number, key=cell.key, values=dict(values)))
        return cell

    # ---- suggestions ---------------------------------------------------------------------------------------------

    def _suggested(self, study: Study, state: StudyState) -> Cell | None:
        """The study's next trial; None where only trials that there are come up any more."""
        number = max((trial.number for trial in state.trials), default=-1) + 1
        known = {trial.key for trial in state.trials}
        searched = transfer.narrowed(study.space, state)
        for again in range(MOST_REPEATS):
            values = sampling.suggest(
                searched,
                state.trials,
                number=number,
                sampler=study.search.sampler,
                seed=study.search.seed,
                study=study.identity,
                again=again,
            )
            if state.predicted and not known and not again:
                values = space.active(searched, {**values, **state.predicted.values})
            cell = self._searched(study, number, values)
            if cell is not None and cell.key not in known:
                return self._tried(study, state, values)
        log.warning("study %s has no new trial to suggest after %d", study.name, len(known))
        self._exhausted.add(study.identity)
        return None

    def _searched(self, study: Study, number: int, values: Values) -> Cell | None:
        """The trial of suggested values; None where they do not go together, or miss the budget."""
        cell = self._cell(study, {**values, "training.seed": study.search.seed}, study.templates[0])
        name = f"{study.name}-t{number:03d}"
        return cell and dataclasses.replace(cell, name=name, labels=_labelled(cell, study, "searched"))

    def _cell(self, study: Study, values: Mapping[str, Any], template: Cell) -> Cell | None:
        cell = self._resolved(study, values)
        return cell and self._with_record(dataclasses.replace(cell, axes=template.axes), template)

    def _resolved(self, study: Study, values: Mapping[str, Any]) -> Cell | None:
        """The trial of values, without an execution record; None where they do not go together, or miss the budget."""
        try:
            return self.builder.cell(space.applied(study.variants[0], values))
        except (BudgetError, ConfigError, ValueError):
            return None

    def _with_record(self, cell: Cell, template: Cell) -> Cell:
        """The template's execution record where that was measured of an equal shape; else it is measured."""
        one, other = cell.spec, template.spec
        alike = one.model == other.model and one.training.global_batch == other.training.global_batch
        if alike and one.training.epochs == other.training.epochs and one.data == other.data and one.task == other.task:
            cell = dataclasses.replace(cell, record=template.record, decision=template.decision)
            prober = None
        else:
            prober = self.prober
        grid = Grid((cell,), self.builder.device)
        return execution.assign(grid, self.recorder.view, self.settings, prober).cells[0]

    def _write(self, cell: Cell) -> None:
        self.cells[cell.key] = cell
        self.on_cell(cell)
        record_cell(self.recorder, cell)

    # ---- winners -------------------------------------------------------------------------------------------------

    def _confirm(self, study: Study, state: StudyState) -> None:
        """Write the trials that confirm a study's winner to the ledger, and line up those that it does not have."""
        if state.chosen is None:
            return
        number, values = state.chosen
        if self._winners.get(study.identity, -1) == number:
            return
        cells = self._confirming(study, values)
        keys = tuple(cell.key for cell in cells)
        for cell in cells:
            if cell.key not in self.cells:
                self._write(cell)
                if not self.recorder.view.cells[cell.key].final:
                    self._confirmations.append(cell)
        if state.confirmed != keys:
            self.recorder.record(WinnerChosen(study=study.identity, number=number, keys=keys))
        self._winners[study.identity] = number

    def _confirming(self, study: Study, values: Mapping[str, Any]) -> list[Cell]:
        found = []
        for template in study.templates:
            cell = self._cell(study, {**values, "training.seed": template.spec.training.seed}, template)
            if cell is not None:
                labels = _labelled(cell, study, "confirmed")
                found.append(dataclasses.replace(cell, name=template.name, labels=labels))
        return found

    # ---- pruning -------------------------------------------------------------------------------------------------

    def decided_at(self, key: str) -> tuple[int, ...]:
        """Epochs after which a trial may be pruned; none of one that is not searched."""
        for study in self.studies:
            if any(trial.key == key for trial in study.state(self.recorder.view).trials):
                return tuple(pruning.decided_at(study.search.pruner, self.cells[key].spec.training.epochs))
        return ()

    def why_pruned(self, key: str, curve: pruning.Curve) -> str:
        """Why a searched trial ends now; empty where it goes on.

        Args:
            key: of any trial.
            curve: its losses by epoch that the ledger does not have yet.
        """
        for study in self.studies:
            if study.search.pruner == "none":
                continue
            trials = {trial.key: trial for trial in study.state(self.recorder.view).trials}
            if (own := trials.get(key)) is not None:
                others = {trial.number: trial.curve for trial in trials.values() if trial.key != key}
                epochs = self.cells[key].spec.training.epochs
                return pruning.reason(study.search.pruner, own.number, {**own.curve, **curve}, others, epochs)
        return ""


def _labelled(cell: Cell, study: Study, role: str) -> dict[str, Any]:
    """Labels of a trial, with what trackers group it by."""
    return {**cell.labels, "study": study.name, "role": role}
