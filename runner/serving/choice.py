"""Which trial of a run is used, where none is named."""

from runner.rundir import comparable, marks
from runner.rundir.ledger import CellState, LedgerView
from trainables.errors import ConfigError, Problem, nearest


def chosen(view: LedgerView, run: str, key: str | None) -> CellState:
    """The finished trial with a key; without one, the best on validation.

    Raises:
        ConfigError: no such trial, it has not finished, or the trials of the run answer several questions.
    """
    if key is None:
        found = best_of_each(view)
        if len(found) == 1:
            return found[0]
        place = f"run {run!r}"
        if not found:
            message = "no trial has finished with a loss that counts"
            raise ConfigError(Problem(place=place, message=message, fix="wait for one, or name a trial: --key KEY"))
        listed = "; ".join(f"{state.cell.key} ({state.cell.name})" for state in found)
        message = f"has trials of {len(found)} data sets or tasks, each with a best one: {listed}"
        raise ConfigError(Problem(place=place, message=message, fix="name one of them: --key KEY"))
    if key not in view.cells:
        message, fix = f"no trial has the key {key!r}", nearest(key, view.cells)
        raise ConfigError(Problem(place=f"run {run!r}", message=message, fix=fix))
    state = view.cells[key]
    if state.cell.cell_kind != "model":
        message = f"{key} is the {state.cell.cell_kind} {state.cell.name!r}, which has no model of its own"
        raise ConfigError(Problem(place=f"run {run!r}", message=message, fix="give the key of a trial"))
    if state.status != "finished":
        message = f"{key} is {state.status.replace('_', ' ')}: weights are kept of finished trials"
        raise ConfigError(Problem(place=f"run {run!r}", message=message, fix="resume the sweep, or name another trial"))
    return state


def best_of_each(view: LedgerView) -> list[CellState]:
    """Of each data set and task the finished trial with the lowest validation loss, in the grid's order.

    Collapsed trials and those with squashed outputs are left out. A search's trials count only where no confirmed trial
    does: the lowest loss of many is partly the luckiest one's. What a trial is given (context, tier, scaling, data
    fraction) may differ: all are judged on the same question.
    """
    best: dict[str, tuple[tuple[bool, float], CellState]] = {}
    compared = view.compared
    for key, state in view.current.items():
        loss = _loss(state)
        if loss is None:
            continue
        question = comparable.identity(state.cell.spec, comparable.INPUTS)
        rank = (key not in compared, loss)
        if question not in best or rank < best[question][0]:
            best[question] = rank, state
    return [state for _, state in best.values()]


def _loss(state: CellState) -> float | None:
    if state.cell.cell_kind != "model" or state.status != "finished" or state.ended is None:
        return None
    unsound = {mark.name for mark in marks.marks(state)} & {"collapsed", "squashed outputs"}
    loss = state.ended.result.get("val_loss")
    return None if unsound or loss is None else float(loss)
