"""Intervals over seeds."""

import numpy as np
import pandas as pd
import pytest

from dnslib.seeds import mean_interval


def test_three_seeds_by_hand():
    """Mean 0.03, standard error 0.02646 / sqrt 3, Student's t of two degrees of freedom 4.3027 (any table)."""
    low, high = mean_interval(pd.Series([0.01, 0.02, 0.06]))
    half = 4.3027 * 0.0264575 / 3**0.5
    assert (low, high) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-5)


def test_values_that_agree_have_no_width():
    assert mean_interval(pd.Series([0.5, 0.5, 0.5])) == (0.5, 0.5)


def test_the_mean_is_held_by_95_of_100_intervals():
    """Of 2000 times three normal values; the count has a standard deviation of 0.5 %."""
    rng = np.random.default_rng(0)
    intervals = [mean_interval(pd.Series(rng.normal(1.0, 2.0, 3))) for _ in range(2000)]
    held = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert held == pytest.approx(0.95, abs=0.02)
