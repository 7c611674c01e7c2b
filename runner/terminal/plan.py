"""A plan for people: its table, its studies, what it takes, and its findings."""

import math
from collections.abc import Sequence

from rich.filesize import decimal
from rich.text import Text

from runner.planning import branches, checks, data_size
from runner.planning.plan import Plan
from runner.planning.power import SeriesPower
from runner.planning.shutdown import ShutdownEstimate
from runner.planning.studies import Study, ladder_hours
from runner.rundir.ledger import FINAL
from runner.rundir.studies import StudyState
from runner.search.transfer import narrowed
from runner.terminal.console import Console, visible
from runner.terminal.plan_table import axes_line, duration, plan_table
from trainables.data.dataset import further_words, unused_words


def show(plan: Plan, console: Console, *, power: Sequence[SeriesPower] = (), cells: bool = False) -> None:
    """Print a plan and what it can detect: a row for each budget, or for each cell."""
    console.print(plan_table(plan, console.width, cells=cells))
    counts = {state: list(plan.states.values()).count(state) for state in ("new", "resumable", "done", "infeasible")}
    console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count), highlight=False)
    if not cells and (axes := axes_line(plan.grid.cells)):
        console.print(f"{axes}; --cells shows every cell", highlight=False)
    _show_studies(plan, console)
    _show_branches(plan, console)
    if plan.orphaned:
        console.print(
            f"{len(plan.orphaned)} cells of the ledger are no longer in the grid (orphaned; they stay in the ledger): "
            f"{', '.join(plan.orphaned[:8])}{' ...' if len(plan.orphaned) > 8 else ''}",
            highlight=False,
        )
    _show_periods(plan, console)
    show_unused(plan, console)
    for line in data_size.lines(plan.grid.cells, plan.grid.device):
        console.print(line, markup=False, highlight=False)
    if plan.to_run or plan.studies:
        _show_needs(plan, console)
    show_findings(plan, console)
    for one in power:
        console.print(f"power, {one.words()}", markup=False, highlight=False)
        console.print(f"  noise by {one.basis}", markup=False, highlight=False)


def _show_needs(plan: Plan, console: Console) -> None:
    if plan.seconds is not None:
        console.print(f"time for {_time(plan, plan.seconds)}{_disturbed(plan)}", highlight=False)
    console.print(f"disk for checkpoints and best weights: about {decimal(plan.disk_bytes)}", highlight=False)
    console.print(_ending(plan.ending), highlight=False)


def _show_branches(plan: Plan, console: Console) -> None:
    """Trials that begin with the state of a longer one, and what that saves."""
    if stable := plan.stable:
        members = [cell for cell in plan.to_run if cell.key in stable]
        shared = sum(branches.total_steps(cell) * (1 - branches.share_trained(cell)) for cell in members)
        share = shared / sum(map(branches.total_steps, plan.to_run))
        words = f"{checks.plural(len(members), 'trial')} of schedule wsd begin with the state of a longer one"
        console.print(f"{words}, which saves {share:.0%} of all steps", highlight=False)


def _show_studies(plan: Plan, console: Console) -> None:
    """Studies of a search, and what they will take with and without pruning."""
    for study in plan.studies:
        done = sum(trial.status in FINAL for trial in plan.progress[study.identity].trials)
        ranges = ", ".join(f"{dotted} {axis.words()}" for dotted, axis in study.space.items())
        seeds = ", ".join(str(variant.training.seed) for variant in study.variants)
        if study.search.ladder:
            ranges = f"{', '.join(study.search.ladder)} in steps of 3"
        words = (
            f"{done} of {'about ' if study.search.ladder else ''}{checks.plural(study.trials, 'trial')} "
            f"by {study.asked['sampler']}, {ranges}; {_transferred(study, plan.progress[study.identity])}"
            if study.trials
            else "follows the rule of the ladder; "
        )
        console.print(
            f"study {study.name}: {words}its values are confirmed with seed {seeds}",
            markup=False,
            highlight=False,
        )
    if any(study.climbs for study in plan.studies) and (hours := ladder_hours(plan.studies)) is not None:
        largest = max(study.size for study in plan.studies if study.climbs)
        limit = plan.studies[0].search.max_hours
        words = f"up to {largest:,} parameters, {duration(3600 * hours)} of training"
        console.print(f"ladder: {words}" + (f", of {limit:g} h (search.max_hours)" if limit else ""), highlight=False)


def _transferred(study: Study, state: StudyState) -> str:
    if not study.transfers:
        return ""
    if state.predicted is None:
        return "starts when smaller sizes are done, where they predict, and searches less than these ranges; "
    ranges = ", ".join(f"{dotted} {axis.words()}" for dotted, axis in narrowed(study.space, state).items())
    return f"by {state.predicted.source} it searches {ranges}; "


def _time(plan: Plan, seconds: float) -> str:
    if not plan.studies:
        return f"the cells to run: about {duration(seconds)}"
    text = f"the search and the cells to run: about {duration(seconds)}"
    prunes = plan.studies[0].search.pruner != "none" and plan.pruned_seconds is not None
    return f"{text}, {duration(plan.pruned_seconds or 0.0)} with pruning" if prunes else text


def _disturbed(plan: Plan) -> str:
    count = sum(1 for cell in plan.grid.cells if cell.decision and cell.decision.disturbed)
    why = f"other programs kept the processors busy while the probe measured {checks.plural(count, 'cell')}"
    return f", perhaps less: {why}" if count else ""


def _show_periods(plan: Plan, console: Console) -> None:
    """From when to when the windows of each split end, once a data set: horizons move that by days."""
    shown: set[str] = set()
    for cell in plan.grid.cells:
        identity = cell.spec.data.model_dump_json()
        if identity not in shown:
            shown.add(identity)
            periods = [f"{name} {part.first} to {part.last}" for name, part in cell.facts.splits.items() if part.first]
            place = f"windows of {cell.entry.name}, horizon {cell.labels['horizon']}"
            console.print(f"{place}: {', '.join(periods)}", highlight=False)


def show_unused(plan: Plan, console: Console) -> None:
    """Name the columns of the sources that nothing is read from: features of one's own, or a label, are such."""
    for entry in {cell.entry.name: cell.entry for cell in plan.grid.cells}.values():
        for words in unused_words(entry.unused_columns):
            console.print(f"not used: {words}", markup=False, highlight=False)
        for words in further_words(entry.left_out, entry.given):
            console.print(words, markup=False, highlight=False)


def _ending(ending: ShutdownEstimate) -> str:
    state, speed = decimal(ending.state_bytes), ""
    if ending.write_s is None:
        speed = ", and the run's folder cannot be written to measure how long that takes"
    elif ending.write_s:
        speed = f", {ending.write_s:.0f} s to write here"
    grace = f"give a container {math.ceil(ending.grace_s)} s between SIGTERM and SIGKILL (stop_grace_period)"
    return f"state to save at an early end: about {state}{speed}; {grace}"


def show_findings(plan: Plan, console: Console) -> None:
    """Print the findings of the checks."""
    for finding in plan.findings:
        style = "red" if finding.level == "error" else "yellow"
        words = f" {finding.gate}: {finding.message}\n      fix: {finding.fix}"
        console.print(Text.assemble((finding.level, style), visible(words)))
