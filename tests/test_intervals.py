"""Intervals over clips, rounds and seeds: against closed forms, exact laws, and how often they hold the truth."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm, ttest_1samp

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


def test_interval_of_skewed_values_is_the_bias_corrected_one():
    """Four ones among 40: their number drawn again is binomial, so Efron's formula for BCa has exact terms."""
    values = np.repeat([0.0, 1.0], [36, 4])
    bias = norm.ppf((binom.cdf(3, 40, 0.1) + binom.cdf(4, 40, 0.1)) / 2)
    d = values - 0.1
    acceleration = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z = bias + norm.ppf([0.025, 0.975])
    exact = binom.ppf(norm.cdf(bias + z / (1 - acceleration * z)), 40, 0.1)
    assert (exact != binom.ppf([0.025, 0.975], 40, 0.1)).any()  # percentiles alone
    interval = bootstrap_interval(values)
    assert [40 * interval.ci_low, 40 * interval.ci_high] == pytest.approx(exact)


def test_values_that_differ_by_rounding_are_equal():
    interval = bootstrap_interval([0.3] * 5 + [0.1 + 0.2])
    assert interval.ci_low == interval.ci_high == pytest.approx(0.3)
    close = bootstrap_interval([1.0, 1.0 + 1e-6] * 20)  # standard error 5e-7 / sqrt(39), by numbers that do differ
    assert close.ci_high - close.ci_low == pytest.approx(2 * 1.96 * 5e-7 / 39**0.5, rel=0.1)


def test_degenerate_intervals():
    assert bootstrap_interval([2.5] * 7) == Interval(2.5, 2.5, 2.5, 7)
    single = bootstrap_interval([2.5])
    assert (single.mean, single.count) == (2.5, 1)
    assert np.isnan([single.ci_low, single.ci_high]).all()
    for bad in ([], [1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="finite values"):
            bootstrap_interval(bad)


def test_few_values_and_few_groups_have_students_interval():
    """Independent: scipy's t-test; of groups of one size, that of their means."""
    values = np.random.default_rng(4).normal(3.0, 2.0, (9, 4))
    for found, means in (
        (bootstrap_interval(values[:, 0]), values[:, 0]),
        (bootstrap_interval(values.ravel(), groups=np.repeat(np.arange(9), 4)), values.mean(1)),
    ):
        expected = ttest_1samp(means, 0.0).confidence_interval(0.95)
        assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("groups", [6, 30])
def test_an_interval_over_groups_covers_the_truth_as_often_as_it_says(groups):
    """Values of one group share half of their variance; taken one by one they would hold the truth in three of four."""
    rng = np.random.default_rng(5)
    place = np.repeat(np.arange(groups), 5)
    drawn = [rng.normal(0, 1, groups)[place] + rng.normal(0, 1, place.size) for _ in range(300)]
    held = {}
    for name, chosen in (("grouped", place), ("single", None)):
        found = [bootstrap_interval(values, resamples=500, groups=chosen) for values in drawn]
        held[name] = np.mean([interval.ci_low <= 0.0 <= interval.ci_high for interval in found])
    assert 0.90 < held["grouped"] < 0.99
    assert held["single"] < 0.85


def test_a_single_group_tells_nothing_of_others():
    interval = bootstrap_interval([1.0, 2.0, 3.0], groups=["ann", "ann", "ann"])
    assert interval.mean == 2.0
    assert np.isnan([interval.ci_low, interval.ci_high]).all()
    with pytest.raises(ValueError, match="3 values need as many groups, not 2"):
        bootstrap_interval([1.0, 2.0, 3.0], groups=["ann", "bob"])


def test_more_confidence_is_wider_as_the_normal_law_says():
    values = np.random.default_rng(7).normal(0.0, 1.0, 400)
    wide, narrow = (bootstrap_interval(values, confidence=level) for level in (0.99, 0.95))
    assert (wide.ci_high - wide.ci_low) / (narrow.ci_high - narrow.ci_low) == pytest.approx(2.576 / 1.960, rel=0.07)


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


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_median_of_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        median_interval(np.array([1.0, 2.0, value]))


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


def test_student_s_of_two_seeds_by_hand():
    """Mean 0.03, standard error 0.01, Student's t of one degree of freedom 12.7062 (any table)."""
    assert student_interval(pd.Series([0.02, 0.04])) == pytest.approx((0.03 - 0.127062, 0.03 + 0.127062), abs=1e-6)


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
