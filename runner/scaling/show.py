"""A fit for people."""

from runner.console import Console
from runner.scaling.fit import Fit


def show(fit: Fit, console: Console) -> None:
    """Print a fit: verdict first, then the numbers that carry it."""

    def line(name: str, text: str) -> None:
        console.print(f"{name:<14} {text}", markup=False, highlight=False)

    line("verdict", fit.verdict)
    line("because", fit.reason)
    line("form", fit.form)
    for name, value in fit.parameters.items():
        low, high = fit.intervals[name]
        line(name, f"{value:.5g}  [{low:.5g}, {high:.5g}]")
    if len(fit.irreducible) > 1:
        line("E by group", ", ".join(f"{group} {value:.5g}" for group, value in fit.irreducible.items()))
    line("points", f"{fit.n_points} of {fit.n_sizes} distinct sizes, {len(fit.excluded)} excluded")
    for one in fit.excluded:
        samples = "" if one.n_samples is None else f", n_samples {one.n_samples:g}"
        where = f"row {one.row}: n_params {one.n_params:g}{samples}, loss {one.loss:g}"
        line("  excluded", f"{where}, log residual {one.residual:+.3g}")
    line("objective", f"{fit.objective:.6g} (Huber, delta {fit.options.delta:g})")
    method = "AICc" if fit.comparison.method == "aicc" else "error of sizes left out"
    scores = sorted(fit.comparison.scores.items(), key=lambda item: item[1])
    line(method, ", ".join(f"{name} {score:.4g}" for name, score in scores) or "too few sizes")
    if fit.extrapolation:
        one_out = fit.extrapolation
        text = f"predicted from the others {one_out.predicted:.5g}, observed {one_out.observed:.5g}"
        line("largest size", f"{text} ({100 * one_out.relative_error:+.2f} %)")
    for note in fit.notes:
        line("note", note)
