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
    gap = model[0] - baseline[0]
    judged = (
        f"no size beats the baseline '{baseline[1]}'"
        if gap >= 0
        else f"the best size beats the baseline '{baseline[1]}'"
    )
    return (
        f"{where[:1].upper()}{where[1:]}: {judged}: mean validation loss {number(model[0], 4)} at {model[1]}, "
        f"{number(baseline[0], 4)} for the baseline ({number(gap, 4, signed=True)} nats)."
    )
