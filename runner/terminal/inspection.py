"""`isotherm data inspect` on the terminal."""

from typing import Any

from runner.terminal.console import Console


def show(document: dict[str, Any], console: Console) -> None:
    """Print it."""
    console.print(document["source"], highlight=False)
    lines = [("rows", f"{document['rows']:,}")]
    if document["first"]:
        lines.append(("dates", f"{document['first']} to {document['last']}"))
    lines += document["found"].items()
    if document["unused"]:
        lines.append(("not used", ", ".join(document["unused"])))
    lines += [("doubtful", doubt) for doubt in document["doubts"]]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(f"  {name:<{width}}  {value}", markup=False, highlight=False)
    for bar in document["bars"]:
        console.print("  " + "  ".join(f"{name} {value}" for name, value in bar.items()), highlight=False)
    for problem in document["problems"]:
        console.print(problem, markup=False, highlight=False)
    if document["ok"]:
        console.print("write in the sweep file:", highlight=False)
        console.print(document["yaml"].rstrip(), markup=False, highlight=False)
