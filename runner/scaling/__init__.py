"""Scaling laws: fits with intervals, rivals and a verdict, of any table of sizes and losses.

Pure: numpy, scipy and pandas. How it works and what it covers: ``docs/fits.md``.
"""

from runner.scaling.fit import Fit, FitOptions, direction, fit
from runner.scaling.table import Columns, FitTable, of_frame, read_csv

__all__ = ["Columns", "Fit", "FitOptions", "FitTable", "direction", "fit", "of_frame", "read_csv"]
