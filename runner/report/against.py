"""Models against baselines, in one sentence a horizon and group: what a reader should know before any curve."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from runner.report.trials import Group, Trial
from runner.report.verdict import beside
from runner.report.wording import number


def baseline_sentences(trials: Sequence[Trial], baselines: Sequence[Trial]) -> Iterator[str]:
    """The best size's mean validation loss beside the best baseline's."""
    groups = tuple(dict.fromkeys(trial.group for trial in trials))
    series: dict[tuple[int | None, Group], list[Trial]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.val_loss.value is not None:
            series.setdefault((trial.horizon, trial.group), []).append(trial)
    for (horizon, group), members in sorted(series.items(), key=lambda item: item[0][0] or 0):
        known = [(other.val_loss.value, other) for other in beside(members[0], baselines)]
        losses = [(loss, other.group.model.replace("_", " ")) for loss, other in known if loss is not None]
        if losses:
            different = group.differing(groups)
            where = f"horizon {horizon}" + (f", {different}" if different else "")
            yield _sentence(where, _best(members), min(losses))


def _best(members: Sequence[Trial]) -> tuple[float, str]:
    by_budget: dict[str, list[float]] = {}
    for trial in members:
        by_budget.setdefault(trial.budget, []).append(trial.val_loss.value or 0.0)
    return min((fmean(losses), budget) for budget, losses in by_budget.items())


def _sentence(where: str, model: tuple[float, str], baseline: tuple[float, str]) -> str:
    losses = [number(loss, 4) for loss, _ in (baseline, model)]
    start = where[:1].upper() + where[1:]
    if baseline[0] <= model[0]:
        text = f"the baseline '{baseline[1]}' is not beaten by any size: {losses[0]} against {losses[1]} nats"
    else:
        text = (
            f"the best size beats every baseline, the best of which is '{baseline[1]}': {losses[1]} against {losses[0]}"
        )
        text += " nats"
    return f"{start}: {text} on validation (mean over seeds at {model[1]}, the best size)."
