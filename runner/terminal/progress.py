"""Live progress of a sweep: cells running, done and to go, their losses, and the time left."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from runner.planning.grid import Cell
from runner.rundir.ledger import FINAL, AnyRecord, AttemptStarted, CellEnded, CellState, LedgerView, Status
from runner.rundir.status import MEASURED_SHARE, OVERHEAD_PARAMETERS
from runner.rundir.studies import states
from runner.terminal.console import Console

LINE_INTERVAL_S = 10.0  # between lines where the output is no terminal
MOST_STUDIES = 12  # lines of the live view; `isotherm status` has them all
_NOT_DONE: tuple[Status, ...] = ("failed", "out_of_memory", "interrupted", "thermal_stop")  # they are run again


class LiveProgress:
    """A listener of the recorder that draws: a live table in a terminal, a line now and then elsewhere."""

    def __init__(
        self,
        cells: Sequence[Cell],
        view: LedgerView,
        console: Console,
        temperatures: Callable[[], str] = str,
        planned: Sequence[Cell] = (),
    ) -> None:
        """`planned` are trials as long as those that a search will add, one for each."""
        self._cells = {cell.key: cell for cell in cells if not cell.infeasible}
        self._view = view
        self._console = console
        self._temperatures = temperatures
        self._began = time.monotonic()
        self._last_line = 0.0
        self._work = {key: _work(cell) for key, cell in self._cells.items()}
        self._planned, self._planned_work = len(planned), sum(_work(cell) for cell in planned)
        self._done_before = self._done_work()
        self._best: dict[str, str] = self._bests()
        self._live = Live(console=console, refresh_per_second=2, get_renderable=self._draw, transient=True)

    def __enter__(self) -> "LiveProgress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live.is_started:
            self._live.stop()

    def add(self, cell: Cell) -> None:
        """A trial that was not known at the start, of a search."""
        if not cell.infeasible:
            self._cells[cell.key] = cell
            self._work[cell.key] = _work(cell)

    def on_record(self, record: AnyRecord, view: LedgerView) -> None:
        """Take notice of a record."""
        if isinstance(record, CellEnded) and record.key in self._cells:
            self._say(_ended_line(self._cells[record.key].name, record))
            before, self._best = self._best, self._bests()
            for name, words in self._best.items():
                if before.get(name) != words:
                    self._say(f"study {name}: {words}")
        due = time.monotonic() - self._last_line >= LINE_INTERVAL_S
        if not self._live.is_started and due and not isinstance(record, AttemptStarted):
            self._last_line = time.monotonic()
            self._say(self._line())

    def _bests(self) -> dict[str, str]:
        """The best trial so far of each study, in words."""
        found = {}
        for state in states(self._view):
            best, objective = state.best, state.objective
            if best is not None and best.loss is not None:
                values = ", ".join(f"{key}={value}" for key, value in best.values.items())
                value = f"{objective.metric} {objective.as_loss(best.loss):.4f}"
                found[state.asked["name"]] = f"best {value} so far, {values}"
        return found

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    # ---- numbers -------------------------------------------------------------------------------------------------

    def _fraction(self, key: str) -> float:
        state = self._view.cells.get(key)
        if state is None:
            return 0.0
        if state.final:
            return 1.0
        return max(state.metrics, default=0) / max(1, _total_steps(self._cells[key]))

    def _done_work(self) -> float:
        return sum(work * self._fraction(key) for key, work in self._work.items())

    def _all_work(self) -> float:
        return max(sum(self._work.values()), self._planned_work)

    def eta_s(self) -> float | None:
        """Seconds left at the rate so far, weighted by work; None before anything was measured."""
        gained = self._done_work() - self._done_before
        elapsed = time.monotonic() - self._began
        if gained <= MEASURED_SHARE * self._all_work():
            return None
        return elapsed * (self._all_work() - self._done_work()) / gained

    def _running(self) -> list[tuple[Cell, CellState]]:
        states = [(cell, self._view.cells[key]) for key, cell in self._cells.items() if key in self._view.cells]
        return [(cell, state) for cell, state in states if state.status == "running"]

    def _summary(self) -> str:
        counts = Counter(state.status for key, state in self._view.cells.items() if key in self._cells)
        done = sum(counts[status] for status in FINAL)
        rest = "".join(f", {counts[status]} {status.replace('_', ' ')}" for status in _NOT_DONE if counts[status])
        eta = self.eta_s()
        left = f"ETA {_clock(eta)}" if eta is not None else "ETA -"
        elapsed = _clock(time.monotonic() - self._began)
        going = f"{counts['running']} running, {counts['waiting']} to go"
        return f"{done}/{max(len(self._cells), self._planned)} done, {going}{rest}, {elapsed}, {left}"

    # ---- drawing -------------------------------------------------------------------------------------------------

    def _line(self) -> str:
        parts = [f"{cell.name} {self._fraction(cell.key):.0%} {_loss(state)}" for cell, state in self._running()]
        return " | ".join(part for part in (self._summary(), self._temperatures(), *parts) if part)

    def _draw(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for cell, state in self._running():
            bar = ProgressBar(total=1.0, completed=self._fraction(cell.key), width=24)
            table.add_row(cell.name, bar, f"{self._fraction(cell.key):4.0%}", _loss(state))
        best = [f"{name}: {words}" for name, words in self._best.items()][:MOST_STUDIES]
        return Group(self._summary(), table, *best, self._temperatures())


def _total_steps(cell: Cell) -> int:
    return cell.spec.training.total_steps(cell.sizes["n_train"] or 1)


def _work(cell: Cell) -> float:
    return float(_total_steps(cell) * cell.spec.training.global_batch * (cell.counts.total + OVERHEAD_PARAMETERS))


def _loss(state: CellState) -> str:
    for step in sorted(state.metrics, reverse=True):
        value = state.metrics[step].get("val_loss")
        if value is not None:
            return f"validation loss {value:.4f} (epoch {state.epochs[step]})"
    for step in sorted(state.metrics, reverse=True):
        value = state.metrics[step].get("step_loss")
        if value is not None:
            return f"training loss {value:.4f}"
    return "starting"


def _ended_line(name: str, record: CellEnded) -> str:
    loss, low, high = (record.result.get(name) for name in ("val_loss", "val_loss_low", "val_loss_high"))
    if record.status == "finished" and loss is not None:
        interval = f" [{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""
        mark = ", collapsed" if record.result.get("collapsed") else ""
        return f"{name}: finished, validation loss {loss:.4f}{interval} nats, skill {record.result['skill']:+.4f}{mark}"
    return f"{name}: {record.status}" + (f" ({record.reason})" if record.reason else "")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
