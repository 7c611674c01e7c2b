"""One table in, a fit with intervals, comparison, extrapolation check and verdict out.

Array names: N points, R resamples.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runner.scaling import intervals, model_comparison, verdict
from runner.scaling.direction import Direction, assess
from runner.scaling.extrapolation import Extrapolation, extrapolations
from runner.scaling.law import DELTA, Design, FitProblem, Floats, Law
from runner.scaling.noise import noise_of
from runner.scaling.table import FitTable
from runner.scaling.verdict import Evidence, Verdict
from trainables.errors import ConfigError, DataError, Problem

BOOTSTRAPS = 200
_FEWEST = 20  # fewer resamples end within the 95 % interval that they are to bound; the command has the same limits
_NARROWEST = 1e-9
_OUTLIER = 4.0  # robust standard deviations: 6 in 100,000 of Gaussian points
_MAX_EXCLUDED = 0.1  # share of the points
_ROUNDS = 10
ILL_CONDITIONED = 300.0  # E, A and alpha of 5 sizes over a factor of 400 with alpha 0.3 have about 60
_SYMBOLS = {"n_params": ("A", "alpha", "N"), "n_samples": ("B", "beta", "D")}


@dataclass(frozen=True)
class FitOptions:
    """How to fit. `reference_loss`: what 1 % is taken of for 'flat'; None takes the loss at the smallest size.

    With `sparing` nothing is refitted where the verdict needs no intervals, and there are none then. With
    `replicates` a direction needs 2 points or more (seeds) of most sizes; without, a table of single rows is judged by
    the scatter about a smooth curve. `tied` gives both terms one exponent (alpha = beta).

    Raises:
        ConfigError: `delta` or `bootstraps` is too small to judge by.
    """

    delta: float = DELTA
    bootstraps: int = BOOTSTRAPS
    exclude_outliers: bool = False
    seed: int = 0
    reference_loss: float | None = None
    sparing: bool = False
    replicates: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        problems = []
        if not _NARROWEST <= self.delta < math.inf:
            message = f"the width of the Huber terms is {self.delta}, at least {_NARROWEST:g} is needed"
            problems.append(Problem(place="FitOptions.delta", message=message, fix=f"leave it at {DELTA:g}"))
        if self.bootstraps < _FEWEST:
            message = f"{self.bootstraps} resamples make no interval, at least {_FEWEST} are needed"
            problems.append(Problem(place="FitOptions.bootstraps", message=message, fix=f"leave it at {BOOTSTRAPS}"))
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class Projection:
    """The loss that a law predicts at a size and number of samples, with its 95 % interval.

    `beyond` is how many times the largest size, or number of samples, of the points is exceeded; below 1 inside.
    """

    n_params: float
    n_samples: float | None
    loss: float
    low: float
    high: float
    beyond: float


@dataclass(frozen=True)
class Excluded:
    """A point left out as an outlier; `residual` of the log loss, from the fit without it."""

    row: int
    n_params: float
    n_samples: float | None
    loss: float
    residual: float


@dataclass(frozen=True, eq=False)
class Fit:
    """The result. `parameters` and `intervals` have the keys E, A, alpha and, where samples vary, B and beta.

    `form` is the formula that was fitted; the form that the points settle is in `judged`. `condition` is
    `FitProblem.condition`, `ranges` the largest value of each variable. `n_distinct` counts distinct sizes, distinct
    samples, and distinct pairs of both.
    """

    form: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    irreducible: dict[str, float]
    n_points: int
    n_sizes: int
    n_distinct: dict[str, int]
    objective: float
    condition: float
    judged: Verdict
    direction: Direction
    comparison: model_comparison.Comparison
    extrapolation: Extrapolation | None
    compute_extrapolation: Extrapolation | None
    excluded: tuple[Excluded, ...]
    notes: tuple[str, ...]
    options: FitOptions
    law: Law
    resampled: tuple[Law, ...]
    ranges: dict[str, float]

    @property
    def verdict(self) -> str:
        """The design's word for it."""
        return self.judged.word

    @property
    def reason(self) -> str:
        """Why the verdict is this one: of the form, then of the direction."""
        return f"{self.judged.reason}; {self.direction.words}: {self.direction.reason}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; numbers that are not finite become None."""
        names = ("E", "A", "alpha", "B", "beta")
        compared, widest = self.comparison, self.direction.widest
        document = {
            "form": self.form,
            **{name: self.parameters.get(name) for name in names},
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "n_points": self.n_points,
            "n_sizes": self.n_sizes,
            "n_distinct": self.n_distinct,
            "objective": self.objective,
            "condition": self.condition,
            "verdict": self.verdict,
            "direction": self.direction.word,
            "direction_reason": self.direction.reason,
            "form_identified": self.judged.form,
            "reason": self.reason,
            "aicc": compared.scores if compared.method == "aicc" else None,
            "leave_one_size_out": compared.scores if compared.method != "aicc" else None,
            "excluded": [vars(one) for one in self.excluded],
            "n_excluded": len(self.excluded),
            "change": vars(self.direction.change),
            "widest_change": vars(widest) if widest else None,
            "turns_at": self.direction.turn.size if self.direction.turn else None,
            "noise": self.direction.noise,
            "extrapolation": _held_out(self.extrapolation),
            "extrapolation_by_compute": _held_out(self.compute_extrapolation),
            "irreducible": self.irreducible if len(self.irreducible) > 1 else None,
            "notes": list(self.notes),
            "delta": self.options.delta,
            "tied": self.options.tied,
            "bootstraps": self.options.bootstraps,
        }
        cleaned: dict[str, Any] = _finite(document)
        return cleaned

    def at(self, n_params: float, n_samples: float | None = None) -> Projection:
        """The loss predicted at a size, with the interval of the resamples; of the first group where there are several.

        The interval holds if the law does, also there.

        Raises:
            DataError: the law has a term in samples and none are given, or the reverse, or nothing was refitted.
        """
        asked = {"n_params": n_params, "n_samples": n_samples}
        known = {name: value for name, value in asked.items() if value is not None}
        if set(known) != set(self.ranges):
            message = f"the fitted law is {self.form}: it takes {' and '.join(self.ranges)}"
            fix = "give N or N,D as the law has them, such as 2e9 or 2e9,1e12"
            raise DataError(Problem(place="--at", message=message, fix=fix))
        logs = tuple(np.log([known[name]]) for name in self.ranges)
        group = np.zeros(1, dtype=np.int64)
        drawn = np.exp([law.log_losses(logs, group)[0] for law in self.resampled])
        low, high = intervals.interval(drawn) if len(drawn) else (math.nan, math.nan)
        beyond = max(known[name] / self.ranges[name] for name in self.ranges)
        return Projection(n_params, n_samples, float(np.exp(self.law.log_losses(logs, group)[0])), low, high, beyond)

    def band(self, log_size: Floats) -> tuple[Floats, Floats, Floats]:
        """Predicted loss of a one-variable, one-group fit at logs of the size, with the band of the resamples."""
        zeros = np.zeros(len(log_size), dtype=np.int64)
        drawn = np.exp([law.log_losses((log_size,), zeros) for law in self.resampled])
        low, high = np.percentile(drawn, intervals.PERCENT, axis=0)
        return np.exp(self.law.log_losses((log_size,), zeros)), low, high


