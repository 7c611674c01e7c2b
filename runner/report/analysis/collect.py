"""Everything a report says, gathered from a run directory alone: no network, no trackers, no data folder."""

import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runner.report.analysis import controls, isoflop
from runner.report.analysis.attempts import History, history
from runner.report.analysis.findings import TrialFinding, find
from runner.report.analysis.fits import NamedFit
from runner.report.analysis.isoflop import IsoFlopSeries
from runner.report.analysis.specs import Specs, specs
from runner.report.analysis.trials import ENDED, Trial, baselines_of, clean, ensembles_of, trials_of
from runner.report.analysis.tuning import Tuning, tuning
from runner.report.analysis.verdict import SeriesVerdict, named_fits, verdicts
from runner.rundir import ledger
from runner.rundir.ledger import REPORT, LedgerView
from runner.rundir.paths import RunPaths
from trainables.data.dataset import further_words, unused_words
from trainables.schema import ResolvedTask
from trainables.tasks.registry import unread


@dataclass(frozen=True)
class Event:
    """A further record of the driver, such as a full disk; `key` is empty where it concerns no single trial."""

    time: datetime
    what: str
    key: str
    message: str


@dataclass(frozen=True)
class Lineage:
    """One data set as the trials saw it: which bars, how presented, how long. Sizes are numbers of windows.

    Attributes:
        content_sha256: hash of the data's canonical values.
        bars: how many, from when to when; empty where an early ledger does not say.
        sources: each with the first digits of what was read.
        unused: of each source, the columns that nothing is read from.
        sizes: by horizon in bars: train, validation, test, and effective validation samples.
    """

    content_sha256: str
    bars: str
    sources: tuple[str, ...]
    unused: tuple[str, ...]
    assets: tuple[str, ...]
    n_features: int
    tier: str
    timescale: str
    representation: str
    scaling: str
    splits: str
    fraction: float
    every: int
    sizes: tuple[tuple[int | None, tuple[int | None, int | None, int | None, int | None]], ...]


@dataclass(frozen=True)
class RunProgress:
    """How much of the grid has ended.

    Attributes:
        cells: cells of the grid as it was last started.
        ended: cells that are finished, diverged, infeasible, failed or out of memory.
        closed: whether the driver ended in good order after its latest start.
        complete: whether nothing of the grid is left to wait for.
        earlier: cells of an earlier grid of this run, which this report leaves out.
    """

    cells: int
    ended: int
    closed: bool
    complete: bool
    earlier: int


@dataclass(frozen=True)
class Collected:
    """What a report is made of. `gates` holds the checks before the latest start that warned, in words."""

    view: LedgerView
    history: History
    run: str
    progress: RunProgress
    trials: tuple[Trial, ...]
    baselines: tuple[Trial, ...]
    verdicts: tuple[SeriesVerdict, ...]
    fits: tuple[NamedFit, ...]
    findings: tuple[TrialFinding, ...]
    gates: tuple[str, ...]
    specs: Specs
    tuning: Tuning
    isoflop: tuple[IsoFlopSeries, ...]
    events: tuple[Event, ...]
    lineage: tuple[Lineage, ...]
    tasks: tuple[str, ...]
    code_versions: tuple[tuple[str, int], ...]
    devices: tuple[tuple[str, int], ...]
    versions: tuple[tuple[str, str], ...]
    started: datetime | None
    restarts: int
    last_record: datetime | None
    commands: tuple[str, ...]
    controls: tuple[str, ...] = ()
    ensembles: tuple[Trial, ...] = ()


def collect(paths: RunPaths) -> Collected:
    """Gather a report's content from a run directory; the sweep may still be running.

    Raises:
        LedgerError: a damaged record or another schema version.
    """
    records = tuple(ledger.records(paths.ledger)) if paths.has_ledger else ()
    view = ledger.fold(records)
    trials = trials_of(view)
    baselines, ensembles = baselines_of(view), ensembles_of(view)
    latest = view.sweeps[-1] if view.sweeps else None
    judged = verdicts(paths, view, trials, baselines)
    return Collected(
        view=view,
        history=history(records, [*(trial.key for trial in (*trials, *baselines)), *view.searched_keys]),
        run=clean(latest.run if latest else paths.name),
        progress=_progress(view),
        trials=trials,
        baselines=baselines,
        verdicts=judged,
        fits=named_fits(judged, tuple({trial.group for trial in trials})),
        findings=find(trials),
        gates=tuple(dict.fromkeys(_gate(found) for found in latest.gates)) if latest else (),
        specs=specs(paths, view.compared, {one.key: view.cells[one.key] for one in (*baselines, *ensembles)}),
        events=tuple(
            Event(e.time, clean(e.what), clean(e.key), clean(e.message)) for e in view.events if e.what != REPORT
        ),
        lineage=_lineage(view),
        tuning=tuning(view, paths),
        isoflop=isoflop.series(trials),
        tasks=tuple(dict.fromkeys(_task(state.cell.spec.get("task", {})) for state in view.current.values())),
        code_versions=_counted(trial.code_version for trial in trials if trial.attempts),
        devices=_counted(trial.device for trial in trials if trial.attempts),
        versions=tuple((clean(name), clean(value)) for name, value in latest.versions.items()) if latest else (),
        started=view.sweeps[0].time if view.sweeps else None,
        restarts=max(len(view.sweeps) - 1, 0),
        last_record=_last_time(view),
        commands=_commands(paths),
        controls=tuple(controls.sentences(paths)),
        ensembles=ensembles,
    )


