"""One table in, a fit with intervals, comparison, extrapolation check and verdict out.

Array names: N points, R resamples.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from runner.scaling import intervals, rivals, verdict
from runner.scaling.law import DELTA, Design, Floats, Law, Problem
from runner.scaling.table import Table
from runner.scaling.verdict import Change, Evidence

BOOTSTRAPS = 200
_OUTLIER = 4.0  # robust standard deviations: 6 in 100,000 of Gaussian points
_MAX_EXCLUDED = 0.1  # share of the points
_ROUNDS = 10
_SYMBOLS = {"n_params": ("A", "alpha", "N"), "n_samples": ("B", "beta", "D")}


@dataclass(frozen=True)
class Options:
    """How to fit. `reference_loss`: what 1 % is taken of for 'flat'; None takes the loss at the smallest size.

    With `sparing` nothing is refitted where the verdict stands without intervals, and there are none then.
    """

    delta: float = DELTA
    bootstraps: int = BOOTSTRAPS
    exclude_outliers: bool = False
    seed: int = 0
    reference_loss: float | None = None
    sparing: bool = False


@dataclass(frozen=True)
class Excluded:
    """A point left out as an outlier; `residual` of the log loss, from the fit without it."""

    row: int
    n_params: float
    n_samples: float | None
    loss: float
    residual: float


@dataclass(frozen=True)
class Extrapolation:
    """The largest size predicted by a fit of all others."""

    n_params: float
    predicted: float
    observed: float

    @property
    def relative_error(self) -> float:
        """(predicted - observed) / observed."""
        return self.predicted / self.observed - 1


@dataclass(frozen=True, eq=False)
class Fit:
    """The result. `parameters` and `intervals` have the keys E, A, alpha and, where samples vary, B and beta."""

    form: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    irreducible: dict[str, float]
    n_points: int
    n_sizes: int
    objective: float
    verdict: str
    reason: str
    change: Change
    comparison: rivals.Comparison
    extrapolation: Extrapolation | None
    excluded: tuple[Excluded, ...]
    notes: tuple[str, ...]
    options: Options
    law: Law
    resampled: tuple[Law, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; numbers that are not finite become None."""
        names = ("E", "A", "alpha", "B", "beta")
        compared, change = self.comparison, self.change
        document = {
            "form": self.form,
            **{name: self.parameters.get(name) for name in names},
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "n_points": self.n_points,
            "n_sizes": self.n_sizes,
            "objective": self.objective,
            "verdict": self.verdict,
            "reason": self.reason,
            "aicc": compared.scores if compared.method == "aicc" else None,
            "leave_one_size_out": compared.scores if compared.method != "aicc" else None,
            "excluded": [vars(one) for one in self.excluded],
            "n_excluded": len(self.excluded),
            "change": {"value": change.value, "low": change.low, "high": change.high, "reference": change.reference},
            "extrapolation": {**vars(self.extrapolation), "relative_error": self.extrapolation.relative_error}
            if self.extrapolation
            else None,
            "irreducible": self.irreducible if len(self.irreducible) > 1 else None,
            "notes": list(self.notes),
            "delta": self.options.delta,
            "bootstraps": self.options.bootstraps,
        }
        cleaned: dict[str, Any] = _finite(document)
        return cleaned

    def band(self, log_size: Floats) -> tuple[Floats, Floats, Floats]:
        """Predicted loss of a one-variable, one-group fit at logs of the size, with the band of the resamples."""
        zeros = np.zeros(len(log_size), dtype=np.int64)
        drawn = np.exp([law.log_losses((log_size,), zeros) for law in self.resampled])
        low, high = np.percentile(drawn, intervals.PERCENT, axis=0)
        return np.exp(self.law.log_losses((log_size,), zeros)), low, high


