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
FEW = 10  # values or groups; an interval of fewer is Student's, as a bootstrap of 5 contains the truth in 82 % of cases


@dataclass(frozen=True)
class Interval:
    """A mean of ``count`` values and its 95 % confidence interval; NaN bounds when a single value shows no spread."""

    mean: float
    ci_low: float
    ci_high: float
    count: int


def interval_columns(columns: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Which columns of a table are the bounds of which, {"latency_ms": ("ci_low", "ci_high")}.

    They are ``<column>_ci_low`` and ``<column>_ci_high``, or plain ``ci_low`` and ``ci_high`` right after the column.
    """
    found, names = {}, list(columns)
    for name, following in pairwise([*names, ""]):
        if {f"{name}_ci_low", f"{name}_ci_high"} <= set(names):
            found[name] = (f"{name}_ci_low", f"{name}_ci_high")
        elif following == "ci_low" and "ci_high" in names:
            found[name] = ("ci_low", "ci_high")
    return found


def bootstrap_interval(
    values: Sequence[float],
    resamples: int = 4999,
    seed: int = 0,
    groups: Sequence | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the mean by the bootstrap, bias-corrected (BCa); by Student's t where there are fewer than ten.

    ``groups[i]`` says what value i belongs to, such as its speaker: values of one group vary together, so whole groups
    are drawn. The same values give the same interval. Equal values give an interval of no width, a single value or
    group NaN bounds. Raises MisuseError for no values, or for values that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise MisuseError("An interval needs a list of one or more finite values.")
    centre = float(np.mean(values))
    sums, counts = _group_sums(values, np.arange(values.size) if groups is None else np.asarray(groups))
    if sums.size == 1:
        low = high = float("nan")
    elif np.ptp(values) <= ROUNDING * np.abs(values).max():
        low = high = centre
    elif sums.size < FEW:
        low, high = _student_bounds(sums - centre * counts, values.size, centre, confidence)
    else:
        from scipy.stats import bootstrap  # imported late: it takes two seconds

        mean = lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis)  # noqa: E731
        rng = np.random.default_rng(seed)
        low, high = bootstrap(
            (sums, counts), mean, paired=True, n_resamples=resamples, rng=rng, method="BCa", confidence_level=confidence
        ).confidence_interval
    return Interval(centre, float(low), float(high), int(values.size))


def _group_sums(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of the values of each group."""
    if groups.shape != values.shape:
        raise MisuseError(f"{values.size} values need as many groups, not {groups.size}.")
    _, place = np.unique(groups, return_inverse=True)
    return np.bincount(place, values), np.bincount(place).astype(np.float64)


def _student_bounds(residuals: np.ndarray, count: int, centre: float, confidence: float) -> tuple[float, float]:
    """Bounds of a mean of ``count`` values from each group's sum of deviations: the cluster-robust standard error."""
    from scipy import stats

    groups = residuals.size
    error = np.sqrt(groups / (groups - 1) * np.sum(residuals**2)) / count
    return stats.t.interval(confidence, groups - 1, loc=centre, scale=error)


def paired_interval(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of mean(a - b), where a[i] and b[i] belong to the same clip: what the clips share drops out."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise MisuseError(f"Paired values must be as many on both sides, not {a.size} and {b.size}.")
    return bootstrap_interval(a - b, confidence=confidence)


def median_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the median of ``values``, one per round, by the percentile bootstrap.

    Raises MisuseError for values that are not finite.
    """
    if not np.isfinite(values).all():
        raise MisuseError("An interval needs finite values.")
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
