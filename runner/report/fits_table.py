"""The table of all fits of a report: what was fitted to what, and how well it predicts the largest size."""

from collections.abc import Sequence

from runner.report.analysis.fits import COMPUTE, NamedFit
from runner.report.analysis.trials import Estimate
from runner.report.tables import Column, ReportTable
from runner.report.wording import NONE, estimate, number
from runner.scaling import Fit


def fits_table(fits: Sequence[NamedFit]) -> ReportTable:
    """One row a fit."""
    columns = (
        Column("fitted to"), Column("by"), Column("form", "code"), Column("points", "number"),
        Column("sizes", "number"), Column("E (nats) [95 %]", "number"), Column("alpha [95 %]", "number"),
        Column("beta [95 %]", "number"), Column("largest size left out: predicted", "number"),
        Column("observed", "number"), Column("error (%)", "number"),
        Column("largest compute left out: error (%)", "number"), Column("this fit says"),
    )  # fmt: skip
    return ReportTable("Fits", columns, tuple(_row(one) for one in fits))


def _row(one: NamedFit) -> tuple[str, ...]:
    fit = one.fit
    left_out, by_compute = fit.extrapolation, fit.compute_extrapolation
    return (
        one.place,
        one.variable,
        fit.form.replace("/N^", "/C^") if one.variable == COMPUTE else fit.form,
        str(fit.n_points),
        str(fit.n_sizes),
        _irreducible(fit),
        _parameter(fit, "alpha", 3),
        _parameter(fit, "beta", 3),
        number(left_out.predicted, 4) if left_out else NONE,
        number(left_out.observed, 4) if left_out else NONE,
        number(100 * left_out.relative_error, 2, signed=True) if left_out else NONE,
        number(100 * by_compute.relative_error, 2, signed=True) if by_compute else NONE,
        f"{fit.direction.words}; {fit.judged.form}: {fit.judged.reason}",
    )


def _irreducible(fit: Fit) -> str:
    if len(fit.irreducible) == 1:
        return _parameter(fit, "E", 4)
    return ", ".join(f"{group} {number(value, 4)}" for group, value in fit.irreducible.items())


def _parameter(fit: Fit, name: str, decimals: int) -> str:
    """A parameter with its interval. Where the data do not settle one, the best guess says nothing and is left out."""
    if name not in fit.intervals:
        return NONE
    return estimate(Estimate(fit.parameters.get(name), *fit.intervals[name]), decimals)