def fit(table: FitTable, options: FitOptions | None = None, *, loss_resamples_RN: Floats | None = None) -> Fit:
    """Fit the law to a table.

    Args:
        table: the points.
        options: how.
        loss_resamples_RN: the points' losses under resamples of the validation blocks they share. Intervals then come
            from these and from the seeds within cells; else from a residual bootstrap. The direction takes all of them,
            the refits the first `Options.bootstraps`.
    """
    options = options or FitOptions()
    excluded: tuple[Excluded, ...] = ()
    if options.exclude_outliers:
        keep_N, excluded = _without_outliers(table, options)
        table = table.select(keep_N)
        loss_resamples_RN = None if loss_resamples_RN is None else loss_resamples_RN[:, keep_N]
    if loss_resamples_RN is None and table.cluster is not None and len(set(table.cluster)) == 1 < len(table):
        message = f"all {len(table)} points are of one cluster: what noise they have in common cannot be seen"
        fix = "give points of several clusters, or leave the column out: points then count as independent"
        raise DataError(Problem(place=f"--cluster: {table.cluster[0]!s}", message=message, fix=fix))
    design, variables, groups, notes = table.design()
    notes = (*table.notes, *notes)
    design = replace(design, tied=options.tied)
    y_N = np.log(table.loss)
    problem = FitProblem(design, y_N, options.delta)
    law = problem.fit()
    random = np.random.default_rng(options.seed)
    shared_RN = None if loss_resamples_RN is None else np.log(loss_resamples_RN)
    what = "blocks of the period"
    if shared_RN is None:
        drawn_RN = intervals.residual_resamples(design, y_N, law, options.bootstraps, random)
        if table.cluster is not None:
            cluster_N = np.unique(table.cluster, return_inverse=True)[1]
            effects_RN, share = intervals.cluster_effects(design, y_N, law, cluster_N, options.bootstraps, random)
            fitted_N = law.log_losses(design.logs, design.group_N)
            drawn_RN = fitted_N + (drawn_RN - fitted_N) * math.sqrt(1 - share) + effects_RN
            shared_RN, what = y_N + effects_RN, "what the points of a cluster share"
            clusters = len(np.unique(cluster_N))
            notes += (f"points of {clusters} clusters: {100 * share:.0f} % of the noise is common to those of one",)
    else:
        drawn_RN = intervals.seed_resamples(design, shared_RN[: options.bootstraps], random)
    comparison = model_comparison.compare(design, y_N, options.delta)
    moved = _direction(design, y_N, None if options.replicates else comparison, shared_RN, options, what)
    n_sizes = len(np.unique(table.n_params if variables[0] == "n_params" else design.logs[0]))
    evidence = Evidence(n_sizes, moved, comparison, float(table.loss.min()))
    judged = verdict.judge(evidence)
    resampled: list[Law] = []
    bounds: dict[str, tuple[float, float]] = {}
    if judged is None or not options.sparing:
        resampled = problem.refit(law, drawn_RN)
        drawn = [_named(one, variables) for one in resampled]
        bounds = {name: intervals.interval(np.array([one[name] for one in drawn])) for name in drawn[0]}
        exponent = bounds[_SYMBOLS[variables[0]][1]]
        judged = verdict.judge(replace(evidence, alpha=exponent, irreducible=bounds["E"]))
    assert judged is not None
    condition = problem.condition(law)
    by_size, by_compute = extrapolations(table, design, y_N, options.delta)
    return Fit(
        form="L = " + " + ".join(["E", *(f"{a}/{v}^{e}" for a, e, v in (_SYMBOLS[name] for name in variables))]),
        parameters=_named(law, variables),
        intervals=bounds,
        irreducible=dict(zip(groups, map(float, law.irreducible), strict=True)),
        n_points=len(table),
        n_sizes=n_sizes,
        n_distinct=_distinct(table),
        objective=law.objective,
        condition=condition,
        judged=judged,
        direction=moved,
        comparison=comparison,
        extrapolation=by_size,
        compute_extrapolation=by_compute,
        excluded=excluded,
        notes=(*notes, *_notes(design, comparison, groups, condition), f"intervals of the direction: {moved.noise}"),
        options=options,
        law=law,
        resampled=tuple(resampled),
        ranges={name: math.exp(float(log_N.max())) for name, log_N in zip(variables, design.logs, strict=True)},
    )