def _progress(view: LedgerView) -> RunProgress:
    states = [view.cells.get(key) for key in view.compared_keys]
    ended = sum(state is not None and state.status in ENDED for state in states)
    final = sum(state is not None and state.final for state in states)
    closed = view.ended is not None
    return RunProgress(
        cells=len(states),
        ended=ended,
        closed=closed,
        # between rounds a failed cell may be tried again, so failures count as over only once the driver has closed
        complete=bool(states) and (ended if closed else final) == len(states),
        earlier=sum(state.cell.cell_kind == "model" for state in view.cells.values()) - len(view.current),
    )


def _gate(found: dict[str, Any]) -> str:
    fix = found.get("fix", found.get("mend"))  # its name in older ledgers
    return f"{clean(found.get('gate'))}: {clean(found.get('message'))}. Fix: {clean(fix)}."


def _task(task: dict[str, Any]) -> str:
    """What is predicted, the horizon apart."""
    kind = clean(task.get("kind"))
    if not kind:
        return "not recorded"
    keys = ResolvedTask.model_validate(task).config.items()
    shown = [f"{name} {value}" for name, value in keys if name not in unread(kind)]
    aim = f" ({clean(', '.join(shown))})" if shown else ""
    return f"{kind}{aim}, context {clean(task.get('context'))} bars"


def _lineage(view: LedgerView) -> tuple[Lineage, ...]:
    """Distinct data sets of the current grid, in the grid's order."""
    entries = {entry.get("content_sha256"): entry for entry in (view.sweeps[-1].datasets if view.sweeps else ())}
    found: dict[str, tuple[dict[str, Any], dict[int | None, Any]]] = {}
    for state in view.current.values():
        data = state.cell.spec.get("data", {})
        horizon = state.cell.labels.get("horizon")
        sizes = tuple(state.cell.sizes.get(name) for name in ("n_train", "n_val", "n_test", "n_val_effective"))
        found.setdefault(repr(sorted(data.items())), (data, {}))[1].setdefault(horizon, sizes)
    return tuple(
        Lineage(
            content_sha256=clean(data.get("content_sha256")),
            bars=_bars(entries.get(data.get("content_sha256"), {})),
            sources=_sources(entries.get(data.get("content_sha256"), {})),
            unused=_unused(entries.get(data.get("content_sha256"), {})),
            assets=tuple(clean(asset) for asset in data.get("assets", ())),
            n_features=len(data.get("features", ())),
            tier=_tier(data.get("tier")),
            **{name: clean(data.get(name)) for name in ("timescale", "representation", "scaling")},
            splits=_splits(data.get("splits", {})),
            fraction=float(data.get("fraction", 1.0)),
            every=int(data.get("every", 1)),
            sizes=tuple(sizes.items()),
        )
        for data, sizes in found.values()
    )


def _tier(tier: Any) -> str:
    """``name (window 20)``; a tier of version 1 without keys of its own is a name already."""
    if not isinstance(tier, dict):
        return clean(tier)
    words = [f"version {tier.get('version')}"] * (tier.get("version") != 1)
    config = tier.get("config")
    words += [f"{key} {value}" for key, value in config.items()] if isinstance(config, dict) else []
    return clean(f"{tier.get('name')} ({', '.join(words)})")


def _bars(entry: dict[str, Any]) -> str:
    if not entry:
        return ""
    return f"{entry.get('rows', 0):,}, {clean(entry.get('first_date'))} to {clean(entry.get('last_date'))}"


def _sources(entry: dict[str, Any]) -> tuple[str, ...]:
    digests: dict[str, str] = entry.get("source_sha256", {})
    return tuple(f"{clean(source)} (sha256 {clean(digest)[:12]})" for source, digest in digests.items())


def _unused(entry: dict[str, Any]) -> tuple[str, ...]:
    known: dict[str, list[str]] = entry.get("unused_columns", {})
    further = further_words(entry.get("left_out", ()), entry.get("given", {}))
    unused = unused_words({source: tuple(names) for source, names in known.items()})
    return tuple(clean(words) for words in (*unused, *further))


def _splits(splits: dict[str, Any]) -> str:
    text = ", ".join(f"{name} {clean(splits.get(name))}" for name in ("train", "validation", "test"))
    text += f", embargo {clean(splits.get('embargo'))} bars"
    if selection := splits.get("selection"):
        text += f", the first {100 * selection:.3g} % of validation chooses epochs"
    folds = splits.get("folds", 1)
    return text if folds == 1 else f"{text}, fold {clean(splits.get('fold'))} of {clean(folds)} (counted from 0)"


def _counted(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(value or "not recorded" for value in values).most_common())


def _last_time(view: LedgerView) -> datetime | None:
    times = [record.time for record in (*view.sweeps, *view.ends, *view.events)]
    return max([*times, *(state.last_time for state in view.cells.values() if state.last_time)], default=None)


def _commands(paths: RunPaths) -> tuple[str, ...]:
    """Commands that repeat the run under another name, given from the folder that holds ``runs/``."""
    folder = f"runs/{clean(paths.root.resolve().name)}"
    sweep = shlex.quote(f"{folder}/{paths.sweep_yaml.name}")
    for plugin in sorted(paths.plugins.glob("*.py")):
        sweep += f" --plugin {shlex.quote(f'{folder}/{paths.plugins.name}/{clean(plugin.name)}')}"
    return (
        f"isotherm data prepare {sweep}",
        "isotherm data verify",
        f"isotherm plan {sweep}",
        f"isotherm sweep {sweep} --set name=repeated",
        f"isotherm report {shlex.quote(folder)}",
    )
