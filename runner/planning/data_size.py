"""How large a grid's data are: the table, where it will be, and how much of it there is for each parameter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from rich.filesize import decimal

from runner.host.device import Device
from runner.host.memory_limits import host_limit
from runner.planning.data_facts import MAX_WINDOWS
from runner.planning.grid import Cell
from trainables.baselines import MAX_FITTED
from trainables.data.windows import fits

MEMORY_SHARE = 0.5  # of the memory that is free: a larger table will not stay in it as a whole
_HOMES = {
    "device": "copied to the GPU",
    "memory": "mapped into memory, which all trials of a host share",
    "disk": "read from the disk by page: more than half of the free memory",
}


@dataclass(frozen=True)
class DataSize:
    """Of one cell. `tokens` are windows times bars, as if windows shared none."""

    table_bytes: int
    home: Literal["device", "memory", "disk"]
    windows_per_parameter: float
    tokens_per_parameter: float
    passes: float
    embedding_share: float

    @classmethod
    def of(cls, cell: Cell, device: Device) -> "DataSize":
        """From what a plan knows of it."""
        table_bytes = 4 * cell.entry.rows * len(cell.entry.features)
        home: Literal["device", "memory", "disk"] = "disk"
        elsewhere = device.kind == "cuda" and not torch.cuda.is_available()  # a GPU of another host, of unknown memory
        if elsewhere or fits(table_bytes, torch.device(device.kind)):
            home = "device"
        elif table_bytes <= MEMORY_SHARE * host_limit().bytes:
            home = "memory"
        windows, training = cell.sizes["n_train"] or 0, cell.spec.training
        steps = training.total_steps(windows or 1)
        return cls(
            table_bytes=table_bytes,
            home=home,
            windows_per_parameter=windows / cell.counts.total,
            tokens_per_parameter=windows * cell.spec.task.context / cell.counts.total,
            passes=steps / training.steps_per_epoch(windows or 1),
            embedding_share=cell.counts.embedding / cell.counts.total,
        )


def lines(cells: Sequence[Cell], device: Device) -> Iterator[str]:
    """For people: each table, each budget, and what is looked at in samples."""
    sizes = {cell.key: DataSize.of(cell, device) for cell in cells}
    for cell in {cell.entry.name: cell for cell in cells}.values():
        size, entry = sizes[cell.key], cell.entry
        shape = f"{entry.rows:,} rows x {len(entry.features)} features"
        yield f"table of {entry.name}: {decimal(size.table_bytes)} ({shape}), {_HOMES[size.home]}"
    for label, cell in {f"{cell.labels['budget']} {cell.labels['model']}": cell for cell in cells}.items():
        size = sizes[cell.key]
        yield (
            f"budget {label}: {size.windows_per_parameter:.2g} windows and "
            f"{size.tokens_per_parameter:.2g} tokens a parameter, "
            f"{size.passes:.3g} passes; the embedding has {size.embedding_share:.0%} of the parameters"
        )
    yield from dict.fromkeys(line for cell in cells for line in _samples(cell))


def _samples(cell: Cell) -> Iterator[str]:
    splits = cell.facts.splits
    for name, part in splits.items():
        if part.n_windows < part.total:
            yield f"{name} is judged on {part.n_windows:,} of {part.total:,} windows, evenly spread"
    if (windows := splits["train"].n_windows) > MAX_FITTED:
        yield f"baselines are fitted on {MAX_FITTED:,} of {windows:,} training windows, evenly spread"
    if max(part.n_windows for part in splits.values()) > MAX_WINDOWS:
        yield f"checks of the inputs look at {MAX_WINDOWS:,} windows of each split, evenly spread"
