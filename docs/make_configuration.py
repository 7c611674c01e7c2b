"""Writes docs/configuration.md from the settings themselves: ``python docs/make_configuration.py``.

A test compares the file with what this makes, so that the table cannot fall behind.
"""

import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from runner.config import describe
from runner.config.parts import CHOICES
from runner.config.settings import Secrets, SweepSettings
from trainables.schema import SizeRule

TARGET = Path(__file__).parent / "configuration.md"

HEAD = """\
# Configuration

Made from the code by `python docs/make_configuration.py`; a test keeps it true.

A sweep is one YAML file. Precedence: `--set a.b=c` on the command line, `ISOTHERM_A__B` in the environment, the same in
`.env`, the file, the defaults below. `MLFLOW_TRACKING_URI` stands for the default of `tracking.mlflow.uri`. Lists,
blocks and null are written in variables as in `--set`: `ISOTHERM_GRID__BUDGET='[50k, 200k]'`. All problems are reported
at once, each with file, line and key.

A *rule of the size* is `{base: 1.0e-3, at: 2m, exponent: -0.15, source: where it is from}`: the value is
`base * (budget / at) ** exponent`, with the budget as asked for. Axes of `grid` are `budget` (required), `horizon`
(`task.horizon`), `seed` (`training.seed`), `data_fraction` (`data.fraction`), or any dotted key of `data`, `task`,
`model` and `training`. The short and the dotted spelling are one axis.

A setting from a stronger source than the axis replaces it: with `horizon: [1, 5]` in the file's grid,
`--set task.horizon=5` or `ISOTHERM_TASK__HORIZON=5` gives a grid with the horizon 5 alone, and a note says so. Both in
one source are refused as a contradiction; in one file the axis counts, and a note names the value without effect.
"""

TAIL = """\

## Secrets

From the environment or `.env` only, under these names; a sweep file that holds one is refused.

{secrets}

## Variables of the trackers

From the environment or `.env`.

- `MLFLOW_TRACKING_URI`: MLflow's address where neither the command line, `ISOTHERM_TRACKING__MLFLOW__URI` nor the sweep
  file names one. Where another one wins, the sweep says so. User information in it is refused.
- `WANDB_MODE`: `offline` keeps W&B's files on this host and `disabled` turns W&B off, whatever the sweep says and
  whether there is a key or not. `online` changes nothing.

Relative paths, `runs/` and `data/` resolve against the current directory.
"""


def blocks(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every block of a sweep file below `prefix`, with its model; rules of the size are explained once, at the top."""
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        if inner is not None and inner is not SizeRule:
            yield f"{prefix}{name}", inner
            yield from blocks(f"{prefix}{name}.", inner)


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The settings block that an annotation holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for one in typing.get_args(annotation) if (found := model_of(one))), None)
    return None


def table(model: type[BaseModel]) -> str:
    """One row a key."""
    return rows(describe.keys(model))


def rows(keys: Iterable[describe.Key]) -> str:
    """A table of keys."""
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        default = key.default if key.default in ("", "required") else f"`{key.default}`"
        lines.append(f"| `{key.name}` | {key.takes} | {default} | {key.meaning.replace('<', '&lt;')} |")
    return "\n".join(lines)


def parts_of(block: str) -> list[str]:
    """The keys that the parts of a block add to it; of what ships."""
    lines = []
    for choice in (one for one in CHOICES if one.block == block):
        for part in (one for one in choice.registry if one.source.shipped):
            about = (part.target.__doc__ or "").strip().splitlines()[0]
            keys = [key for key in describe.keys(part.config_type) if key.name in choice.keys(part)]
            lines += [f"\nWith `{choice.named_by}: {part.name}`. {about}\n", *([rows(keys)] if keys else [])]
    return lines


def document() -> str:
    """The whole page."""
    parts = [HEAD, "## Top level\n", table(SweepSettings)]
    for name, model in blocks("", SweepSettings):
        about = (model.__doc__ or "").strip().splitlines()[0]
        parts += [f"\n## `{name}`\n", f"{about}\n", table(model), *parts_of(name)]
    secrets = "\n".join(f"- `{name.upper()}`" for name in Secrets.model_fields)
    return "\n".join(parts) + "\n" + TAIL.format(secrets=secrets)


if __name__ == "__main__":
    TARGET.write_text(document())
