"""Datasets and their verification, on a terminal."""

from pathlib import Path
from typing import Any

from runner.rundir.paths import DATA
from runner.terminal.console import Console
from trainables.data import catalog
from trainables.data.dataset import further_words, unused_words


def show(entries: list[catalog.CatalogEntry], console: Console, root: Path = DATA) -> None:
    """Print what was built."""
    for entry in entries:
        console.print(f"{root / entry.path}", highlight=False)
        console.print(f"  rows      {entry.rows:,} ({', '.join(entry.assets)})", highlight=False)
        console.print(f"  dates     {entry.first_date} to {entry.last_date}, {entry.timescale}", highlight=False)
        console.print(f"  features  {len(entry.features)}: {', '.join(entry.features)}", highlight=False)
        for words in unused_words(entry.unused_columns):
            console.print(f"  not used  {words}", markup=False, highlight=False)
        for words in further_words(entry.left_out, entry.given):
            console.print(f"  {words}", markup=False, highlight=False)
        console.print(f"  content   sha256 {entry.content_sha256}", highlight=False)
        console.print(f"  file      sha256 {entry.file_sha256}", highlight=False)
        for source, digest in entry.source_sha256.items():
            console.print(f"  source    sha256 {digest} ({source})", highlight=False)


def show_verification(checked: dict[str, Any], console: Console) -> None:
    """Print a verification."""
    if not checked["datasets"]:
        console.print(f"{checked['root']}: no datasets yet", highlight=False)
    for one in checked["datasets"]:
        console.print(f"{'ok ' if one['ok'] else 'BAD'} {one['path']}  {one['message']}", markup=False, highlight=False)
