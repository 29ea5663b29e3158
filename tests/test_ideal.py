"""The ideal gain does what its definition says."""

import numpy as np
import pytest

from dnslib import MisuseError
from dnslib.ideal import enhance_ideally
from dnslib.quality import si_sdr_db

generator = np.random.default_rng(3)
CLEAN, NOISE = generator.normal(0, 0.1, (2, 4000)).astype(np.float32)


@pytest.mark.parametrize(("factor", "heard"), [(1.0, 1.0), (2.0, 1.0), (0.5, 0.5)])
def test_of_a_louder_voice_it_gives_the_voice_and_a_softer_one_it_leaves(factor, heard):
    """Without noise X = factor · S, so the gain is 1 / factor, but never above 1."""
    np.testing.assert_allclose(enhance_ideally(factor * CLEAN, CLEAN), heard * CLEAN, atol=1e-5)


def test_noise_alone_becomes_silence():
    assert not enhance_ideally(NOISE, np.zeros_like(NOISE)).any()


def test_silence_stays_silent():
    assert not enhance_ideally(np.zeros_like(CLEAN), CLEAN).any()


def test_a_frame_gets_the_gain_of_the_definition():
    """By NumPy's own transform. At sample 160 t the window of frame t is 1, those beside it are 0."""
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(320) / 320))
    noisy = CLEAN + NOISE
    enhanced = enhance_ideally(noisy, CLEAN)
    for middle in (1600, 2400):
        x, s = (np.fft.rfft(window * one[middle - 160 : middle + 160]) for one in (noisy, CLEAN))
        frame = np.fft.irfft(x * np.minimum(np.abs(s) / np.abs(x), 1))
        assert enhanced[middle] == pytest.approx(frame[160], abs=1e-5)


def test_noise_beside_a_tone_is_taken_away_and_the_noisy_phase_stays():
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / 16000).astype(np.float32)
    before = si_sdr_db(tone + 3 * NOISE, tone)
    after = si_sdr_db(enhance_ideally(tone + 3 * NOISE, tone), tone)
    assert before + 6 < after < 30  # with the clean phase it would be beyond any bound


def test_two_lengths_end_in_one_line():
    with pytest.raises(MisuseError, match=r"shape \(3999,\), the noisy one \(4000,\)"):
        enhance_ideally(CLEAN, CLEAN[1:])
