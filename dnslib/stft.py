"""The short-time Fourier transform of CRUSE: 16 kHz, 20 ms square-root Hann window, 10 ms hop, 161 bins.

One window serves analysis and synthesis, so that ``istft(stft(x)) == x`` to rounding.
Shapes: waveforms are ``(..., samples)``, spectra ``(..., T, F)``; frame t covers samples [160 (t - 1), 160 (t + 1)).
Source: CRUSE paper (arXiv 2101.09249), section on the experimental setup.
"""

from functools import cache

import torch

from dnslib.sampling import BINS, HOP, SAMPLE_RATE, WINDOW

__all__ = [
    "BINS", "HOP", "LOG_POWER_CENTRE", "LOG_POWER_SPREAD", "POWER_FLOOR", "SAMPLE_RATE", "WINDOW",
    "delay_samples", "frame_count", "istft", "log_power", "stft", "window",
]  # fmt: skip

POWER_FLOOR = 1e-7  # keeps the logarithm of digital silence finite, about 60 dB below a quiet speech bin
LOG_POWER_CENTRE, LOG_POWER_SPREAD = -2.0, 2.0  # log10 power of a typical bin at -28 dBFS, and the spread around it


@cache
def window(device: torch.device) -> torch.Tensor:
    """Square-root of the periodic Hann window, ``(320,)``: its squares sum to one at the hop."""
    with torch.inference_mode(False):  # kept for later calls, and autograd takes no tensor made in inference mode
        return torch.hann_window(WINDOW, periodic=True, dtype=torch.float64).sqrt().float().to(device)


def delay_samples(look_ahead: int) -> int:
    """Delay from the first sample of a hop to its output: the window, and the frames that a network looks ahead."""
    return WINDOW + HOP * look_ahead


def frame_count(samples: int) -> int:
    """Frames that cover ``samples`` samples: every sample lies in exactly two frames."""
    return -(-samples // HOP) + 1


def stft(waveform: torch.Tensor) -> torch.Tensor:
    """Complex spectrum ``(..., T, 161)`` of a waveform ``(..., samples)``, T = frame_count(samples)."""
    samples = waveform.shape[-1]
    right = frame_count(samples) * HOP - samples
    padded = torch.nn.functional.pad(waveform, (HOP, right))
    frames = padded.unfold(-1, WINDOW, HOP)  # (..., T, 320)
    return torch.fft.rfft(frames * window(waveform.device), dim=-1)


def istft(spectrum: torch.Tensor, samples: int) -> torch.Tensor:
    """Waveform ``(..., samples)`` of a spectrum ``(..., T, 161)`` by windowed overlap-add, aligned with `stft`."""
    frames = torch.fft.irfft(spectrum, n=WINDOW, dim=-1) * window(spectrum.device)  # (..., T, 320)
    head, tail = frames[..., :HOP], frames[..., HOP:]
    hops = tail[..., :-1, :] + head[..., 1:, :]  # (..., T - 1, 160): the second half of t overlaps the first of t + 1
    return hops.flatten(-2)[..., :samples]


def log_power(spectrum: torch.Tensor) -> torch.Tensor:
    """Network input: log power spectrum, real, same shape, shifted and scaled to about zero mean and unit spread.

    CRUSE has no normalisation layer, so a fixed affine map replaces one; it does not depend on the data.
    """
    power = spectrum.real.square() + spectrum.imag.square()
    return (torch.log10(power + POWER_FLOOR) - LOG_POWER_CENTRE) / LOG_POWER_SPREAD
