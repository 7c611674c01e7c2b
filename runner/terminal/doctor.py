"""Findings on a host on a terminal."""

from collections.abc import Sequence

from runner.doctor.finding import Diagnosis
from runner.terminal.console import Console

_COLOURS = {"ok": "green", "warn": "yellow", "error": "red"}


def show(findings: Sequence[Diagnosis], console: Console) -> None:
    """Print the findings, each problem with its fix."""
    for one in findings:
        colour = _COLOURS[one.level]
        console.print(f"{one.level:<5}", style=colour, end="")
        console.print(f" {one.check}: {one.what}")
        for word, text in (("why", one.why), ("fix", one.fix)):
            if text:
                console.print(f"      {word}: {text}")
