"""The report's content in words and cells, the same for every format it is written in."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from runner.report import isoflop_table, tuning_table
from runner.report.analysis import folds
from runner.report.analysis.against import comparison_sentences, differences_table
from runner.report.analysis.attempts import TRAINING
from runner.report.analysis.collect import Collected, Lineage
from runner.report.analysis.contrasts import Contrast
from runner.report.analysis.findings import TrialFinding
from runner.report.analysis.specs import Specs
from runner.report.analysis.trials import Estimate, Group, Trial
from runner.report.analysis.verdict import sentence
from runner.report.figures.drawing import Plot
from runner.report.figures.gantt import time_table
from runner.report.fits_table import fits_table
from runner.report.tables import Column, ReportTable
from runner.report.wording import (
    NONE,
    answer,
    count,
    duration,
    estimate,
    joined,
    moment,
    number,
    partial_notice,
    plural,
    rate,
    summary,
    true_minus,
)
from trainables.data.window_index import MAX_JUDGED

SAMPLED = ", evenly spread over more"  # windows that judge
OWN_RATE = "baseline rate of this split"
MAX_NAMED = 8  # trials named in one finding; the table of all trials has the rest
MAX_EVENTS = 50
MAX_LOGS = 20

HOW_TO_READ = (
    "Validation loss is the mean negative log-likelihood in nats, unweighted, whatever the training loss was. All "
    "numbers of a trial are of one epoch's weights: the last epoch's, or those that did best on a first part of "
    "validation, which then judges nothing. Trials of specification format 1 ('format = 1' below) chose their best "
    "epoch on the same validation data, and their validation losses are a little too good. The test split was touched "
    "once a trial, at the end, and chose nothing.",
    "The prior predicts the training split's base rates for every sample (of values, mean and variance). "
    "Skill is 1 \N{MINUS SIGN} validation loss / prior loss: 0 is no better than the prior. The loss at the baseline "
    "rate of this split (val_own_rate_loss) is that of a forecaster who knew the classes' shares in the validation "
    "split itself, which no forecaster does: the prior's loss above it is the period's, not the models'.",
    "Comparisons in words follow paired differences on the same windows, with blocks of dates and seeds resampled. "
    "Their 95 % intervals hold for all pairs of a comparison together, which allows for picking the best of several. "
    "One side beats the other only where the interval excludes 0 and no size has a single seed.",
    "Brackets and bars are 95 % intervals by a jackknife over 8 batches of consecutive dates. They "
    "cover the sampling of the validation period, not seeds, nor other market regimes. Where there is no skill at all, "
    "1 trial in 40 or more still has an interval above 0 by chance, and trials of one horizon tend to do so together.",
    "A verdict has two parts: does the loss fall with size, and by which form. Both are judged on validation "
    "loss and must hold on test loss, with and without collapsed trials; else neither is said. The interval of the "
    "change covers the sampling of the period (1,000 resamples of its blocks) and seeds, of which most sizes need 2 or "
    "more. Flat means that every size lies within 1 % of the prior's loss of every other. What remains without trials "
    "that are under-trained or over-fitted is reported and decides nothing. Fits minimise the sum of Huber terms "
    "(delta 1e-3) of log losses (Hoffmann et al. 2022, approach 3); their intervals are of 100 refits. Fewer than 5 "
    "sizes never make a power law. Compute is what torch counts for forward and backward pass, times the windows seen.",
    "With three classes or more the AUC is the mean over each class against the rest, and predictions hardly vary "
    "where the probability of no class does.",
    "Collapsed means that the predictions hardly vary, or that the interval of the skill lies wholly below 0.",
)
NO_FINDINGS = "None: no trial is missing, diverged, collapsed or was still improving at its end; no check warned."
NO_VERDICT = "No verdict yet: no trial has finished."
SHARED_SPECS = (
    "Shared by all trials with a model; a baseline shares what concerns data and task. What is a trial's own is "
    "below. Both together are the resolved specification, whose hash is the key, and the execution record."
)
NO_FIGURES = "None yet: no trial has a loss."
REPRODUCE = (
    "Give these commands in the folder that holds runs/, with the code version and the libraries named above. "
    "sweep.yaml is the file as it was given; values that came from the command line or the environment are in "
    "resolved.json. The last command rebuilds this report."
)


@dataclass(frozen=True)
class FindingText:
    """One kind of finding: heading, meaning, and one line for each reason."""

    heading: str
    meaning: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class LogText:
    """The last lines that a failed trial's worker logged."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A whole report. All text is plain: escaping belongs to the format."""

    title: str
    notice: str
    answer: str
    verdicts: tuple[str, ...]
    summary: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    data: ReportTable
    splits: ReportTable
    findings: tuple[FindingText, ...]
    no_findings: str
    logs: tuple[LogText, ...]
    figures: tuple[Plot, ...]
    no_figures: str
    how_to_read: tuple[str, ...]
    differences: ReportTable
    fits: ReportTable
    further: tuple[ReportTable, ...]
    time: ReportTable
    trials: ReportTable
    specs: Specs
    shared_specs: str
    events: ReportTable
    events_note: str
    reproduce: str
    commands: tuple[str, ...]


