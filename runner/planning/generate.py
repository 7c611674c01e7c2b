"""Universes with a planted truth as files, and as sources of a sweep file."""

from pathlib import Path
from typing import Any

from trainables.data.synthetic import MEANING, Universe
from trainables.errors import ConfigError, Problem
from trainables.files import replacing


def generate(universe: Universe, assets: int, folder: Path | None) -> dict[str, Any]:
    """Write one CSV an asset where a folder is given.

    Returns:
        What is planted, the sources for a sweep file, the files, and the irreducible loss in nats of the direction of
        the next bar, the mean over the assets.

    Raises:
        ConfigError: the folder cannot be made.
    """
    several = [Universe(**{**vars(universe), "asset": universe.asset + number}) for number in range(assets)]
    files = []
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = Problem(place=str(folder), message=error.strerror or "cannot be made", fix="name another folder")
            raise ConfigError(problem) from error
        for one in several:
            path = folder / f"{one.name}.csv"
            with replacing(path) as aside:
                one.frame().to_csv(aside, index=False)
            files.append(str(path))
    return {
        "kind": universe.kind,
        "planted": MEANING[universe.kind],
        "sources": [f"synthetic:{one.argument()}" for one in several],
        "files": files,
        "irreducible_loss": sum(one.irreducible() for one in several) / assets,
        "task": "direction, horizon 1",
    }
