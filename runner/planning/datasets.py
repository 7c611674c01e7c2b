"""Datasets for people: build those of a sweep, and hold the catalog against the disk."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.config.sweep_file import Sweep
from runner.rundir.paths import DATA
from trainables.data import catalog
from trainables.schema import DATASET_FIELDS


def prepare(sweep: Sweep, root: Path = DATA) -> list[catalog.CatalogEntry]:
    """Build every dataset that the sweep's cells use.

    Raises:
        DataError: a source that cannot be read or does not validate.
    """
    entries: dict[str, catalog.CatalogEntry] = {}
    for variant in sweep.variants:
        identity = variant.data.model_dump_json(include=DATASET_FIELDS)
        if identity not in entries:
            entries[identity] = catalog.prepare(variant.data, root, rebuild=True)
    return list(entries.values())


def as_dict(entries: list[catalog.CatalogEntry], root: Path = DATA) -> dict[str, Any]:
    """Plain values; ``path`` is the first dataset's file."""
    datasets = [{**entry.model_dump(mode="json"), "path": str(root / entry.path)} for entry in entries]
    return {"path": datasets[0]["path"], "datasets": datasets}


def verify(root: Path = DATA) -> dict[str, Any]:
    """Check every entry of the catalog; an absent catalog has nothing wrong with it."""
    checked = [asdict(one) for one in catalog.verify(root)]
    return {"ok": all(one["ok"] for one in checked), "root": str(root), "datasets": checked}
