"""Which trials of a grid share the stable phase of a longer one (schedule ``wsd``)."""

from collections import defaultdict
from collections.abc import Iterable

from runner.planning.grid import Cell
from trainables.training.branching import family


def stable_runs(cells: Iterable[Cell]) -> dict[str, str]:
    """By the key of a trial that branches off a longer one, the key of that one: the longest of those alike."""
    families: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        if not cell.infeasible and (common := family(cell.spec)) is not None:
            families[common].append(cell)
    found: dict[str, str] = {}
    for members in families.values():
        longest = max(members, key=total_steps)
        found |= {cell.key: longest.key for cell in members if total_steps(cell) < total_steps(longest)}
    return found


def total_steps(cell: Cell) -> int:
    """Optimizer steps of a trial."""
    return cell.spec.training.total_steps(cell.sizes["n_train"] or 1)


def share_trained(cell: Cell) -> float:
    """Share of its steps that a branch trains itself."""
    steps = total_steps(cell)
    return 1 - cell.spec.training.stable_until(steps) / steps
