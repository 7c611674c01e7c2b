"""Datasets for people: build those of a sweep, and hold the catalog against the disk."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.config.sweep_file import Sweep
from runner.rundir.paths import DATA
from runner.terminal.console import Console
from trainables.data import catalog
from trainables.data.dataset import unused_words
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


def show(entries: list[catalog.CatalogEntry], console: Console, root: Path = DATA) -> None:
    """Print what was built."""
    for entry in entries:
        console.print(f"{root / entry.path}", highlight=False)
        console.print(f"  rows      {entry.rows:,} ({', '.join(entry.assets)})", highlight=False)
        console.print(f"  dates     {entry.first_date} to {entry.last_date}, {entry.timescale}", highlight=False)
        console.print(f"  features  {len(entry.features)}: {', '.join(entry.features)}", highlight=False)
        for words in unused_words(entry.unused_columns):
            console.print(f"  not used  {words}", markup=False, highlight=False)
        console.print(f"  content   sha256 {entry.content_sha256}", highlight=False)
        console.print(f"  file      sha256 {entry.file_sha256}", highlight=False)
        for source, digest in entry.source_sha256.items():
            console.print(f"  source    sha256 {digest} ({source})", highlight=False)


def verify(root: Path = DATA) -> dict[str, Any]:
    """Check every entry of the catalog; an absent catalog has nothing wrong with it."""
    checked = [asdict(one) for one in catalog.verify(root)]
    return {"ok": all(one["ok"] for one in checked), "root": str(root), "datasets": checked}


def show_verification(checked: dict[str, Any], console: Console) -> None:
    """Print a verification."""
    if not checked["datasets"]:
        console.print(f"{checked['root']}: no datasets yet", highlight=False)
    for one in checked["datasets"]:
        console.print(f"{'ok ' if one['ok'] else 'BAD'} {one['path']}  {one['message']}", markup=False, highlight=False)