def fit(table: Table, options: Options | None = None, *, loss_resamples_RN: Floats | None = None) -> Fit:
    """Fit the law to a table.

    Args:
        table: the points.
        options: how.
        loss_resamples_RN: the points' losses under resamples of the validation blocks they share. Intervals then come
            from these and from the seeds within cells; else from a residual bootstrap.
    """
    options = options or Options()
    excluded: tuple[Excluded, ...] = ()
    if options.exclude_outliers:
        keep_N, excluded = _without_outliers(table, options)
        table = table.select(keep_N)
        loss_resamples_RN = None if loss_resamples_RN is None else loss_resamples_RN[:, keep_N]
    design, variables, groups, notes = table.design()
    y_N = np.log(table.loss)
    law = Problem(design, y_N, options.delta).fit()
    random = np.random.default_rng(options.seed)
    if loss_resamples_RN is None:
        drawn_RN = intervals.residual_resamples(design, y_N, law, options.bootstraps, random)
    else:
        drawn_RN = intervals.seed_resamples(design, np.log(loss_resamples_RN), random)
    comparison = rivals.compare(design, y_N, options.delta)
    change = _change(design, y_N, comparison, None if loss_resamples_RN is None else drawn_RN, options.reference_loss)
    n_sizes = len(np.unique(table.n_params if variables[0] == "n_params" else design.logs[0]))
    evidence = Evidence(n_sizes, change, comparison, float(table.loss.min()))
    judged = verdict.judge(evidence)
    resampled: list[Law] = []
    bounds: dict[str, tuple[float, float]] = {}
    if judged is None or not options.sparing:
        resampled = intervals.refit(design, drawn_RN, law, options.delta)
        drawn = [_named(one, variables) for one in resampled]
        bounds = {name: intervals.interval(np.array([one[name] for one in drawn])) for name in drawn[0]}
        exponent = bounds[_SYMBOLS[variables[0]][1]]
        judged = verdict.judge(replace(evidence, alpha=exponent, irreducible=bounds["E"]))
    assert judged is not None
    word, reason = judged
    return Fit(
        form="L = " + " + ".join(["E", *(f"{a}/{v}^{e}" for a, e, v in (_SYMBOLS[name] for name in variables))]),
        parameters=_named(law, variables),
        intervals=bounds,
        irreducible=dict(zip(groups, map(float, law.irreducible), strict=True)),
        n_points=len(table),
        n_sizes=n_sizes,
        objective=law.objective,
        verdict=word,
        reason=reason,
        change=change,
        comparison=comparison,
        extrapolation=_extrapolation(design, y_N, options.delta),
        excluded=excluded,
        notes=(*notes, *_notes(comparison, groups)),
        options=options,
        law=law,
        resampled=tuple(resampled),
    )


def _named(law: Law, variables: tuple[str, ...]) -> dict[str, float]:
    named = {"E": float(law.irreducible[0])}
    for term, variable in enumerate(variables):
        coefficient, exponent, _ = _SYMBOLS[variable]
        named[coefficient] = math.exp(min(law.log_coefficient(term), 700.0))
        named[exponent] = law.exponent(term)
    return named


def _notes(comparison: rivals.Comparison, groups: tuple[str, ...]) -> list[str]:
    notes = []
    if comparison.set_aside:
        notes.append(
            f"{comparison.set_aside} of {comparison.n_means + comparison.set_aside} means lie far from every form and "
            "were set aside in comparing the forms; exclude_outliers leaves such points out of the fit, too"
        )
    if len(groups) > 1:
        notes.append(f"each group has its own E; E above is that of {groups[0]!r}")
    return notes


