"""The transform: exact inverse, where a frame lies, closed forms of an impulse and a tone, energy."""

import math

import pytest
import torch

from dnslib import stft as module
from dnslib.stft import BINS, HOP, WINDOW, frame_count, istft, log_power, stft, window


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(3, 2, 16_001, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 319, 320, 321, 1000, 16_001])
def test_the_inverse_gives_the_waveform_back_also_at_its_ends(noise, samples):
    waveform = noise[..., :samples]
    spectrum = stft(waveform)
    assert spectrum.shape == (3, 2, frame_count(samples), BINS)
    torch.testing.assert_close(istft(spectrum, samples), waveform, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("samples", "frames"), [(1, 2), (160, 2), (161, 3), (320, 3), (16_000, 101), (16_001, 102)])
def test_every_started_hop_is_a_frame_and_one_more_ends_the_last(samples, frames):
    assert frame_count(samples) == frames


@pytest.mark.parametrize("place", [1, 80, 159, 161, 400, 799])
def test_an_impulse_is_seen_by_the_two_frames_that_cover_it_through_half_a_sine(place):
    """|X[t, f]| = sin(π k / 320) for all f, k samples after the start of frame t, 160 (t - 1)."""
    waveform = torch.zeros(800)
    waveform[place] = 1
    expected = torch.zeros(frame_count(800), BINS)
    for t in range(len(expected)):
        offset = place - HOP * (t - 1)
        if 0 <= offset < WINDOW:
            expected[t] = math.sin(math.pi * offset / WINDOW)
    torch.testing.assert_close(stft(waveform).abs(), expected, atol=1e-6, rtol=0)


def test_a_tone_in_the_middle_of_a_bin():
    """4 kHz is bin 80; half the sum of the window, Σ sin(π n / 320) = cot(π / 640), stands there, and 0 far away."""
    tone = torch.cos(2 * math.pi * 4000 / 16_000 * torch.arange(3200))
    inner = stft(tone)[1:-2].abs()  # frames without padding
    assert inner[:, 80].tolist() == pytest.approx([0.5 / math.tan(math.pi / 640)] * len(inner), abs=0.02)
    assert inner[:, [0, 40, 120, 160]].max() < 0.1


def test_energy_is_kept_by_the_frames_together(noise):
    """Parseval, with the bins between 0 and 8 kHz twice; the squared windows of the two frames of a sample sum to 1."""
    power = stft(noise).abs().square()
    two_sided = power[..., 0] + 2 * power[..., 1:-1].sum(-1) + power[..., -1]
    torch.testing.assert_close(two_sided.sum(-1) / WINDOW, noise.square().sum(-1), rtol=1e-5, atol=0)


def test_log_power_of_known_powers():
    """(log10(power + 1e-7) + 2) / 2: ten times the amplitude adds 1, silence stays finite."""
    spectrum = torch.tensor([0.1, 1.0, 10.0, 0.0, 0.06 + 0.08j, 6 - 8j])
    assert log_power(spectrum).tolist() == pytest.approx([0.0, 1.0, 2.0, -2.5, 0.0, 2.0], abs=1e-4)


def test_the_window_serves_training_after_it_was_made_while_enhancing():
    window.cache_clear()
    with torch.inference_mode():
        stft(torch.ones(400))
    waveform = torch.ones(400, requires_grad=True)
    istft(stft(waveform), 400).sum().backward()
    torch.testing.assert_close(waveform.grad, torch.ones(400), atol=1e-5, rtol=0)  # the identity has slope 1


def test_twenty_milliseconds_every_ten():
    assert (module.WINDOW / module.SAMPLE_RATE, module.HOP / module.SAMPLE_RATE, module.BINS) == (0.02, 0.01, 161)
