"""Intervals over clips, rounds and seeds: against closed forms, exact laws, and how often they hold the truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from dnslib.intervals import (
    Interval,
    bootstrap_interval,
    interval_columns,
    median_interval,
    paired_interval,
    student_interval,
)


def test_interval_agrees_with_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    interval = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(values.size)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.count == 400
    assert interval.ci_low == pytest.approx(values.mean() - half, abs=0.07 * half)
    assert interval.ci_high == pytest.approx(values.mean() + half, abs=0.07 * half)
    assert interval == bootstrap_interval(values)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    drawn = [bootstrap_interval(rng.exponential(1.0, 40), resamples=500, seed=i) for i in range(300)]
    covered = np.mean([interval.ci_low <= 1.0 <= interval.ci_high for interval in drawn])
    assert 0.89 < covered < 0.985  # three standard errors of 300 draws around 0.93, what theory gives skewed values


def test_values_that_differ_by_rounding_are_equal():
    interval = bootstrap_interval([0.3] * 5 + [0.1 + 0.2])
    assert interval.ci_low == interval.ci_high == pytest.approx(0.3)


def test_degenerate_intervals():
    assert bootstrap_interval([2.5] * 7) == Interval(2.5, 2.5, 2.5, 7)
    single = bootstrap_interval([2.5])
    assert (single.mean, single.count) == (2.5, 1)
    assert np.isnan([single.ci_low, single.ci_high]).all()
    for bad in ([], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="finite values"):
            bootstrap_interval(bad)


def test_pairing_removes_what_the_clips_share():
    rng = np.random.default_rng(3)
    clip_effect = rng.normal(0, 1, 50)
    a, b = clip_effect + 0.1 + rng.normal(0, 0.01, 50), clip_effect
    paired, unpaired = paired_interval(a, b), bootstrap_interval(a)
    assert paired.ci_low < 0.1 < paired.ci_high
    assert paired.ci_high - paired.ci_low < 0.05 * (unpaired.ci_high - unpaired.ci_low)
    assert paired_interval(a, a) == Interval(0.0, 0.0, 0.0, 50)
    with pytest.raises(ValueError, match="Paired"):
        paired_interval([1.0], [1.0, 2.0])


def test_median_interval_agrees_with_the_binomial_one():
    """Of 30 sorted values, those at places 10 and 21 hold the median with 95.7 % (binomial tables)."""
    values = np.random.default_rng(3).permutation(np.arange(1.0, 31.0))
    low, high = median_interval(values)
    assert low == pytest.approx(10, abs=1)
    assert high == pytest.approx(21, abs=1)
    assert median_interval(values) == (low, high)
    assert median_interval(np.full(30, 2.5)) == (2.5, 2.5)


def test_median_interval_is_the_exact_one_of_95_percent():
    """The median of 19 values drawn again is at most the k-th where more than nine draws are: a binomial law."""
    at_most = binom.sf(9, 19, np.arange(20) / 19)  # by k = 0 .. 19
    exact = tuple(int((at_most < edge).sum()) for edge in (0.025, 0.975))
    assert exact == (6, 14)  # 90 % would be 7 and 13, 98 % 5 and 15
    assert median_interval(np.arange(1.0, 20.0)) == exact


def test_student_s_of_three_seeds_by_hand():
    """Mean 0.03, standard error 0.02646 / sqrt 3, Student's t of two degrees of freedom 4.3027 (any table)."""
    low, high = student_interval(pd.Series([0.01, 0.02, 0.06]))
    half = 4.3027 * 0.0264575 / 3**0.5
    assert (low, high) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-5)


def test_seeds_that_agree_have_no_width():
    assert student_interval(pd.Series([0.5, 0.5, 0.5])) == (0.5, 0.5)


def test_the_mean_is_held_by_95_of_100_intervals():
    """Of 2000 times three normal values; the count has a standard deviation of 0.5 %."""
    rng = np.random.default_rng(0)
    intervals = [student_interval(pd.Series(rng.normal(1.0, 2.0, 3))) for _ in range(2000)]
    held = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert held == pytest.approx(0.95, abs=0.02)


def test_plain_bounds_belong_to_the_column_before_them_only():
    """A latency with plain bounds, a difference with named ones, and a number that has none."""
    columns = ["latency_ms", "ci_low", "ci_high", "rounds", "delta_ovrl", "delta_ovrl_ci_low", "delta_ovrl_ci_high"]
    assert interval_columns(columns) == {
        "latency_ms": ("ci_low", "ci_high"),
        "delta_ovrl": ("delta_ovrl_ci_low", "delta_ovrl_ci_high"),
    }
