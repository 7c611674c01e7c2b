"""Several runs side by side: verdicts, losses by size, paired differences, and what else differs between the runs.

Losses are in one table only where they answer one question (`runner.rundir.comparable`): the same data, splits and
task. Runs that were judged on anything else have tables of their own, and a note says so. Rows of one size that were
judged on different windows are kept apart.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from runner.report.analysis.across import RunDifference, run_differences
from runner.report.analysis.collect import Collected, collect
from runner.report.analysis.specs import flat
from runner.report.analysis.trials import Estimate, Group, Trial, clean
from runner.report.analysis.verdict import place, sentence
from runner.rundir import comparable
from runner.rundir.paths import RunPaths
from trainables.errors import ConfigError, Problem

NOT_COMPARABLE = (
    "These runs were not all judged on the same data, splits and tasks. Losses in different tables are not comparable: "
    "a lower loss in another table is no better model."
)
_MISSING = "-"


@dataclass(frozen=True)
class ComparedCell:
    """One size of one run: means over its finished seeds; the ends are means of the ends of the trials' intervals."""

    trials: int
    val_loss: Estimate
    test_loss: float | None
    skill: Estimate
    auc: Estimate


@dataclass(frozen=True)
class Row:
    """One size (or baseline) at one horizon; `cells` by run, without the runs that have none."""

    horizon: int | None
    group: str
    size: str
    cells: dict[str, ComparedCell]


@dataclass(frozen=True)
class ComparisonQuestion:
    """What makes losses comparable, the horizon apart, and the losses that answer it."""

    data_sha256: str
    splits: str
    task: str
    runs: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Side:
    """One run: how far it is, and what it says."""

    name: str
    folder: str
    cells: int
    ended: int
    complete: bool
    verdicts: tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Comparison:
    """All of it. `differences` are pairs of a dotted name and its value in each run, as text."""

    sides: tuple[Side, ...]
    questions: tuple[ComparisonQuestion, ...]
    paired: tuple[RunDifference, ...]
    differences: tuple[tuple[str, dict[str, str]], ...]

    @property
    def comparable(self) -> bool:
        """Whether each question is answered by all runs that have losses."""
        runs = {run for question in self.questions for run in question.runs}
        return all(set(question.runs) == runs for question in self.questions)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return {
            "comparable": self.comparable,
            "note": "" if self.comparable else NOT_COMPARABLE,
            "runs": [asdict(one) for one in self.sides],
            "questions": [asdict(one) for one in self.questions],
            "paired": [one.as_dict() for one in self.paired],
            "differences": [{"what": what, "values": values} for what, values in self.differences],
        }


def compare(runs: Sequence[RunPaths]) -> Comparison:
    """Compare two or more runs, from their directories alone.

    Raises:
        ConfigError: fewer than two different runs.
        LedgerError: a damaged record or another schema version.
    """
    folders = list(dict.fromkeys(paths.root.resolve() for paths in runs))
    if len(folders) < 2:
        raise ConfigError(
            Problem(
                place="compare",
                message=f"{len(folders)} different run{'' if len(folders) == 1 else 's'}",
                fix="name two or more runs",
            )
        )
    names = [clean(folder.name) for folder in folders]
    if len(set(names)) < len(names):
        names = [clean(folder) for folder in folders]
    found = {name: collect(RunPaths(folder)) for name, folder in zip(names, folders, strict=True)}
    sides = tuple(_side(name, str(folder), found[name]) for name, folder in zip(names, folders, strict=True))
    placed = {name: (RunPaths(folder), found[name]) for name, folder in zip(names, folders, strict=True)}
    return Comparison(sides, tuple(_questions(found)), tuple(run_differences(placed)), tuple(_differences(found)))


def _side(name: str, folder: str, one: Collected) -> Side:
    groups = tuple({trial.group for trial in one.trials})
    verdicts = tuple(
        {
            "place": place(v, groups),
            "verdict": v.verdict,
            "direction": v.direction,
            "form": v.form,
            "sentence": sentence(v, groups),
        }
        for v in one.verdicts
    )
    return Side(name, clean(folder), one.progress.cells, one.progress.ended, one.progress.complete, verdicts)


# ---- losses ------------------------------------------------------------------------------------------------------

# What one comparison of runs may vary: the horizon and the data fraction are columns, how bars are presented
# to the model in what differs.
_VARIED = (comparable.HORIZON, comparable.FRACTION, "data.representation", "data.scaling")