def _distinct(table: FitTable) -> dict[str, int]:
    """How many different sizes, samples and pairs of both the points have."""
    if table.n_samples is None:
        return {"n_params": len(np.unique(table.n_params))}
    pairs = np.unique(np.column_stack([table.n_params, table.n_samples]), axis=0)
    counts = {"n_params": len(np.unique(table.n_params)), "n_samples": len(np.unique(table.n_samples))}
    return {**counts, "pairs": len(pairs)}


def direction(
    table: FitTable, options: FitOptions | None = None, *, loss_resamples_RN: Floats | None = None
) -> Direction:
    """The direction alone, without fitting anything: of a table with replicates (`Options.replicates`)."""
    design, *_ = table.design()
    shared_RN = None if loss_resamples_RN is None else np.log(loss_resamples_RN)
    return _direction(design, np.log(table.loss), None, shared_RN, options or FitOptions())


def _direction(
    design: Design,
    y_N: Floats,
    comparison: model_comparison.Comparison | None,
    shared_RN: Floats | None,
    options: FitOptions,
    what: str = "blocks of the period",
) -> Direction:
    noise = noise_of(design, y_N, comparison, shared_RN, what)
    return assess(design, y_N, comparison, noise, options.reference_loss)


def _named(law: Law, variables: tuple[str, ...]) -> dict[str, float]:
    named = {"E": float(law.irreducible[0])}
    for term, variable in enumerate(variables):
        coefficient, exponent, _ = _SYMBOLS[variable]
        named[coefficient] = math.exp(min(law.log_coefficient(term), 700.0))
        named[exponent] = law.exponent(term)
    return named


def _notes(
    design: Design, comparison: model_comparison.Comparison, groups: tuple[str, ...], condition: float
) -> list[str]:
    notes = []
    if condition > ILL_CONDITIONED:
        notes.append(
            f"the parameters take each other's place: one combination is known {condition:.3g} times worse than another"
        )
    if (n := len(design.group_N)) < design.n_parameters:
        notes.append(f"{n} points cannot settle {design.n_parameters} parameters: these are one set of many")
    if comparison.set_aside:
        notes.append(
            f"{comparison.set_aside} of {comparison.n_means + comparison.set_aside} means lie far from every form and "
            "were set aside in comparing the forms; exclude_outliers leaves such points out of the fit, too"
        )
    if len(groups) > 1:
        notes.append(f"each group has its own E; E above is that of {groups[0]!r}")
    return notes


def _without_outliers(table: FitTable, options: FitOptions) -> tuple[Any, tuple[Excluded, ...]]:
    """Points to keep: within `_OUTLIER` robust deviations of the fit to the points kept, until nothing changes."""
    design, *_ = table.design()
    y_N = np.log(table.loss)
    keep_N = np.ones(len(table), dtype=bool)
    most = int(_MAX_EXCLUDED * len(table))
    residual_N = np.zeros(len(table))
    for _ in range(_ROUNDS):
        law = FitProblem(design.select(keep_N), y_N[keep_N], options.delta).fit()
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


def _held_out(one: Extrapolation | None) -> dict[str, Any] | None:
    return None if one is None else {**vars(one), "relative_error": one.relative_error}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