def make(
    collected: Collected,
    figures: tuple[Plot, ...],
    contrasts: tuple[Contrast, ...] = (),
    *,
    lost_temperatures: Sequence[str] = (),
    further: Sequence[ReportTable] = (),
) -> Page:
    """The report of a run with its finished figures and comparisons.

    Args:
        collected: what the run directory says.
        figures: finished.
        contrasts: comparisons of cells.
        lost_temperatures: names of files with temperatures that cannot be read.
        further: tables of sections of their own; one without rows is left out.
    """
    return Page(
        title=f"Isotherm report: {collected.run}",
        notice=partial_notice(collected.progress),
        answer=answer(collected.verdicts, collected.tuning) or (NO_VERDICT if collected.trials else ""),
        verdicts=_verdicts(collected),
        summary=(
            *map(true_minus, collected.controls),
            *summary(collected.trials, collected.progress.cells),
            *tuning_table.sentences(collected.tuning),
            *isoflop_table.sentences(collected.isoflop),
            *map(true_minus, comparison_sentences(contrasts)),
        ),
        facts=tuple(_facts(collected)),
        data=_data_table(collected.lineage),
        splits=_splits_table(collected.lineage),
        findings=(*_findings(collected), *_lost_findings(lost_temperatures)),
        no_findings=NO_FINDINGS,
        logs=tuple(_logs((*collected.trials, *collected.baselines))),
        figures=figures,
        no_figures=NO_FIGURES,
        how_to_read=HOW_TO_READ,
        differences=differences_table(contrasts),
        fits=fits_table(collected.fits),
        further=(
            *further,
            tuning_table.winners_table(collected.tuning),
            tuning_table.rules_table(collected.tuning),
            isoflop_table.table(collected.isoflop),
        ),
        time=time_table(collected.history),
        trials=_trial_table((*collected.trials, *collected.ensembles, *collected.baselines)),
        specs=collected.specs,
        shared_specs=SHARED_SPECS,
        events=_event_table(collected),
        events_note=_events_note(len(collected.events)),
        reproduce=REPRODUCE,
        commands=collected.commands,
    )


def _verdicts(collected: Collected) -> tuple[str, ...]:
    groups = tuple({trial.group for trial in collected.trials})
    over_folds = [one.text for one in folds.pooled(collected.verdicts, groups)]
    each = [sentence(one, groups) for one in collected.verdicts]
    return tuple(map(true_minus, [*over_folds, *each]))


