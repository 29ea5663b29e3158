"""The loss CRUSE is trained with: compressed complex mean squared error of consistent spectra.

Waveforms are (B, samples). Source: CRUSE paper (arXiv 2101.09249), its loss section: c = 0.3, λ = 0.3.
What `LossWeights` add is ours: recordings carry a noise floor, and a network that has learned to keep it leaves a
murmur between the words; and a network in doubt gives too little speech rather than too much (an asymmetric loss, as in
VoiceFilter-Lite, arXiv 2009.04323, counters that). DNSMOS P.835 marks down both.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import max_pool1d

from dnslib.stft import HOP, stft

COMPRESSION = 0.3  # c, the exponent of the magnitudes
ACTIVE_BELOW_PEAK_DB = 40.0  # what is further below the loudest is a pause and does not count for the level
PAUSE_GAIN = 0.01  # of a target's pauses, where they have a weight of their own
QUIET_BELOW_PEAK_DB = 30.0  # frames of the estimate that the network has taken for a pause
SILENCE = 1e-7  # power of a bin that counts as silent, 90 dB below speech
_TINY_POWER = 1e-5  # keeps |S|^c differentiable at zero; speech at active level 1 has about 1e2 a bin


@dataclass(frozen=True)
class LossWeights:
    """How the loss is weighted; by default as in the CRUSE paper."""

    complex_share: float = 0.3  # λ, the share of the phase-aware term
    over_suppression: float = 1.0  # of a magnitude error where the estimate is below the target
    pauses: float = 0.0  # of what is left in pauses


PAPER = LossWeights()


def compressed_spectral_loss(
    estimate: torch.Tensor, target: torch.Tensor, weights: LossWeights = PAPER
) -> torch.Tensor:
    """Scalar: (1 - λ) mean (|S|^c - |Ŝ|^c)² + λ mean | |S|^c e^{jφ} - |Ŝ|^c e^{jφ̂} |² over all bins of the batch.

    Both waveforms are divided by the active level of the target first, so that quiet examples count as loud ones. As
    the estimate is a waveform, its spectrum is consistent: transforming it back and forth does not change it.

    Where |Ŝ| < |S|, the first term counts ``over_suppression`` times. With a weight for ``pauses`` the target's pauses
    are made 40 dB softer than recorded, and where the estimate is quiet in them, its error is replaced by ``pauses``
    times its power above silence, in bel: what is quiet becomes silent, and a doubtful frame, which the network has
    left loud, costs about what it did.
    """
    level = active_level(target)[:, None]
    s, s_hat = stft(target / level), stft(estimate / level)
    if not weights.pauses:
        return compressed_error(s, s_hat, weights).mean()
    speech, quiet = speech_and_quiet(s, s_hat)
    error = compressed_error(torch.where(speech, s, PAUSE_GAIN * s), s_hat, weights)
    residue = torch.log10(1 + _squared(s_hat) / SILENCE)
    return torch.where(quiet, weights.pauses * residue, error).mean()


def compressed_error(s: torch.Tensor, s_hat: torch.Tensor, weights: LossWeights = PAPER) -> torch.Tensor:
    """Error of every bin, real, of two complex spectra of the same shape."""
    magnitude, magnitude_hat = compressed_magnitude(s), compressed_magnitude(s_hat)
    missing = magnitude - magnitude_hat
    by_magnitude = missing.square()
    if weights.over_suppression != 1:
        by_magnitude = torch.where(missing > 0, weights.over_suppression * by_magnitude, by_magnitude)
    difference = s * (magnitude / _magnitude(s)) - s_hat * (magnitude_hat / _magnitude(s_hat))
    return (1 - weights.complex_share) * by_magnitude + weights.complex_share * _squared(difference)


@torch.no_grad()
def speech_and_quiet(s: torch.Tensor, s_hat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames with speech in the target, and its pauses that are quiet in the estimate: two of ``(B, T, 1)``, bool.

    The two frames on either side of a loud one count as speech.
    """
    power, power_hat = (_power(spectrum).mean(-1) for spectrum in (s, s_hat))
    peak = power.amax(-1, keepdim=True)
    loud = power > peak * 10 ** (-ACTIVE_BELOW_PEAK_DB / 10)
    speech = max_pool1d(loud.float(), 5, stride=1, padding=2) > 0
    quiet = ~speech & (power_hat < peak * 10 ** (-QUIET_BELOW_PEAK_DB / 10))
    return speech[..., None], quiet[..., None]


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
    return _squared(spectrum) + _TINY_POWER


def _squared(spectrum: torch.Tensor) -> torch.Tensor:
    return spectrum.real.square() + spectrum.imag.square()


def _magnitude(spectrum: torch.Tensor) -> torch.Tensor:
    return _power(spectrum).sqrt()
