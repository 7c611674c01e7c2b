"""Rules that end trials early."""

import math

import pytest

from runner.search import pruning


def test_rungs_are_powers_of_three_below_the_number_of_epochs() -> None:
    assert pruning.rungs(1) == []
    assert pruning.rungs(9) == [1, 3]
    assert pruning.rungs(10) == [1, 3, 9]


def test_halving_lets_the_best_third_of_a_rung_go_on() -> None:
    others = {number: {1: 1.0 + number} for number in range(5)}
    assert pruning.reason("asha", 5, {1: 0.5}, others, 9) == ""
    assert pruning.reason("asha", 5, {1: 1.5}, others, 9) == ""  # second of six
    assert "2 of 5 others were better, and 2 may go on" in pruning.reason("asha", 5, {1: 2.5}, others, 9)
    assert pruning.reason("asha", 5, {2: 9.0}, others, 9) == ""  # no rung
    assert pruning.reason("asha", 5, {1: math.nan}, others, 9)
    assert pruning.reason("none", 5, {1: 9.0}, others, 9) == ""


def test_the_first_at_a_rung_goes_on_and_the_last_epoch_is_none() -> None:
    assert pruning.reason("asha", 0, {1: 9.0}, {}, 9) == ""
    assert pruning.reason("asha", 1, {9: 9.0}, {0: {9: 1.0}}, 9) == ""


def test_a_bracket_of_hyperband_compares_within_itself_from_its_own_rung_on() -> None:
    others = {0: {1: 1.0, 3: 1.0}, 3: {1: 0.5, 3: 0.5}, 1: {1: 0.0, 3: 0.0}}
    assert pruning.reason("hyperband", 6, {1: 2.0}, others, 9)  # bracket 0, as 0 and 3
    assert pruning.reason("hyperband", 4, {1: 2.0}, others, 9) == ""  # bracket 1 begins after 3 epochs
    assert pruning.reason("hyperband", 4, {3: 2.0}, others, 9)
    assert pruning.reason("hyperband", 2, {3: 2.0}, others, 9) == ""  # the last bracket compares nothing


def test_the_median_needs_five_others() -> None:
    others = {number: {1: float(number)} for number in range(5)}
    assert "behind the median 2" in pruning.reason("median", 9, {1: 2.5}, others, 9)
    assert pruning.reason("median", 9, {1: 1.5}, others, 9) == ""
    assert pruning.reason("median", 9, {1: 9.0}, dict(list(others.items())[:4]), 9) == ""


def test_expected_shares() -> None:
    assert pruning.expected_share("none", 9) == 1
    assert pruning.expected_share("asha", 9) == pytest.approx((1 + 2 / 3 + 6 / 9) / 9)
    assert pruning.expected_share("asha", 9) < pruning.expected_share("hyperband", 9) < 1  # type: ignore[operator]
    assert pruning.expected_share("median", 9) is None


def test_halving_finds_what_the_full_search_finds_at_a_fraction_of_the_epochs() -> None:
    """On curves whose order is settled early: the best loss within 2 %, at under 40 % of the epochs."""
    epochs = 27
    finals = [1 + ((37 * number) % 40) / 40 for number in range(40)]
    full = [{epoch: final + 2 / epoch for epoch in range(1, epochs + 1)} for final in finals]
    seen: dict[int, dict[int, float]] = {}
    for number, curve in enumerate(full):
        for epoch in range(1, epochs + 1):
            seen.setdefault(number, {})[epoch] = curve[epoch]
            others = {other: known for other, known in seen.items() if other != number}
            if pruning.reason("asha", number, seen[number], others, epochs):
                break
    best = min(curve[epochs] for curve in seen.values() if epochs in curve)
    assert best <= 1.02 * min(curve[epochs] for curve in full)
    assert sum(map(len, seen.values())) < 0.4 * epochs * len(full)
