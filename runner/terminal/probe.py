"""What the probe measured, on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from runner.probe.batch_size import Measurement
from runner.probe.request import ProbeResult
from runner.terminal.console import Console

BAR_WIDTH = 30
STOPS = {
    "cap": "the largest size allowed was reached",
    "plateau": "two doublings gained under 5 %",
    "memory": "the next size would not fit",
    "out_of_memory": "the last size ran out of memory",
    "time": "a larger size would take too long to measure",
    "measurements": "eight sizes were measured",
    "infeasible": "the smallest size does not fit",
    "static": "refused by arithmetic, nothing was run",
}


def show(decision: ProbeResult, console: Console) -> None:
    """Print a table of what was measured, and throughput and memory against the micro-batch as bars."""
    question, record = decision.question, decision.execution
    console.print(
        f"{question.label} on {question.device_name}, {question.spec.dtype}; a step takes {question.batch} windows",
        highlight=False,
    )
    console.print(
        f"limit {_gb(decision.limit.bytes)} ({decision.limit.what}), usable {_gb(decision.usable_bytes)}",
        highlight=False,
    )
    if decision.measured:
        console.print(_table(decision))
    if decision.chosen is None:
        console.print(f"does not fit: {decision.reason}", markup=False, highlight=False)
        return
    console.print(
        f"micro-batch {record.micro_batch} x accumulation {record.accumulation}"
        + (f", {record.layout}" if record.layout else "")
        + f": {STOPS[decision.stopped]}",
        highlight=False,
    )
    share = f", each {record.gpu_share:g} of a GPU" if record.device == "cuda" else ""
    console.print(
        f"{decision.copies} at once with {record.threads} threads each{share}: "
        f"{decision.copies * decision.samples_per_second:,.0f} samples/s in all",
        highlight=False,
    )
    console.print(
        f"{len(decision.measured)} sizes, {decision.n_new} measured now, {decision.n_oom} out of memory, "
        f"{decision.seconds:.1f} s",
        highlight=False,
    )
    if decision.disturbed:
        console.print(
            "Other programs kept the processors busy meanwhile: it may run faster. Measured anew after an hour, or "
            "with --no-cache.",
            highlight=False,
        )


def _table(decision: ProbeResult) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("micro-batch", "peak", "samples/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("throughput", "memory (| = usable)", "verdict"):
        table.add_column(name, no_wrap=True)
    measured = sorted(decision.measured, key=lambda one: one.micro_batch)
    fastest = max((one.samples_per_second for one in measured), default=0.0)
    widest = max(decision.usable_bytes, *(one.peak_bytes for one in measured), 1)
    mark = round(BAR_WIDTH * max(0, decision.usable_bytes) / widest)
    for one in measured:
        memory = _bar(one.peak_bytes / widest).ljust(BAR_WIDTH)
        if memory[min(mark, BAR_WIDTH - 1)] == " ":
            memory = memory[:mark] + "|" + memory[mark + 1 :]
        table.add_row(
            str(one.micro_batch),
            _gb(one.peak_bytes),
            f"{one.samples_per_second:,.1f}" if one.ok else "-",
            _bar(one.samples_per_second / fastest if fastest else 0.0),
            memory,
            _verdict(one, decision),
        )
    return table


def _bar(share: float) -> str:
    return "█" * round(BAR_WIDTH * share)


def _verdict(one: Measurement, decision: ProbeResult) -> str:
    if not one.ok:
        return f"{one.outcome.replace('_', ' ')} ({one.detail})"
    if one.peak_bytes > decision.usable_bytes:
        return "over the margin"
    return "chosen" if one == decision.chosen else "fits"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
