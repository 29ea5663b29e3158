"""Generated noises: spectral slope in closed form, ranges that splits do not share, 16-bit safe levels."""

import numpy as np
import pytest
from scipy import signal

from dnslib.data import noise


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 1.0, 2.0])
def test_power_density_falls_as_one_over_f_to_the_exponent(exponent):
    wave = noise.coloured_noise(np.random.default_rng(0), 16_000 * 30, exponent)
    frequency, power = signal.welch(wave, 16_000, nperseg=4096)
    band = (frequency > 100) & (frequency < 7000)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)
    assert np.mean(wave**2) == pytest.approx(1.0)


def test_no_two_splits_draw_from_the_same_part_of_a_range():
    rng = np.random.default_rng(0)
    parts = {s: {int(noise.Draw(rng, s).between(0, 8)) for _ in range(300)} for s in noise.SPLITS}
    assert set.union(*parts.values()) == set(range(8))
    assert sum(len(part) for part in parts.values()) == 8


@pytest.mark.parametrize("kind", noise.GENERATORS)
def test_every_kind_is_finite_audible_and_fits_16_bits(kind):
    first, again, other = (noise.generate(kind, "test", 32_000, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (32_000,)
    assert np.isfinite(first).all()
    assert 1e-3 < first.std() <= noise.RMS * 1.001
    assert np.abs(first).max() <= noise.PEAK * 1.001
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_engines_are_heard_in_test_only():
    assert set(noise.kinds("test")) - set(noise.kinds("train")) == {"engine"}
