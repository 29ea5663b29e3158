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


def test_no_two_splits_draw_from_the_same_part_of_a_logarithmic_range():
    """1 to 256 in eighths of the logarithm: 1 to 2, 2 to 4 and so on."""
    rng = np.random.default_rng(0)
    parts = {s: {int(np.log2(noise.Draw(rng, s).log_between(1, 256))) for _ in range(300)} for s in noise.SPLITS}
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


def test_noise_has_no_offset_and_its_rms_or_its_peak_on_either_side():
    hiss = np.random.default_rng(0).standard_normal(32_000)
    np.testing.assert_allclose(noise.scaled(3 * hiss + 7), noise.scaled(hiss), atol=1e-6)
    assert np.sqrt(np.mean(np.square(noise.scaled(hiss), dtype=np.float64))) == pytest.approx(0.05)
    for spike in (1.0, -1.0):
        assert np.abs(noise.scaled(spike * np.eye(1, 32_000)[0])).max() == pytest.approx(0.95)  # for 0.05 it were 8.9


def test_an_envelope_spreads_by_its_depth_in_decibels_and_never_jumps():
    gain_db = 20 * np.log10(noise.envelope(np.random.default_rng(0), 16_000 * 400, 1.0, 6.0))
    assert gain_db[::16_000].std() == pytest.approx(6.0, rel=0.15)  # 400 knots, a second apart
    assert np.abs(np.diff(gain_db)).max() < 60 * np.pi / 2 / 16_000  # half a cosine between knots 60 dB apart


def test_sounds_are_added_and_what_passes_the_end_is_dropped():
    out = np.ones(5)
    noise.add_at(out, np.array([1.0, 2.0, 4.0]), 1)
    noise.add_at(out, np.array([8.0, 9.0]), 4)
    noise.add_at(out, np.array([9.0]), 5)
    assert out.tolist() == [1, 2, 3, 5, 9]


def test_a_hit_rings_to_1_e():
    """A tone of 1 kHz, a period of 16 samples: its RMS in the period 0.05 s later is 1/e of the first one's."""
    hit = noise.struck(np.random.default_rng(0), 1000, 0.05, noisiness=0.0)
    assert hit[800:816].std() / hit[:16].std() == pytest.approx(np.exp(-1), rel=1e-6)


def test_a_note_has_harmonics_of_its_own_and_no_alias():
    """Of 3 kHz only 3 and 6 kHz lie below 7.5 kHz, the second 2^-1 as large."""
    spectrum = np.abs(np.fft.rfft(noise.plucked(3000, 1.0, 0.001, 0.25)))  # 4 · 0.25 s: bins of 1 Hz
    assert spectrum[6000] / spectrum[3000] == pytest.approx(0.5, rel=0.01)
    assert spectrum[[1000, 2000, 4000, 5000, 7000]].max() < 0.01 * spectrum[3000]


def test_talkers_of_a_babble_are_within_6_db_of_each_other():
    """Each is a tone of its own here."""
    tones = (k * np.sin(2 * np.pi * 200 * k * np.arange(16_000) / 16_000) for k in (1, 2, 3, 4))
    spectrum = np.abs(np.fft.rfft(noise.babble(np.random.default_rng(0), lambda _: next(tones), 16_000, 4)))
    heard = np.flatnonzero(spectrum > 100)
    levels_db = 20 * np.log10(spectrum[heard] / (8000 * np.sqrt(2)))  # of a tone of RMS 1
    assert heard.tolist() == [200, 400, 600, 800]
    assert (levels_db <= 0).all()
    assert (levels_db >= -6).all()
    assert np.ptp(levels_db) > 0.5


def test_no_two_noises_of_a_run_are_the_same():
    made = [noise.named("clicks", *which, 16_000)[1][0] for which in (("test", 0, 0), ("test", 1, 0), ("test", 0, 1))]
    assert len({sound.tobytes() for sound in made}) == 3


def test_engines_are_heard_in_test_only():
    assert set(noise.kinds("test")) - set(noise.kinds("train")) == {"engine"}
