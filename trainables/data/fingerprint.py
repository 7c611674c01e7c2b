"""Hashes of datasets by content."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.data.columns import NUMBERS
from trainables.data.given import Given

# Prices and volumes are decimals of the source, read alike on every CPU; 12 significant digits distinguish any two.
_FORMAT = "%.11e"
_MIN_POWER, _MAX_POWER = -150, 150
_POWERS = np.array([float(f"1e{power}") for power in range(_MIN_POWER, _MAX_POWER + 1)])


def content_sha256(
    bars: Mapping[str, pd.DataFrame],
    daily: Mapping[str, pd.DataFrame],
    features: Sequence[str],
    version: str,
    given: Sequence[Given] = (),
    *,
    binary: bool = False,
) -> str:
    """Hash of what a dataset's values follow from: bars, the source's closes, the features' names and code version.

    The features' values are left out on purpose. They are computed, so their last bits differ between CPUs, and no
    rounding hides that: noise of one unit in the last place changed the hash of the S&P 500 dataset in 20 of 20 trials
    with features at 12 digits and in 7 of 20 at 6 (GOOG: 20 and 20), as averages of short decimals end in exact ties.
    Bars, the features' code and its version determine them; the hash of the file's bytes guards what was stored.

    Args:
        bars: by asset, the bars of the dataset's timescale, indexed by date.
        daily: by asset, the bars as they came from the source; their closes are behind the weekly features.
        features: names of the feature columns.
        version: of the features' code: a tier's version, or its name, version and config.
        given: columns that are used as given, whose values and kinds follow from nothing else.
        binary: hash digits as integers, not as text: many times as fast, another hash. For universes.
    """
    digest = hashlib.sha256(f"features {version} {' '.join(features)}\n".encode())
    for one in given:
        digest.update(f"given {json.dumps(one.kinds)}\n".encode())
    for asset in sorted(bars):
        as_given = [(one.values[asset], tuple(one.kinds)) for one in given]
        for frame, columns in ((bars[asset], NUMBERS), (daily[asset], ("close",)), *as_given):
            digest.update(f"{asset} {len(frame)}\n".encode())
            digest.update(pd.DatetimeIndex(frame.index).to_numpy().astype("datetime64[ns]").astype("<i8").tobytes())
            for name in columns:
                values = frame[name].to_numpy(dtype=np.float64) + 0.0  # -0.0 becomes 0.0
                digest.update(f"\n{name}\n".encode())
                if binary:
                    digest.update(_digits(values))
                else:
                    digest.update("\n".join([_FORMAT % value for value in values.tolist()]).encode())
    return digest.hexdigest()


def _digits(values: npt.NDArray[np.float64]) -> bytes:
    """12 digits and the power of ten of each value, by comparisons and products, which all CPUs round alike."""
    size = np.abs(values)
    power = np.searchsorted(_POWERS, size, side="right") + (_MIN_POWER - 1)
    known = np.isfinite(values) & (size >= _POWERS[0]) & (power < _MAX_POWER)
    scale = _POWERS[np.clip(11 - power - _MIN_POWER, 0, len(_POWERS) - 1)]
    digits = np.rint(np.where(known, values, 0.0) * scale).astype("<i8")
    special = np.where(known | (values == 0), 0.0, values).astype("<f8")  # NaN, and numbers that no price has
    return bytes(digits.tobytes() + power.astype("<i8").tobytes() + special.tobytes())
