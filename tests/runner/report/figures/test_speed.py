"""Throughput and memory."""

import dataclasses

from runner.report.analysis.collect import collect
from runner.report.figures.speed import speed_figures


def test_rates_alone_and_rates_beside_memory(run) -> None:
    trials = collect(run(run.grid(["50k", "1m"], seeds=[0, 1]))).trials
    (plain,) = speed_figures(trials)
    assert not plain.wide
    assert "4 trials" in plain.alt
    known = [dataclasses.replace(trial, peak_bytes=3 * 2**30, predicted_peak_bytes=2 * 2**30) for trial in trials]
    (both,) = speed_figures(known)
    assert both.wide
    assert "at most 3,072 MiB" in both.alt


def test_a_prediction_that_was_exceeded_is_drawn_elsewhere_than_one_that_held(run) -> None:
    trials = collect(run(run.grid(["50k", "1m"]))).trials
    held, exceeded = (
        next(
            speed_figures(
                [dataclasses.replace(t, peak_bytes=2**30, predicted_peak_bytes=share * 2**28) for t in trials]
            )
        )
        for share in (4, 1)
    )
    assert held.png != exceeded.png


def test_a_run_without_rates_has_no_figure(run) -> None:
    assert list(speed_figures(collect(run([run.cell("50k", fate="running")])).trials)) == []
