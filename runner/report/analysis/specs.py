"""What each trial was asked to be: what all share once, then what is its own, and where its runs can be seen."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from runner.report.analysis.trials import clean
from runner.rundir import tracker_runs
from runner.rundir.ledger import CellState
from runner.rundir.paths import TRACKERS, RunPaths
from runner.rundir.tracker_runs import TrackerRun

_NAMES = {"mlflow": "MLflow", "wandb": "W&B"}


@dataclass(frozen=True)
class Link:
    """A trial's run in a tracker; `url` is empty where no address is known, as for a local database."""

    tracker: str
    run: str
    url: str


@dataclass(frozen=True)
class Spec:
    """One trial or baseline: ``dotted.key = value`` lines that not all models share, and its runs."""

    key: str
    name: str
    lines: tuple[str, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Specs:
    """All trials of a grid."""

    shared: tuple[str, ...]
    trials: tuple[Spec, ...]


def specs(paths: RunPaths, models: Mapping[str, CellState], baselines: Mapping[str, CellState]) -> Specs:
    """Resolved specifications with the execution record of the latest attempt; shared is what all models share."""
    states = {**models, **baselines}
    leaves = {key: dict(flat(_content(state))) for key, state in states.items()}
    shared = set.intersection(*(set(leaves[key].items()) for key in models)) if models else set()
    runs = {tracker: tracker_runs.read(paths.tracker_runs(tracker)) for tracker in TRACKERS}
    return Specs(
        shared=tuple(_line(item) for item in next(iter(leaves.values()), {}).items() if item in shared),
        trials=tuple(
            Spec(
                key=clean(key),
                name=clean(states[key].cell.name),
                lines=tuple(_line(item) for item in one.items() if item not in shared),
                links=tuple(
                    link for tracker, known in runs.items() if (link := _link(tracker, known.get(key))) is not None
                ),
            )
            for key, one in leaves.items()
        ),
    )


def _content(state: CellState) -> dict[str, Any]:
    return {**state.cell.spec, "execution": state.execution or {}}


def flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Leaves with their dotted places; lists are leaves."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flat(inner, f"{place}.{name}" if place else str(name))
    else:
        yield place, json.dumps(value, ensure_ascii=False)


def _line(item: tuple[str, str]) -> str:
    return clean(f"{item[0]} = {item[1]}")


def _link(tracker: str, known: TrackerRun | None) -> Link | None:
    if known is None or not known.run:
        return None
    return Link(_NAMES[tracker], clean(known.run), _web_address(known.url))


def _web_address(url: str | None) -> str:
    """The address, if it is one of the web without user information; else nothing: it must not act in a browser."""
    text = url or ""
    if clean(text) != text or " " in text:
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    return text if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc else ""
