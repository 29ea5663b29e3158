"""CRUSE: a causal U-Net with parallel GRUs that predicts one real gain per time-frequency bin.

Shapes: tensors are (B, C, T, F) = (batch, channels, frames, frequency bins) unless a comment says otherwise.
Source: CRUSE paper (arXiv 2101.09249), its network section; widths from §4 of arXiv 2110.04378.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from dnslib.errors import MisuseError, unwritable
from dnslib.gru import ParallelGru
from dnslib.paths import write_atomically
from dnslib.stft import BINS, HOP, istft, log_power, stft

LOUDEST = 1e10  # full scale is 1; samples beyond this are not sound
LEAKY_SLOPE = 0.2  # the paper does not state it; 0.2 is usual in convolutional U-Nets for speech
FIRST_GAIN_SPREAD = 0.2  # of the last layer's He initialisation
KERNEL = (2, 3)  # (time, frequency)
STRIDE = (1, 2)
BATCH_CLIPS = 12  # waveforms enhanced at once: twelve of 10 s need about 2 GB


def frequency_sizes(levels: int, bins: int = BINS) -> tuple[int, ...]:
    """Bins before and after each encoder, without padding in frequency: 161, 80, 39, 19, 9 for four levels."""
    sizes = [bins]
    for _ in range(levels):
        sizes.append((sizes[-1] - KERNEL[1]) // STRIDE[1] + 1)
    return tuple(sizes)


class Cruse(nn.Module):
    """The denoiser. ``forward(log_power: (B, 1, T, 161)) -> gain: (B, 1, T, 161)`` in (0, 1), causal in time.

    ``widths`` are the channels of the encoders, first to last; the decoders mirror them. The last one must be a
    multiple of ``groups``, the number of disconnected GRUs. With ``look_ahead`` the gain of frame t applies to frame
    t - look_ahead (`apply_gain`): the network has heard that many more frames when it decides, and the output is
    delayed by as many. The CRUSE paper has none.
    """

    def __init__(self, widths: Sequence[int], groups: int = 4, look_ahead: int = 0):
        super().__init__()
        if isinstance(widths, str):
            raise ValueError(f"widths are channel counts, such as CONFIGURATIONS[{widths!r}], not a name")
        widths = tuple(int(width) for width in widths)
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be positive channel counts, one per level, not {widths}")
        if groups < 1 or widths[-1] % groups:
            raise ValueError(f"the last width, {widths[-1]}, cannot be split into {groups} equal groups of channels")
        sizes = frequency_sizes(len(widths))
        if sizes[-1] < 1:
            raise ValueError(f"{len(widths)} levels are too many for {BINS} frequency bins")
        if look_ahead < 0:
            raise ValueError(f"a network looks 0 frames ahead or more, not {look_ahead}")
        self.widths, self.groups, self.look_ahead = widths, groups, look_ahead
        inputs = (1, *widths[:-1])
        self.encoders = nn.ModuleList(
            nn.Conv2d(c_in, c_out, KERNEL, STRIDE) for c_in, c_out in zip(inputs, widths, strict=True)
        )
        self.gru = ParallelGru(groups, widths[-1] * sizes[-1] // groups)
        self.skips = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths)
        # decoders[l] mirrors encoders[l]; an odd bin lost by the encoder comes back as output padding
        self.decoders = nn.ModuleList(
            CausalConvTranspose2d(c_out, c_in, KERNEL, STRIDE, output_padding=(0, lost))
            for c_in, c_out, lost in zip(inputs, widths, lost_bins(sizes), strict=True)
        )

        self._initialise()

    def _initialise(self) -> None:
        """He initialisation: signals keep their size through all levels.

        With PyTorch's default their power shrinks to a third at every layer, and the network first learns one gain for
        everything and stays there for a hundred steps.
        """
        for layer in (*self.encoders, *self.skips, *self.decoders):
            taps = layer.weight[0, 0].numel()
            inputs = layer.in_channels * taps / (STRIDE[1] if isinstance(layer, nn.ConvTranspose2d) else 1)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (1 + LEAKY_SLOPE**2) / inputs))
            nn.init.zeros_(layer.bias)
        self.decoders[0].weight.data *= FIRST_GAIN_SPREAD  # gains begin near one half, where the sigmoid has a slope

    def forward(self, log_power: torch.Tensor) -> torch.Tensor:
        x, skipped = log_power, []
        for encoder, skip in zip(self.encoders, self.skips, strict=True):
            x = functional.leaky_relu(encoder(functional.pad(x, (0, 0, 1, 0))), LEAKY_SLOPE)  # one past frame of zeros
            skipped.append(skip(x))
        x = self.recur(x)
        for level in reversed(range(len(self.widths))):
            x = self.decoders[level](x + skipped[level])
            x = functional.leaky_relu(x, LEAKY_SLOPE) if level else torch.sigmoid(x)
        return x

    def recur(self, x: torch.Tensor) -> torch.Tensor:
        """The parallel GRUs over (B, C, T, F): group g reads and writes channels [g C / P, (g + 1) C / P)."""
        batch, channels, frames, bins = x.shape
        x = x.transpose(1, 2).reshape(batch, frames, channels * bins)  # channel-major, so channels stay whole
        x = self.gru(x)
        return x.reshape(batch, frames, channels, bins).transpose(1, 2)


class CausalConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution, kernel (2, 3), stride (1, 2), whose frame t sees the input's frames t and t - 1.

    The same function as the parent's, cropped to the frames of its input, written as a convolution to twice the
    channels: bin 2 i + k of the output sums tap k of bin i, so even bins see taps 0 and 2 and odd bins tap 1. Ordinary
    convolutions have fast bfloat16 kernels on a CPU, transposed ones do not (eight times slower here).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bins = 2 * x.shape[3] + 1 + self.output_padding[1]
        x = functional.pad(x, (1, 1, 1, 0)).contiguous(memory_format=torch.channels_last)  # a frame of zeros before
        past, now = self.weight[:, :, 1], self.weight[:, :, 0]  # (C_in, C_out, 3 taps)
        taps = torch.stack((past, now), dim=2)  # (C_in, C_out, 2 frames, 3 taps)
        even = taps[..., [2, 0]]  # of the bins i - 1 and i
        odd = torch.stack((torch.zeros_like(taps[..., 1]), taps[..., 1]), dim=-1)
        weight = torch.cat((even, odd), dim=1).transpose(0, 1)  # (2 C_out, C_in, 2, 2)
        y = functional.conv2d(x, weight, self.bias.repeat(2))  # (B, 2 C_out, T, F + 1)
        y = y.permute(0, 2, 3, 1).unflatten(-1, (2, -1)).flatten(2, 3)  # parity next to the bin: (B, T, 2 F + 2, C_out)
        return y[:, :, :bins].permute(0, 3, 1, 2)


def lost_bins(sizes: Sequence[int]) -> tuple[int, ...]:
    """Bins at the upper edge that each encoder's stride leaves out: (0, 1, 0, 0) for 161, 80, 39, 19, 9."""
    return tuple(size - ((smaller - 1) * STRIDE[1] + KERNEL[1]) for size, smaller in pairwise(sizes))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in model.parameters())


