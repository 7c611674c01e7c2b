"""A fit for people."""

from collections.abc import Sequence

from runner.scaling.fit import Fit, Projection
from runner.terminal.console import Console


def show(fit: Fit, console: Console, projected: Sequence[Projection] = ()) -> None:
    """Print a fit: direction and form first, then the numbers that carry them, then what it predicts."""

    def line(name: str, text: str) -> None:
        console.print(f"{name:<14} {text}", markup=False, highlight=False)

    line("direction", fit.direction.words)
    line("  because", fit.direction.reason)
    line("form", fit.judged.form)
    line("  because", fit.judged.reason)
    line("verdict", fit.verdict)
    line("fitted", fit.form)
    for name, value in fit.parameters.items():
        low, high = fit.intervals[name]
        line(name, f"{value:.5g}  [{low:.5g}, {high:.5g}]")
    if len(fit.irreducible) > 1:
        line("E by group", ", ".join(f"{group} {value:.5g}" for group, value in fit.irreducible.items()))
    names = {"n_params": "sizes", "n_samples": "numbers of samples", "pairs": "pairs of both"}
    counts = ", ".join(f"{count} distinct {names[name]}" for name, count in fit.n_distinct.items())
    line("points", f"{fit.n_points}: {counts}; {len(fit.excluded)} excluded")
    for one in fit.excluded:
        samples = "" if one.n_samples is None else f", n_samples {one.n_samples:g}"
        where = f"row {one.row}: n_params {one.n_params:g}{samples}, loss {one.loss:g}"
        line("  excluded", f"{where}, log residual {one.residual:+.3g}")
    line("objective", f"{fit.objective:.6g} (Huber, delta {fit.options.delta:g})")
    method = "AICc" if fit.comparison.method == "aicc" else "error of sizes left out"
    scores = sorted(fit.comparison.scores.items(), key=lambda item: item[1])
    line(method, ", ".join(f"{name} {score:.4g}" for name, score in scores) or "too few sizes")
    for held in (fit.extrapolation, fit.compute_extrapolation):
        if held:
            name = "largest size" if held.compute is None else "most compute"
            of = f"n_params {held.n_params:g}" if held.compute is None else f"n_params x n_samples {held.compute:.3g}"
            text = f"{of}: predicted from the others {held.predicted:.5g}, observed {held.observed:.5g}"
            line(name, f"{text} ({100 * held.relative_error:+.2f} %)")
    line("condition", f"{fit.condition:.3g}")
    for point in projected:
        of = f"n_params {point.n_params:g}" + ("" if point.n_samples is None else f", n_samples {point.n_samples:g}")
        far = f"; {point.beyond:.3g} times beyond the points" if point.beyond > 1 else ""
        line("predicted", f"{of}: {point.loss:.5g} [{point.low:.5g}, {point.high:.5g}]{far}")
    for note in fit.notes:
        line("note", note)
