"""Returns of positions and what is said of them: Sharpe ratio, its interval, drawdown, the deflated Sharpe ratio.

Array names: T bars, R resamples.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import kurtosis, norm, skew

from trainables.training.bootstrap import BlockBootstrap, interval

Floats = npt.NDArray[np.float64]


def net(position_T: Floats, open_T: Floats, cost_bps: float) -> Floats:
    """Returns after costs of positions that are decided at each bar's close and taken at the next bar's open.

    Position t earns the open of bar t + 2 over that of bar t + 1; the last two have no return and are left out. A
    change of position, the first one included, costs `cost_bps` basis points of what is traded.
    """
    gross_T = open_T[2:] / open_T[1:-1] - 1
    traded_T = np.abs(np.diff(position_T, prepend=0.0))[:-2]
    return_T: Floats = position_T[:-2] * gross_T - traded_T * cost_bps / 1e4
    return return_T


def sharpe(return_T: Floats, bars_a_year: float) -> float | None:
    """Annual Sharpe ratio without a risk-free rate; None where returns never change."""
    deviation = float(return_T.std(ddof=1)) if len(return_T) > 1 else 0.0
    return float(return_T.mean()) / deviation * math.sqrt(bars_a_year) if deviation else None


def sharpe_interval(
    return_T: Floats, dates_T: npt.NDArray[np.datetime64], bars_a_year: float
) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the Sharpe ratio: percentiles over resampled circular blocks of dates."""
    resamples = BlockBootstrap(dates_T, return_T, horizon=1, label="backtest")
    found = []
    for counts_RT in resamples.counts():
        mean_R, square_R = resamples.means(counts_RT, return_T), resamples.means(counts_RT, return_T**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            found.append(mean_R / np.sqrt(np.maximum(square_R - mean_R**2, 0.0)) * math.sqrt(bars_a_year))
    return interval(np.concatenate(found))


def drawdown(return_T: Floats) -> float:
    """Largest fall of the equity below its earlier peak, as a share of that peak."""
    equity_T = np.concatenate([[1.0], np.cumprod(1 + return_T)])
    return float(np.max(1 - equity_T / np.maximum.accumulate(equity_T)))


def deflated_sharpe(return_T: Floats, others: Floats, trials: int) -> float | None:
    """Probability that the true Sharpe ratio is above what the best of so many trials without skill would show.

    Bailey and Lopez de Prado 2014, 'The deflated Sharpe ratio'. None with fewer than two trials or constant returns.

    Args:
        return_T: of one trial.
        others: Sharpe ratios a bar (not annual) of all trials, this one included: their variance is needed.
        trials: how many were tried.
    """
    if trials < 2 or len(others) < 2 or len(return_T) < 3 or not return_T.std():
        return None
    ratio = float(return_T.mean() / return_T.std(ddof=1))
    share = np.euler_gamma
    extreme = (1 - share) * norm.ppf(1 - 1 / trials) + share * norm.ppf(1 - 1 / (trials * math.e))
    lucky = float(np.std(others, ddof=1)) * float(extreme)
    skewness, tails = float(skew(return_T)), float(kurtosis(return_T, fisher=False))
    error = math.sqrt(max(1 - skewness * ratio + (tails - 1) / 4 * ratio**2, 1e-12) / (len(return_T) - 1))
    return float(norm.cdf((ratio - lucky) / error))