def _facts(collected: Collected) -> Iterable[tuple[str, str]]:
    progress, trials = collected.progress, collected.trials
    yield "Run", collected.run
    yield "Grid", f"{plural(progress.cells, 'cell')}, {progress.ended} ended"
    if collected.tasks:
        yield "Task", "; ".join(collected.tasks)
    groups = {trial.group for trial in trials}
    for name, what in (("model", "Model"), ("tier", "Feature tier"), ("timescale", "Timescale")):
        if values := sorted({getattr(group, name) for group in groups} - {""}):
            yield what, joined(values)
    yield "First start", moment(collected.started)
    yield "Latest record", moment(collected.last_record)
    if collected.restarts:
        yield "Started again", plural(collected.restarts, "time")
    trained = sum(one.seconds[TRAINING] for one in collected.history.attempts if one.kind == "model")
    yield "Training time, all trials", duration(trained)
    if forecasts := [trial.forecast for trial in trials if trial.forecast is not None]:
        middle = number(statistics.median(forecasts), 2)
        yield "Predicted over actual step time", f"{middle} (median of {plural(len(forecasts), 'trial')})"
    if collected.code_versions:
        mixed = " \N{EM DASH} more than one: compare with care" if len(collected.code_versions) > 1 else ""
        yield "Code version", _counted(collected.code_versions) + mixed
    if collected.devices:
        yield "Device", _counted(collected.devices)
    if collected.versions:
        yield "Libraries", ", ".join(f"{name} {version}" for name, version in collected.versions)
    if progress.earlier:
        yield "Left out", f"{plural(progress.earlier, 'cell')} of an earlier grid of this run"


def _counted(values: Sequence[tuple[str, int]]) -> str:
    if len(values) == 1:
        return values[0][0]
    return ", ".join(f"{value} ({plural(n, 'trial')})" for value, n in values)


def _findings(collected: Collected) -> Iterable[FindingText]:
    for _, group in groupby(collected.findings, key=lambda finding: finding.kind):
        yield _finding(group)
    if collected.gates:
        heading = f"checks before the start: {plural(len(collected.gates), 'warning')}"
        yield FindingText(heading, "They did not stop the sweep, and limit what it can show.", collected.gates)


def _lost_findings(names: Sequence[str]) -> Iterable[FindingText]:
    if names:
        heading = "temperatures: some cannot be read"
        yield FindingText(heading, "Temperatures of earlier starts are not in this report.", (", ".join(names),))


def _finding(group: Iterable[TrialFinding]) -> FindingText:
    findings = list(group)
    total = sum(len(finding.trials) for finding in findings)
    return FindingText(
        heading=f"{findings[0].kind}: {plural(total, 'trial')}",
        meaning=findings[0].meaning,
        lines=tuple(_named(finding) for finding in findings),
    )


def _named(finding: TrialFinding) -> str:
    names = [f"{trial.name} ({trial.key})" for trial in finding.trials[:MAX_NAMED]]
    more = len(finding.trials) - len(names)
    text = ", ".join(names) + (f" and {more} more, see the table of all trials" if more else "")
    return f"{text}: {finding.reason}" if finding.reason else text


def _logs(trials: Iterable[Trial]) -> Iterable[LogText]:
    with_lines = [trial for trial in trials if trial.log]
    for trial in with_lines[:MAX_LOGS]:
        yield LogText(f"Last log lines of {trial.name} ({trial.key})", trial.log)


def _data_table(lineage: tuple[Lineage, ...]) -> ReportTable:
    columns = (
        Column("data set", "number"), Column("assets"), Column("sources"), Column("columns not used"),
        Column("bars"),
        Column("features", "number"), Column("tier"),
        Column("timescale"), Column("representation"), Column("scaling"), Column("training data used", "number"),
        Column("splits"), Column("content sha256", "code"),
    )  # fmt: skip
    rows = (
        (
            str(index), ", ".join(data.assets), ", ".join(data.sources) or "-",
            "; ".join(data.unused) or "-", data.bars or "-",
            str(data.n_features), data.tier, data.timescale, data.representation, data.scaling,
            f"{100 * data.fraction:.4g} %" + (f", every {data.every} bars" if data.every > 1 else ""),
            data.splits, data.content_sha256,
        )
        for index, data in enumerate(lineage, 1)
    )  # fmt: skip
    return ReportTable("Data", columns, tuple(rows))


