"""Scaling laws of a data frame."""

from dataclasses import replace

import pandas as pd

from runner import scaling


def fit(
    frame: pd.DataFrame,
    *,
    weight: str | None = None,
    group: str | None = None,
    columns: scaling.Columns | None = None,
    options: scaling.FitOptions | None = None,
) -> scaling.Fit:
    """Fit L = E + A/N^alpha (+ B/D^beta where ``n_samples`` varies), with intervals and a verdict.

    Example::

        fitted = isotherm.fit(run.results())  # its finished models; of a search the confirmed ones

    Args:
        frame: columns ``n_params``, ``loss`` and optionally ``n_samples``; further ones are ignored.
        weight: column of weights; the default is ``weight``, if there is one.
        group: column of groups, each with an irreducible loss of its own; the default is ``group``, if there is one.
        columns: further names, such as that of the loss, and rows to keep; `weight` and `group` go before it.
        options: how to fit.

    Raises:
        DataError: every problem of the frame, with rows counted from 1.
    """
    columns = columns or scaling.Columns()
    columns = replace(columns, weight=weight or columns.weight, group=group or columns.group)
    table = scaling.of_frame(frame, "frame", columns)
    return scaling.fit(table, options or scaling.FitOptions())
