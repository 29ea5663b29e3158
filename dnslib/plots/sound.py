"""Spectrograms."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dnslib.errors import MisuseError
from dnslib.plots.look import figure_function


@figure_function
def spectrograms(waveforms: Mapping[str, np.ndarray], sample_rate: int = 16_000, range_db: float = 70.0) -> Figure:
    """Spectrograms of waveforms (samples,), stacked, on one scale of dB relative to the loudest bin of all."""
    if not waveforms:
        raise MisuseError("There is no waveform to draw.")
    powers = {label: power_db(waveform) for label, waveform in waveforms.items()}
    top = max(power.max() for power in powers.values())
    figure, panels = plt.subplots(
        len(powers), 1, sharex=True, sharey=True, squeeze=False, figsize=(9, 1.9 * len(powers) + 0.6)
    )
    for axes, (label, power) in zip(panels[:, 0], powers.items(), strict=True):
        seconds = len(waveforms[label]) / sample_rate
        image = axes.imshow(
            power.T - top,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-range_db,
            vmax=0,
            extent=(0, seconds, 0, sample_rate / 2000),
        )
        axes.set_title(label)
        axes.set_ylabel("kHz")
        axes.grid(visible=False)
    panels[-1, 0].set_xlabel("time, s")
    figure.colorbar(image, ax=panels, label="dB relative to the loudest bin", pad=0.01)
    return figure


def power_db(waveform: np.ndarray, window: int = 512, hop: int = 128) -> np.ndarray:
    """Power (frames, bins) in dB under a Hann window, with a floor far below anything audible."""
    waveform = np.pad(np.asarray(waveform, dtype=np.float64), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]
    return 10 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2 + 1e-12)