def _splits_table(lineage: tuple[Lineage, ...]) -> ReportTable:
    names = ("data set", "horizon (bars)", "train", "validation", "test", "effective validation samples")
    rows = (
        (str(index), count(horizon), *(count(size) + (SAMPLED if size == MAX_JUDGED else "") for size in sizes))
        for index, data in enumerate(lineage, 1)
        for horizon, sizes in data.sizes
    )
    return ReportTable("Windows in each split", tuple(Column(name, "number") for name in names), tuple(rows))


def _trial_table(trials: tuple[Trial, ...]) -> ReportTable:
    groups = tuple({trial.group for trial in trials})
    varying = any(group.differing(groups) for group in groups)
    metrics = sorted({name for trial in trials for name, _ in trial.metrics}, key=lambda name: name.split("_", 1)[::-1])
    columns = (
        Column("trial"), Column("key", "key"), Column("budget", "number"), Column("parameters", "number"),
        *((Column("group"),) if varying else ()),
        Column("horizon (bars)", "number"), Column("seed", "number"), Column("status"),
        Column("judged epoch", "number"),
        Column("validation loss (nats) [95 %]", "number"), Column("prior loss (nats)", "number"),
        Column(f"loss at the {OWN_RATE} (nats)", "number"),
        Column("skill (%) [95 %]", "number"), Column("AUC [95 %]", "number"), Column("test loss (nats)", "number"),
        *(Column(f"{name} [95 %]", "number") for name in metrics),
        Column("marks"), Column("training time", "number"),
        Column("held or throttled", "number"), Column("samples/s", "number"), Column("peak memory (MiB)", "number"),
    )  # fmt: skip
    return ReportTable("All trials", columns, tuple(_trial_row(trial, groups, varying, metrics) for trial in trials))


def _trial_row(trial: Trial, groups: tuple[Group, ...], varying: bool, metrics: list[str]) -> tuple[str, ...]:
    judged = trial.status == "finished"
    return (
        trial.name,
        trial.key,
        trial.budget or NONE,
        count(trial.n_params),
        *((trial.group.differing(groups),) if varying else ()),
        count(trial.horizon),
        count(trial.seed),
        trial.status.replace("_", " "),
        f"{trial.judged_epoch} of {count(trial.epochs)}" if trial.judged_epoch else NONE,
        estimate(trial.val_loss, 4),
        number(trial.prior_loss, 4),
        number(trial.own_rate_loss, 4),
        estimate(trial.skill, 1, signed=True, scale=100.0),
        estimate(trial.auc, 3),
        number(trial.test_loss, 4),
        *(estimate(dict(trial.metrics).get(name, Estimate()), 3) for name in metrics),
        ", ".join(mark.name for mark in trial.marks) or (NONE if not judged else "none"),
        duration(trial.train_seconds),
        duration(_rested(trial)),
        rate(trial.samples_per_second),
        count(None if trial.peak_bytes is None else round(trial.peak_bytes / 2**20)),
    )


def _rested(trial: Trial) -> float | None:
    known = [seconds for seconds in (trial.held_seconds, trial.throttled_seconds) if seconds is not None]
    return sum(known) if known else None


def _events_note(n: int) -> str:
    if n > MAX_EVENTS:
        return f"The latest {MAX_EVENTS} of {n:,} events; the ledger has all."
    return "" if n else "None recorded."


def _event_table(collected: Collected) -> ReportTable:
    rows = ((moment(event.time), event.what, event.key, event.message) for event in collected.events[-MAX_EVENTS:])
    columns = (Column("time"), Column("event"), Column("key", "code"), Column("message"))
    return ReportTable("Events", columns, tuple(rows))
