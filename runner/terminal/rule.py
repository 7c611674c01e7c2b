"""Rules of the size as YAML that a sweep file takes."""

from collections.abc import Iterable, Iterator
from typing import Any

from runner.report.analysis.tuning import KeyRule


def as_dict(found: KeyRule, run: str) -> dict[str, Any]:
    """The rule as a sweep file takes it, with its intervals and the optimum of each size."""
    rule = found.rule
    return {
        "key": found.key,
        "series": found.series,
        "rule": {
            "base": float(f"{rule.base:.4g}"),
            "at": str(round(rule.at)),
            "exponent": round(rule.exponent, 4),
            "source": source(found, run),
        },
        "base_interval": [rule.base_low, rule.base_high],
        "exponent_interval": [rule.exponent_low, rule.exponent_high],
        "optima": [
            {"n_params": best.size, "value": best.value, "interval": [best.low, best.high]} for best in rule.optima
        ],
    }


def source(found: KeyRule, run: str) -> str:
    """Where the rule is from, in words."""
    rule, series = found.rule, f" at {found.series}" if found.series else ""
    interval = f"[{rule.exponent_low:.2f}, {rule.exponent_high:.2f}]"
    return f"search of run {run}{series}; {len(rule.optima)} sizes, exponent in {interval} (95 %)"


def lines(found: Iterable[KeyRule], run: str) -> Iterator[str]:
    """One line of YAML for each series."""
    for one in found:
        values = as_dict(one, run)["rule"]
        name = one.key.rpartition(".")[2]
        yield (
            f"{name}: {{base: {values['base']}, at: {values['at']}, exponent: {values['exponent']}, "
            f"source: '{values['source']}'}}"
        )
