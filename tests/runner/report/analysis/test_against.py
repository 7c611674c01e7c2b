"""Comparisons in words: what they say follows the paired interval."""

import numpy as np
import pytest

from runner.report.analysis.against import comparison_sentences, differences_table
from runner.report.analysis.contrasts import Contrast
from runner.report.analysis.paired import Difference, Family


def difference(first: str, second: str, value: float, half: float, seeds: bool = True) -> Difference:
    ends = (value - half, value + half)
    return Difference(first, second, value, ends, *ends, seeds)


def said(kind: str, losses: dict[str, float], pairs: list[Difference], sizes: tuple[str, ...] = ("50k", "1m")) -> str:
    family = Family(tuple(pairs), 600, (600,)) if pairs else Family(reason="predictions of 2 of 4 trials are missing")
    one = Contrast(kind, "horizon 5", losses, sizes, {"validation": family})  # type: ignore[arg-type]
    (sentence,) = comparison_sentences([one])
    return sentence


LOSSES = {"50k": 0.54, "1m": 0.53, "linear": 0.50, "boosted trees": 0.65}


def against(linear: float, half: float, seeds: bool = True) -> str:
    losses = {**LOSSES, "linear": linear}
    pairs = [
        difference(size, other, losses[size] - losses[other], half, seeds)
        for size in ("50k", "1m")
        for other in ("linear", "boosted trees")
    ]
    return said("baselines", losses, pairs)


@pytest.mark.parametrize(
    ("linear", "half", "words"),
    [
        (0.50, 0.01, "the baseline 'linear' beats every size, the best of which is 1m: 0.5300 against 0.5000 nats, a "
                     "difference of +0.0300 [+0.0200, +0.0400]."),
        (0.50, 0.05, "the best size, 1m, and the best baseline, 'linear', cannot be distinguished: 0.5300 against"),
        (0.60, 0.01, "the best size, 1m, beats every baseline, the best of which is 'linear': 0.5300 against 0.6000"),
        (0.60, 0.08, "the best size, 1m, and the best baseline, 'linear', cannot be distinguished: 0.5300 against"),
    ],
)  # fmt: skip
def test_models_and_baselines_are_told_apart_only_by_the_interval(linear: float, half: float, words: str) -> None:
    sentence = against(linear, half).replace("\N{MINUS SIGN}", "-")
    assert sentence.startswith(f"Horizon 5: {words}")


def test_a_single_seed_tells_nothing(run) -> None:
    sentence = against(0.60, 0.01, seeds=False)
    assert "cannot be distinguished" in sentence
    assert "a single seed" in sentence


def test_a_baseline_that_is_not_beaten_beyond_doubt_is_named() -> None:
    pairs = [difference("1m", "linear", -0.05, 0.01), difference("1m", "boosted trees", -0.06, 0.07)]
    sentence = said("baselines", {"1m": 0.5, "linear": 0.55, "boosted trees": 0.56}, pairs, ("1m",))
    assert "beats the best baseline, 'linear', and cannot be distinguished from 'boosted trees'" in sentence


def test_without_predictions_nothing_is_told_apart_and_the_reason_is_given() -> None:
    sentence = said("baselines", LOSSES, [])
    assert "which is better cannot be decided without a paired interval: predictions of 2 of 4 trials" in sentence


def test_sizes_are_told_apart_pair_by_pair() -> None:
    losses = {"50k": 0.54, "200k": 0.53, "1m": 0.5}
    pairs = [difference("1m", "50k", -0.04, 0.01), difference("200k", "50k", -0.01, 0.02)]
    text = said("sizes", losses, pairs)
    assert "of 2 pairs of sizes 1 can be distinguished: 1m less 50k is" in text
    assert "the other 1 pair cannot be distinguished" in text
    none = said("sizes", losses, pairs[1:])
    assert "no two of the 3 sizes can be distinguished: the largest difference, 200k less 50k, is" in none


def test_the_table_has_every_pair_on_both_splits() -> None:
    family = Family((difference("1m", "50k", -0.04, 0.01),), 605, (605, 695))
    splits = {"validation": family, "test": Family(reason="they share no window")}
    table = differences_table([Contrast("sizes", "horizon 1", {}, (), splits)])
    assert [row[1] for row in table.rows] == ["validation", "test"]
    assert table.rows[0][-2:] == ("605 (common)", "lower")
    assert table.rows[1][-1] == "they share no window"
    assert np.unique([len(row) for row in table.rows]) == [len(table.columns)]
