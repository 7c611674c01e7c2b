"""Resampled losses for the intervals of a fit. Sizes are never dropped.

For a bare table: a residual bootstrap (Efron 1979) whose scale is drawn, too. The fitted law stays, residuals are
drawn anew, inflated by sqrt(n / (n - p)), and each resample is multiplied by sqrt(d / chi2_d) with d = n - p: what is
known of the noise from few points is uncertain itself, and without this a nominal 95 % covers far less. Below `FEW`
degrees of freedom the few residuals have no shape worth resampling: the draws are Gaussian with the least-squares
deviation.
Measured coverage: ``docs/fits.md``.

For a sweep: losses per resample of validation blocks (the same blocks for all trials) are given, and seeds are drawn
within cells on top.

Array names: N points, R resamples.
"""

import numpy as np

from runner.scaling.law import Design, FitProblem, Floats, Ints, Law
from runner.scaling.model_comparison import LEAST_SQUARES, cell_of

FEW = 10
PERCENT = (2.5, 97.5)


def residual_resamples(design: Design, log_loss_N: Floats, law: Law, count: int, random: np.random.Generator) -> Floats:
    """Log losses [R, N] that the fitted law and its residuals could as well have given."""
    root_N = np.sqrt(design.weight_N)
    fitted_N = law.log_losses(design.logs, design.group_N)
    n = len(log_loss_N)
    freedom = max(n - design.n_parameters, 1)
    if freedom < FEW:
        squares = FitProblem(design, log_loss_N, LEAST_SQUARES).fit()
        residual_N = (log_loss_N - squares.log_losses(design.logs, design.group_N)) * root_N
        drawn_RN = random.normal(size=(count, n)) * np.sqrt(residual_N @ residual_N / freedom)
    else:
        residual_N = (log_loss_N - fitted_N) * root_N
        drawn_RN = random.choice(residual_N - residual_N.mean(), size=(count, n)) * np.sqrt(n / freedom)
    scale_R1 = np.sqrt(freedom / random.chisquare(freedom, size=(count, 1)))
    resampled_RN: Floats = fitted_N + drawn_RN * scale_R1 / root_N
    return resampled_RN


def cluster_effects(
    design: Design, log_loss_N: Floats, law: Law, cluster_N: Ints, count: int, random: np.random.Generator
) -> tuple[Floats, float]:
    """What the points of a cluster have in common: draws [R, N] about 0, and its share of the residuals' variance.

    Variance components of the residuals about the law, by a one-way analysis of variance (Searle et al. 1992). The
    deviation is drawn, too, from the degrees of freedom between clusters.
    """
    residual_N = (log_loss_N - law.log_losses(design.logs, design.group_N)) * np.sqrt(design.weight_N)
    count_G = np.bincount(cluster_N)
    n, clusters = len(residual_N), len(count_G)
    mean_G = np.bincount(cluster_N, weights=residual_N) / count_G
    within = float(((residual_N - mean_G[cluster_N]) ** 2).sum()) / max(n - clusters, 1)
    between = float((count_G * (mean_G - residual_N.mean()) ** 2).sum()) / max(clusters - 1, 1)
    typical = (n - (count_G**2).sum() / n) / max(clusters - 1, 1)
    variance = max(between - within, 0.0) / typical if clusters < n else 0.0
    freedom = max(clusters - 1, 1)
    scale_R1 = np.sqrt(freedom / random.chisquare(freedom, size=(count, 1)))
    drawn_RG = random.normal(size=(count, clusters)) * np.sqrt(variance) * scale_R1
    effects_RN: Floats = drawn_RG[:, cluster_N] / np.sqrt(design.weight_N)
    return effects_RN, variance / max(variance + within, 1e-300)


def seed_resamples(design: Design, log_loss_RN: Floats, random: np.random.Generator) -> Floats:
    """Seeds drawn with replacement within each cell, deviations inflated by sqrt(m / (m - 1)) for m seeds."""
    result_RN = log_loss_RN.copy()
    cell_N = cell_of(design)
    for cell in range(int(cell_N.max()) + 1):
        members = np.flatnonzero(cell_N == cell)
        m = len(members)
        if m < 2:
            continue
        part_RM = log_loss_RN[:, members]
        mean_R1 = part_RM.mean(axis=1, keepdims=True)
        picked = random.integers(m, size=part_RM.shape)
        result_RN[:, members] = mean_R1 + np.take_along_axis(part_RM - mean_R1, picked, axis=1) * np.sqrt(m / (m - 1))
    return result_RN


def interval(values: Floats) -> tuple[float, float]:
    """The 95 % percentile interval."""
    low, high = np.percentile(values, PERCENT)
    return float(low), float(high)
