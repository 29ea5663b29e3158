"""From speech, noise and a room to a noisy mixture and its target; whole batches, in torch, on any device.

Shapes: waveforms are ``(B, samples)``, one value per clip ``(B,)``, impulse responses ``(B, taps)`` aligned as in
`dnslib.data.rooms`. Definitions, exact to rounding:
* SNR = energy of the speech as heard (reverberant) over energy of the noise, both over the whole crop;
* level = RMS of the mixture in dB of full scale, 20 log10(rms), so a full-scale square wave is at 0 dBFS.
Where the requested level would exceed full scale, mixture and target are attenuated together until the peak is 0.99:
the SNR stays exact, the level becomes lower than requested.
Source: CRUSE paper (arXiv 2101.09249), section 3: SNR N(5, 10) dB, level N(-28, 10) dBFS, early part as the target,
random spectral shaping.
"""

import torch
from scipy.fft import next_fast_len

from dnslib.data.rooms import EARLY, LEAD

PEAK = 0.99
_TINY = 1e-12
SHAPING = 3 / 8  # bound of the filter coefficients


def mix(
    speech: torch.Tensor, target: torch.Tensor, noise: torch.Tensor, snr_db: torch.Tensor, level_dbfs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mixture, target ``(B, samples)`` and gain ``(B,)`` of the speech as heard plus noise at an SNR and a level.

    The gain is what ``speech`` and ``target`` were multiplied by.
    """
    wanted = energy(speech) / (energy(noise) + _TINY) * 10 ** (-snr_db / 10)
    mixture = speech + noise * wanted.sqrt().unsqueeze(-1)
    rms = (energy(mixture) / mixture.shape[-1]).sqrt()
    gain = 10 ** (level_dbfs / 20) / (rms + _TINY)
    peak = torch.maximum(mixture.abs().amax(-1), target.abs().amax(-1)) * gain
    gain = gain * (PEAK / peak.clamp(min=PEAK))
    return mixture * gain.unsqueeze(-1), target * gain.unsqueeze(-1), gain


def energy(waveform: torch.Tensor) -> torch.Tensor:
    """Sum of squares, ``(B, samples) -> (B,)``."""
    return waveform.square().sum(-1)


def in_room(speech: torch.Tensor, responses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Speech as heard in the room, and its early part (the target), both in time with ``speech``."""
    samples = speech.shape[-1]
    size = fast_size(samples + responses.shape[-1])
    spectrum = torch.fft.rfft(speech, size)
    early = responses[..., : LEAD + EARLY + 1]
    heard, target = (
        torch.fft.irfft(spectrum * torch.fft.rfft(response, size), size)[..., LEAD : LEAD + samples]
        for response in (responses, early)
    )
    return heard, target


def shape(waveform: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Random spectral shaping: (1 + r1 z⁻¹ + r2 z⁻²) / (1 + r3 z⁻¹ + r4 z⁻²), ``coefficients`` (B, 4) in ±3/8.

    The poles lie within radius 0.83, so 1000 samples of padding keep the circular wrap below rounding.
    """
    samples = waveform.shape[-1]
    size = fast_size(samples + 1000)
    omega = torch.arange(size // 2 + 1, device=waveform.device) * (2 * torch.pi / size)
    z = torch.polar(torch.ones_like(omega), -omega)  # z⁻¹, (F,)
    r1, r2, r3, r4 = coefficients.unsqueeze(-1).unbind(1)  # each (B, 1)
    response = (1 + r1 * z + r2 * z * z) / (1 + r3 * z + r4 * z * z)
    return torch.fft.irfft(torch.fft.rfft(waveform, size) * response, size)[..., :samples]


def fast_size(least: int) -> int:
    """An even length of at least ``least`` that is fast to transform: torch takes twice as long for an odd one."""
    return 2 * next_fast_len((least + 1) // 2, real=True)
