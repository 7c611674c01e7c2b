"""Numbers and sentences."""

from types import SimpleNamespace
from typing import Any

import pytest

from runner.report import wording
from runner.report.analysis.collect import collect
from runner.report.analysis.trials import Estimate
from runner.report.analysis.tuning import Tuning


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, wording.NONE),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (83, "1 min 23 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_durations_have_two_units(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (940, "940"),
        (9_980, "10k"),
        (49_213, "50k"),
        (52_300, "52k"),
        (999_600, "1m"),
        (1_047_000, "1.05m"),
        (2e9, "2b"),
    ],
)
def test_sizes_are_spelled_as_the_budgets_that_they_are_within_2_percent_of(n: float, text: str) -> None:
    assert wording.size(n) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, wording.NONE), (4819.3, "4,819"), (40.16, "40.2"), (0.01234, "0.0123")]
)
def test_rates_have_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert wording.rate(value) == text


def test_estimates_show_their_interval_where_it_is_known() -> None:
    full = Estimate(-0.0123, -0.0301, 0.0049)
    assert wording.estimate(full, 1, signed=True, scale=100) == "\N{MINUS SIGN}1.2 [\N{MINUS SIGN}3.0, +0.5]"
    assert wording.estimate(Estimate(0.54321), 4) == "0.5432"
    assert wording.estimate(Estimate(None, 0.1, 0.2), 4) == wording.NONE


def summary_of(run, cells) -> str:
    collected = collect(run(cells))
    return " ".join(wording.summary(collected.trials, collected.progress.cells))


def test_hyphens_before_numbers_become_minus_signs_and_names_stay() -> None:
    assert wording.true_minus("20k-h5 changes by -0.02 [-0.1, +0.03] since 2013-03-27") == (
        "20k-h5 changes by \N{MINUS SIGN}0.02 [\N{MINUS SIGN}0.1, +0.03] since 2013-03-27"
    )


def test_the_summary_counts_what_finished_and_what_has_skill(run) -> None:
    cells = [
        run.cell("50k", 1, 0, loss=0.50),
        run.cell("50k", 1, 1, loss=0.56),
        run.cell("1m", 1, 0, loss=0.62),
        run.cell("1m", 1, 1, fate="collapsed"),
        run.cell("2m", 1, 0, fate="diverged"),
    ]
    text = summary_of(run, cells)
    assert text.startswith("4 of 5 trials finished (1 diverged).")
    assert "1 trial above 0, 2 trials around 0" in text
    assert "1 trial below 0; 1 of the finished trials collapsed." in text


def test_sizes_are_counted_within_comparable_trials(run) -> None:
    """Two models of slightly different sizes are not four sizes of one model."""
    cells = [*run.grid(["50k", "1m"]), *run.grid(["51k", "1.1m"], model="mlp")]
    assert "2 distinct sizes" in wording.sizes_note(collect(run(cells)).trials)


def test_an_empty_run_says_so() -> None:
    assert wording.summary((), 0) == ()


@pytest.mark.parametrize(
    ("directions", "tuning", "text"),
    [
        ([], {}, ""),
        (["falls"], {}, "Loss with size: falls. Form: power law."),
        (["falls", "falls"], {}, "Loss with size: falls in both series. Form: power law in both series."),
        (["falls"], {"untuned": "one learning rate"}, "Loss with size: falls (untuned). Form: power law."),
        (
            ["falls", "flat"],
            {"untuned": "one", "recipe": ("a rate moves 50k more",)},
            "Loss with size: falls in 1 of 2, flat in 1 of 2 (untuned; recipe, not size). "
            "Form: power law in both series.",
        ),
    ],
)
def test_the_answer_in_one_line_has_what_speaks_against_it(
    directions: list[str], tuning: dict[str, Any], text: str
) -> None:
    verdicts: Any = [SimpleNamespace(direction=direction, form="form power law") for direction in directions]
    assert wording.answer(verdicts, Tuning(**tuning)) == text
