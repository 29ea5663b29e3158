"""The loss CRUSE is trained with: compressed complex mean squared error of consistent spectra.

Waveforms are (B, samples). Source: CRUSE paper (arXiv 2101.09249), its loss section: c = 0.3, λ = 0.3.
"""

import torch

from dnslib.stft import HOP, stft

COMPRESSION = 0.3  # c, the exponent of the magnitudes
COMPLEX_WEIGHT = 0.3  # λ, the share of the phase-aware term
ACTIVE_BELOW_PEAK_DB = 40.0  # frames quieter than this below the loudest do not count for the level
_TINY_POWER = 1e-5  # keeps |S|^c differentiable at zero; speech at active level 1 has about 1e2 a bin


def compressed_spectral_loss(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Scalar: (1 - λ) mean (|S|^c - |Ŝ|^c)² + λ mean | |S|^c e^{jφ} - |Ŝ|^c e^{jφ̂} |² over all bins of the batch.

    Both waveforms are divided by the active level of the target first, so that quiet examples count as loud ones. As
    the estimate is a waveform, its spectrum is consistent: one that the inverse transform does not change.
    """
    level = active_level(target)[:, None]
    s, s_hat = stft(target / level), stft(estimate / level)
    magnitude, magnitude_hat = compressed_magnitude(s), compressed_magnitude(s_hat)
    by_magnitude = (magnitude - magnitude_hat).square().mean()
    difference = s * (magnitude / _magnitude(s)) - s_hat * (magnitude_hat / _magnitude(s_hat))
    by_phase = (difference.real.square() + difference.imag.square()).mean()
    return (1 - COMPLEX_WEIGHT) * by_magnitude + COMPLEX_WEIGHT * by_phase


def compressed_magnitude(spectrum: torch.Tensor) -> torch.Tensor:
    """|S|^c, real."""
    return _power(spectrum).pow(COMPRESSION / 2)


def active_level(waveform: torch.Tensor) -> torch.Tensor:
    """Root mean square over the frames that are at most 40 dB below the loudest, ``(B,)``; 1 for digital silence."""
    hops = waveform.unfold(-1, HOP, HOP).square().mean(-1)  # (B, hops)
    active = hops >= hops.amax(-1, keepdim=True) * 10 ** (-ACTIVE_BELOW_PEAK_DB / 10)
    power = (hops * active).sum(-1) / active.sum(-1)
    return torch.where(power > 0, power, torch.ones_like(power)).sqrt()


def _power(spectrum: torch.Tensor) -> torch.Tensor:
    return spectrum.real.square() + spectrum.imag.square() + _TINY_POWER


def _magnitude(spectrum: torch.Tensor) -> torch.Tensor:
    return _power(spectrum).sqrt()
