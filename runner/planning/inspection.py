"""`isotherm data inspect`: a file of bars for people, as a sweep would read it."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import yaml

from runner.config import sweep_file
from trainables.data import inspection
from trainables.schema import AS_FOUND, DataSpec, RepairSpec

_SHOWN_BARS = 3


def inspect(source: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What is understood of one source.

    Args:
        source: as `data.source`.
        overrides: ``data.KEY=VALUE``, as for ``--set`` of other commands.

    Raises:
        ConfigError: an override is wrong.
    """
    spec = sweep_file.data_of([f"data.source={yaml.safe_dump([source]).strip()}", *overrides])
    found = inspection.inspect(source, spec)
    bars = found.bars
    return {
        "ok": not found.problems,
        "fixable": found.repair is not None,
        "source": source,
        "rows": len(bars),
        "first": _day(bars, 0),
        "last": _day(bars, -1),
        "found": found.found,
        "unused": list(found.unused),
        "doubts": list(found.doubts),
        "problems": [str(problem) for problem in found.problems],
        "bars": [] if bars.empty else bars.head(_SHOWN_BARS).reset_index().astype(str).to_dict("records"),
        "yaml": yaml.safe_dump(
            {"data": _to_write(_repaired(spec, found), source)}, sort_keys=False, default_flow_style=None
        ),
    }


def _repaired(spec: DataSpec, found: inspection.Inspection) -> DataSpec:
    return spec if found.repair is None else spec.model_copy(update={"repair": found.repair})


def _to_write(spec: DataSpec, source: str) -> dict[str, Any]:
    blocks: dict[str, Any] = {"source": source}
    if spec.columns:
        blocks["columns"] = spec.columns
    if spec.format != AS_FOUND:
        blocks["format"] = spec.format.model_dump(mode="json", exclude_defaults=True)
    if spec.repair != RepairSpec():
        blocks["repair"] = spec.repair.model_dump(mode="json", exclude_defaults=True)
    if spec.calendar:
        blocks["calendar"] = spec.calendar
    if spec.session is not None:
        blocks["session"] = spec.session.model_dump(mode="json", exclude_defaults=True)
    blocks |= {name: getattr(spec, name) for name in ("adjust", "sort") if getattr(spec, name) not in ("none", False)}
    return blocks


def _day(bars: pd.DataFrame, place: int) -> str:
    if not len(bars) or not isinstance(bars.index, pd.DatetimeIndex) or pd.isna(bars.index[place]):
        return ""
    return f"{bars.index[place]:%Y-%m-%d}"
