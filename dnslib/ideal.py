"""The gain that a network would give if it knew the clean voice: a yardstick, not a proven limit.

A network of this study multiplies magnitudes by at most 1 and leaves the noisy phase. The spectral magnitude mask comes
as near to the clean magnitudes as such a gain can. Source: Y. Wang, A. Narayanan, D. Wang, "On training targets for
supervised speech separation", 2014, doi:10.1109/TASLP.2014.2352935, called FFT-MASK there; here without gains above 1.
"""

import numpy as np
import torch

from dnslib.errors import MisuseError
from dnslib.stft import istft, stft

_TINY = 1e-9  # keeps the quotient of two silences finite


def enhance_ideally(noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Noisy waveform with the gain min(|S| / |X|, 1) on each bin of its spectrum X; S is that of the clean voice.

    Both are ``(samples,)``, 16 kHz, in time with each other; float32 comes back. Raises MisuseError if lengths differ.
    """
    if np.shape(noisy) != np.shape(clean):
        raise MisuseError(f"The clean voice has shape {np.shape(clean)}, the noisy one {np.shape(noisy)}.")
    spectrum, voice = (stft(torch.from_numpy(np.asarray(one, dtype=np.float32))) for one in (noisy, clean))
    gain = (voice.abs() / (spectrum.abs() + _TINY)).clamp(max=1.0)
    return istft(spectrum * gain, len(noisy)).numpy()