def _questions(found: dict[str, Collected]) -> Iterator[ComparisonQuestion]:
    groups = tuple({trial.group for one in found.values() for trial in one.trials})
    judged = [
        (name, trial, comparable.identity(one.view.cells[trial.key].cell.spec, _VARIED))
        for name, one in found.items()
        for trial in (*one.trials, *one.baselines)
        if trial.status == "finished" and trial.val_loss.value is not None
    ]
    windows: dict[tuple[str, int | None], set[int | None]] = {}
    for _, trial, asked in judged:
        windows.setdefault((asked, trial.horizon), set()).add(trial.n_val)
    by_question: dict[str, dict[tuple[int | None, str, float, str], dict[str, list[Trial]]]] = {}
    for name, trial, asked in judged:
        row = _row(trial, groups, windows[asked, trial.horizon])
        by_question.setdefault(asked, {}).setdefault(row, {}).setdefault(name, []).append(trial)
    for asked, rows in by_question.items():
        data, splits, task = _described(asked)
        yield ComparisonQuestion(
            data_sha256=data,
            splits=splits,
            task=task,
            runs=tuple(name for name in found if any(name in cells for cells in rows.values())),
            rows=tuple(
                Row(
                    horizon,
                    group,
                    size,
                    {name: _cell(trials) for name, trials in rows[horizon, group, order, size].items()},
                )
                for horizon, group, order, size in sorted(rows, key=lambda row: (row[0] or 0, *row[1:]))
            ),
        )


def _described(asked: str) -> tuple[str, str, str]:
    """Hash of the data, splits and task of a question, as text."""
    spec = json.loads(asked)
    data = spec["data"] or {}
    splits, task = (json.dumps(part, sort_keys=True) for part in (data.get("splits", {}), spec["task"] or {}))
    return clean(data.get("content_sha256")), clean(splits), clean(task)


def _row(trial: Trial, groups: tuple[Group, ...], windows: set[int | None]) -> tuple[int | None, str, float, str]:
    """Horizon, group (with its windows where these differ), order of sizes, and size; baselines come first."""
    if trial.kind == "baseline":
        shared = tuple(replace(group, model="") for group in groups)
        words = _with_windows(replace(trial.group, model="").differing(shared), trial, windows)
        return trial.horizon, words, 0.0, f"baseline {trial.group.model}"
    words = _with_windows(trial.group.differing(groups), trial, windows)
    return trial.horizon, words, float(trial.n_params or 0), trial.budget


def _with_windows(words: str, trial: Trial, windows: set[int | None]) -> str:
    if len(windows) < 2 or trial.n_val is None:
        return words
    return ", ".join(filter(None, (words, f"{trial.n_val:,} windows")))


def _cell(trials: Sequence[Trial]) -> ComparedCell:
    tests = [trial.test_loss for trial in trials if trial.test_loss is not None]
    return ComparedCell(
        trials=len(trials),
        val_loss=_mean([trial.val_loss for trial in trials]),
        test_loss=fmean(tests) if tests else None,
        skill=_mean([trial.skill for trial in trials]),
        auc=_mean([trial.auc for trial in trials]),
    )


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    return Estimate(*(_known_mean([getattr(one, end) for one in estimates]) for end in ("value", "low", "high")))


def _known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) and known else None


# ---- differences -------------------------------------------------------------------------------------------------


def _differences(found: dict[str, Collected]) -> Iterator[tuple[str, dict[str, str]]]:
    facts = {name: dict(_facts(one)) for name, one in found.items()}
    for what in dict.fromkeys(what for known in facts.values() for what in known):
        values = {name: known.get(what, _MISSING) for name, known in facts.items()}
        if len(set(values.values())) > 1:
            yield what, values


def _facts(one: Collected) -> Iterator[tuple[str, str]]:
    """Data, code, libraries, devices and the whole configuration but its name."""
    yield "data", ", ".join(dict.fromkeys(data.content_sha256 for data in one.lineage)) or _MISSING
    yield "code version", ", ".join(version for version, _ in one.code_versions) or _MISSING
    yield "device", ", ".join(device for device, _ in one.devices) or _MISSING
    yield from ((f"library {name}", version) for name, version in one.versions)
    config = one.view.sweeps[-1].config if one.view.sweeps else {}
    yield from ((clean(name), clean(value)) for name, value in flat(config) if name != "name")
