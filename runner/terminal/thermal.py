"""Temperatures and simulations, on a terminal."""

import time

from rich.live import Live
from rich.table import Table

from runner.terminal.console import Console
from runner.thermal.monitor import Sample
from runner.thermal.simulation.simulate import Outcome
from runner.thermal.watch import Watched, read


def show_watched(watched: Watched, console: Console, seconds: float | None) -> None:
    """Draw a live table until the time is over or Ctrl-C; where the output is no terminal, the last one is printed."""
    for why in watched.missing:
        console.print(f"not read: {why}", highlight=False, markup=False)
    if not watched.stations:
        return
    began = time.monotonic()
    with Live(_table(read(watched)), console=console, auto_refresh=False) as live:
        try:
            while seconds is None or time.monotonic() - began < seconds:
                time.sleep(watched.spec.interval_s)
                live.update(_table(read(watched)), refresh=True)
        except KeyboardInterrupt:
            return


def show_simulated(outcome: Outcome, console: Console) -> None:
    """Print an outcome for people."""
    for name, value in outcome.as_dict().items():
        shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        console.print(f"{name:<22} {shown}", highlight=False, markup=False)


def _table(samples: list[Sample]) -> Table:
    table = Table("sensor", "device", "part")
    for name in ("Celsius", "target", "hold", "resume", "stop", "watts", "used"):
        table.add_column(name, justify="right")
    for name in ("slowed by", "the policy says"):
        table.add_column(name)
    for sample in samples:
        limits = sample.limits
        table.add_row(
            sample.sensor,
            sample.device,
            sample.part,
            _shown(sample.celsius),
            *(f"{value:g}" for value in (limits.target, limits.hold, limits.resume, limits.stop)),
            _shown(sample.power_watts),
            "-" if sample.utilisation is None else f"{sample.utilisation:.0%}",
            sample.slowed_by or "-",
            f"{sample.state}, duty {sample.duty:.0%}" + (f" ({sample.reason})" if sample.reason else ""),
        )
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
