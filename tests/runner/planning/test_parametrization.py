"""muP from a sweep file to a trial's specification."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import sweep_file as sweepfile
from runner.planning import grid
from trainables.errors import ConfigError

Write = Callable[..., Path]
MUP = ("training.parametrization=mup", "training.mup_base=20k")


def cells(path: Path, *overrides: str) -> tuple[grid.Cell, ...]:
    return grid.expand(sweepfile.load(path, overrides)).cells


def test_the_base_is_the_model_of_its_budget_and_part_of_the_key(sweep_file: Write) -> None:
    path = sweep_file(("[20k]", "[20k, 80k]"))
    standard, mup, other = cells(path), cells(path, *MUP), cells(path, MUP[0], "training.mup_base=40k")
    assert all("base" not in cell.spec.canonical() for cell in standard)
    assert all(cell.spec.model.base == standard[0].spec.model.shape for cell in mup)
    assert [cell.spec.model.shape for cell in mup] == [cell.spec.model.shape for cell in standard]
    assert len({cell.key for cell in (*standard, *mup, *other)}) == 6
    assert [cell.key for cell in cells(path, MUP[1])] == [cell.key for cell in standard], "a base alone has no effect"


def test_it_is_an_axis(sweep_file: Write) -> None:
    found = cells(sweep_file(), "grid.training.parametrization=[standard, mup]", MUP[1])
    assert [cell.spec.model.base is None for cell in found] == [True, False]
    assert found[1].axes == {"training.parametrization": "mup"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (MUP[:1], "parametrization: mup needs mup_base"),
        ((*MUP, "training.mup_base=many"), "'many' is not a budget"),
        ((*MUP, "model={name: lstm}"), "the architecture 'lstm' has no method mup, which says how"),
        ((*MUP, "model={name: tsmixer}"), "the architecture 'tsmixer' has no method mup"),
    ],
)
def test_what_cannot_be_scaled_is_refused_before_anything_starts(
    sweep_file: Write, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        sweepfile.load(sweep_file(), overrides)
    assert message in str(raised.value)
