"""Hashes of datasets by content."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from trainables.data.columns import NUMBERS
from trainables.data.given import Given

# Prices and volumes are decimals of the source, read alike on every CPU; 12 significant digits distinguish any two.
_FORMAT = "%.11e"


def content_sha256(
    bars: Mapping[str, pd.DataFrame],
    daily: Mapping[str, pd.DataFrame],
    features: Sequence[str],
    version: str,
    given: Sequence[Given] = (),
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
                digest.update("\n".join([_FORMAT % value for value in values.tolist()]).encode())
    return digest.hexdigest()
