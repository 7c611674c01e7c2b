"""`isotherm data inspect` on the terminal."""

from typing import Any

from runner.terminal.console import Console


def show(document: dict[str, Any], console: Console) -> None:
    """Print it."""
    console.print(document["source"], highlight=False)
    lines = [("rows", f"{document['rows']:,}")] if document["rows"] else []
    if document["first"]:
        lines.append(("dates", f"{document['first']} to {document['last']}"))
    lines += document["found"].items()
    if document["unused"]:
        lines.append(("not used", ", ".join(document["unused"])))
    lines += [("doubtful", doubt) for doubt in document["doubts"]]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        console.print(f"  {name:<{width}}  {value}", markup=False, highlight=False)
    for bar in document["bars"]:
        console.print("  " + "  ".join(f"{name} {value}" for name, value in bar.items()), highlight=False)
    for problem in document["problems"]:
        console.print(problem, markup=False, highlight=False)
    if document["ok"] or document["fixable"]:
        said = "write in the sweep file" + (
            "" if document["ok"] else ", where the rows cannot be corrected in the source"
        )
        console.print(f"{said}:", highlight=False)
        console.print(document["yaml"].rstrip(), markup=False, highlight=False)
