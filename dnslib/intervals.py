"""95 % intervals: of means over clips, of medians over rounds, of means over a few seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dnslib.errors import MisuseError

if TYPE_CHECKING:  # imported late, if at all: it takes half a second
    import pandas as pd

ROUNDING = 1e-12  # relative spread of values that are equal but for rounding
RESAMPLES = 9_999  # of rounds


@dataclass(frozen=True)
class Interval:
    """A mean of ``count`` values and its 95 % confidence interval; NaN bounds when a single value tells no spread."""

    mean: float
    ci_low: float
    ci_high: float
    count: int


def interval_columns(columns: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Which columns of a table are the bounds of which, {"latency_ms": ("ci_low", "ci_high")}.

    They are ``<column>_ci_low`` and ``<column>_ci_high``, or plain ``ci_low`` and ``ci_high`` right behind the column.
    """
    found, names = {}, list(columns)
    for name, following in pairwise([*names, ""]):
        if {f"{name}_ci_low", f"{name}_ci_high"} <= set(names):
            found[name] = (f"{name}_ci_low", f"{name}_ci_high")
        elif following == "ci_low" and "ci_high" in names:
            found[name] = ("ci_low", "ci_high")
    return found


def bootstrap_interval(values: Sequence[float], resamples: int = 4999, seed: int = 0) -> Interval:
    """95 % interval of the mean by the bootstrap, bias-corrected (BCa).

    The same values give the same interval. Equal values give an interval of no width, a single value NaN bounds.
    Raises MisuseError for no values, or for values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise MisuseError("An interval needs a list of one or more finite values.")
    centre = float(np.mean(values))
    if values.size == 1:
        return Interval(centre, float("nan"), float("nan"), 1)
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        return Interval(centre, centre, centre, values.size)
    rng = np.random.default_rng(seed)
    from scipy.stats import bootstrap  # imported late: it takes two seconds

    found = bootstrap((values,), np.mean, n_resamples=resamples, rng=rng, method="BCa", vectorized=True)
    return Interval(
        centre, float(found.confidence_interval.low), float(found.confidence_interval.high), int(values.size)
    )


def paired_interval(a: Sequence[float], b: Sequence[float]) -> Interval:
    """95 % interval of mean(a - b), where a[i] and b[i] belong to the same clip: what the clips share drops out."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise MisuseError(f"Paired values must be as many on both sides, not {a.size} and {b.size}.")
    return bootstrap_interval(a - b)


def median_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the median of ``values``, one per round, by the percentile bootstrap."""
    from scipy.stats import bootstrap

    rng = np.random.default_rng(seed)
    result = bootstrap((values,), np.median, n_resamples=RESAMPLES, method="percentile", rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def student_interval(values: "pd.Series") -> tuple[float, float]:
    """95 % interval of the mean by Student's t, for the few values that seeds give; the mean where nothing varies."""
    if values.std() == 0:
        return values.mean(), values.mean()
    from scipy import stats

    return stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