def _without_outliers(table: Table, options: Options) -> tuple[Any, tuple[Excluded, ...]]:
    """Points to keep: within `_OUTLIER` robust deviations of the fit to the points kept, until nothing changes."""
    design, *_ = table.design()
    y_N = np.log(table.loss)
    keep_N = np.ones(len(table), dtype=bool)
    most = int(_MAX_EXCLUDED * len(table))
    residual_N = np.zeros(len(table))
    for _ in range(_ROUNDS):
        law = Problem(design.select(keep_N), y_N[keep_N], options.delta).fit()
        residual_N = y_N - law.log_losses(design.logs, design.group_N)
        size_N = np.abs(residual_N * np.sqrt(design.weight_N))
        kept_N = np.sort(size_N[keep_N])[design.n_parameters :]  # so many points a nearly absolute fit goes through
        deviation = 1.4826 * float(np.median(kept_N)) if len(kept_N) else math.inf
        limit = max(_OUTLIER * deviation, options.delta)
        limit = max(limit, float(np.sort(size_N)[-most - 1]))
        again_N = size_N <= limit
        if (again_N == keep_N).all() or len(np.unique(design.group_N[again_N])) < design.n_groups:
            break
        keep_N = again_N
    samples = table.n_samples
    return keep_N, tuple(
        Excluded(
            row=table.row(int(i)),
            n_params=float(table.n_params[i]),
            n_samples=None if samples is None else float(samples[i]),
            loss=float(table.loss[i]),
            residual=float(residual_N[i]),
        )
        for i in np.flatnonzero(~keep_N)
    )


def _change(
    design: Design, y_N: Floats, comparison: rivals.Comparison, drawn_RN: Floats | None, reference: float | None
) -> Change:
    """Change of the loss from smallest to largest size, at equal group and samples."""
    contrast_N, start = _contrast(design, y_N)
    value = float(contrast_N @ y_N)
    if drawn_RN is not None:
        low, high = intervals.interval(drawn_RN @ contrast_N)
    else:
        variance, freedom = comparison.noise
        half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance * float(contrast_N**2 @ (1 / design.weight_N)))
        low, high = value - half, value + half
    value, low, high = (start * math.expm1(min(end, 50.0)) for end in (value, low, high))
    return Change(value, low, high, reference if reference is not None else start)


def _contrast(design: Design, y_N: Floats) -> tuple[Floats, float]:
    """Weights of the points whose sum with the log losses is the change, and the loss that it starts from.

    With one variable the mean at the largest size less that at the smallest, averaged over groups: no form is assumed.
    With two, the slope of a log-linear fit times the range of sizes.
    """
    x_N = design.logs[0]
    if len(design.logs) > 1:
        root_N = np.sqrt(design.weight_N)
        columns = np.column_stack([*design.logs, np.eye(design.n_groups)[design.group_N]]) * root_N[:, None]
        inverse = np.linalg.pinv(columns) * root_N
        contrast_N: Floats = inverse[0] * float(np.ptp(x_N))
        return contrast_N, float(np.exp(np.median(y_N)))
    contrast_N = np.zeros(len(y_N))
    starts = []
    for group in range(design.n_groups):
        mine = design.group_N == group
        largest, smallest = (mine & (x_N == end) for end in (x_N[mine].max(), x_N[mine].min()))
        starts.append(float(np.average(y_N[smallest], weights=design.weight_N[smallest])))
        for chosen, sign in ((largest, 1.0), (smallest, -1.0)):
            weight = design.weight_N[chosen]
            contrast_N[chosen] += sign * weight / weight.sum() / design.n_groups
    return contrast_N, math.exp(float(np.mean(starts)))


def _extrapolation(design: Design, y_N: Floats, delta: float) -> Extrapolation | None:
    x_N = design.logs[0]
    largest_N = x_N == x_N.max()
    rest = design.select(~largest_N)
    if len(np.unique(rest.logs[0])) < 4 or len(np.unique(rest.group_N)) < design.n_groups:
        return None
    law = Problem(rest, y_N[~largest_N], delta).fit()
    last = design.select(largest_N)
    predicted_N = law.log_losses(last.logs, last.group_N)
    return Extrapolation(
        n_params=math.exp(float(x_N.max())),
        predicted=math.exp(float(predicted_N.mean())),
        observed=math.exp(float(y_N[largest_N].mean())),
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