def load_weights(model: Cruse, path: str | os.PathLike) -> Cruse:
    """Fill ``model`` with the weights of a safetensors file; evaluation mode. float16 weights become float32.

    Raises MisuseError for a file that is missing, truncated, not safetensors (a pickle, say) or of other widths.
    """
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise MisuseError(f"There is no file of weights {path}.") from None
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise MisuseError(f"{path} is not a whole safetensors file (a pickle? truncated?): {reason}.") from None
    if not all(tensor.is_floating_point() and tensor.isfinite().all() for tensor in weights.values()):
        raise MisuseError(f"{path} holds weights that are NaN, infinite or whole numbers.")
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise MisuseError(f"The weights in {path} do not fit a network of widths {model.widths}.") from None
    return model.eval()


def load_network(path: str | os.PathLike) -> Cruse:
    """The network of a safetensors file; widths and groups follow from the shapes, its metadata say the look-ahead.

    Raises MisuseError as `load_weights` does.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in list(file.keys())}
            facts = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise MisuseError(f"{path} is not a whole safetensors file: {str(error).splitlines()[0]}.") from None
    levels = sum(name.startswith("encoders.") and name.endswith(".weight") for name in shapes)
    try:
        widths = [shapes[f"encoders.{level}.weight"][0] for level in range(levels)]
        model = Cruse(widths, groups=shapes["gru.weight_ih"][0], look_ahead=int(facts.get("look_ahead", 0)))
    except (KeyError, IndexError, ValueError):
        raise MisuseError(f"{path} does not hold the weights of a CRUSE network.") from None
    return load_weights(model, path)


def save_weights(weights: Mapping[str, torch.Tensor], path: Path, facts: Mapping[str, object]) -> None:
    """Write a safetensors file, whole or not at all, with ``facts`` as its metadata.

    Raises MisuseError where it cannot be written.
    """
    try:
        with write_atomically(path) as temporary:
            save_file(dict(weights), temporary, metadata={name: str(value) for name, value in facts.items()})
            temporary.chmod(0o644)  # safetensors makes it readable by its owner only
    except SafetensorError:
        raise unwritable(path) from None


def apply_gain(model: nn.Module, noisy: torch.Tensor) -> torch.Tensor:
    """Enhanced waveforms ``(B, samples)`` from noisy ones: the gain multiplies the noisy spectrum. Differentiable.

    The gain put out at frame t applies to frame t - ``model.look_ahead``; after the end the network hears silence.
    """
    return with_gains(lambda power: model(power.unsqueeze(1)).squeeze(1).float(), noisy, model.look_ahead)


def with_gains(gains: Callable[[torch.Tensor], torch.Tensor], noisy: torch.Tensor, look_ahead: int = 0) -> torch.Tensor:
    """`apply_gain` with a function from log power to gains, both ``(..., T, F)``, for waveforms ``(..., samples)``."""
    spectrum = stft(functional.pad(noisy, (0, look_ahead * HOP)))  # (..., T + look_ahead, F)
    gain = gains(log_power(spectrum))[..., look_ahead:, :]
    return istft(spectrum[..., : gain.shape[-2], :] * gain, noisy.shape[-1])


def enhance(model: Cruse, noisy: np.ndarray) -> np.ndarray:
    """Denoise a whole 16 kHz waveform ``(samples,)``; the result is float32, equally long and aligned.

    Raises MisuseError (a ValueError) for an array that is not one non-empty, finite channel of floating-point samples.
    """
    return enhance_many(model, [noisy])[0]


@torch.inference_mode()
def enhance_many(model: Cruse, noisy: Sequence[np.ndarray]) -> list[np.ndarray]:
    """`enhance` of several waveforms; neighbours of equal length share a batch, which is ten times faster."""
    if not isinstance(model, nn.Module):
        raise MisuseError(f"Enhancing takes a network, such as dnslib.pretrained('P.500'), not {type(model).__name__}.")
    device = next(model.parameters()).device
    waveforms = [_checked(one) for one in noisy]
    was_training = model.training
    model.eval()
    enhanced: list[np.ndarray] = []
    try:
        for _, equally_long in groupby(waveforms, key=len):
            for batch in torch.from_numpy(np.stack(list(equally_long))).split(BATCH_CLIPS):
                enhanced += list(apply_gain(model, batch.to(device)).cpu().numpy())
    finally:
        model.train(was_training)
    return enhanced


def _checked(noisy: np.ndarray) -> np.ndarray:
    noisy = np.asarray(noisy)
    if noisy.ndim != 1 or noisy.size == 0:
        raise MisuseError(f"Enhancing takes one channel of samples, not an array of shape {noisy.shape}.")
    if not np.issubdtype(noisy.dtype, np.floating):
        raise MisuseError(f"Enhancing takes floating-point samples, full scale 1, not {noisy.dtype}.")
    if not np.isfinite(noisy).all() or np.abs(noisy).max() > LOUDEST:
        raise MisuseError(f"The waveform holds NaN or infinite samples, or some beyond {LOUDEST:g}; full scale is 1.")
    return np.ascontiguousarray(noisy, dtype=np.float32)
