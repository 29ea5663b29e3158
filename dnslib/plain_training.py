"""The plain way to train CRUSE, for comparison: ``torch.nn.GRU``, ``ConvTranspose2d`` and float32 in a simple loop.

`compare` trains the same network on the same batches both ways, plainly and by `dnslib.training`, and times both. Each
training has a process to itself: the study's loop tells the allocator to keep memory, which made a plain loop
after it in the same process a tenth faster. The plain network is also an independent second implementation of the same
function, which tests compare with `dnslib.model`.

Shapes: (B, C, T, F) = (batch, channels, frames, frequency bins).
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional

from dnslib import processes
from dnslib.data import Mixtures
from dnslib.data.preparation import open_corpora
from dnslib.intervals import student_interval
from dnslib.loss import compressed_spectral_loss
from dnslib.machine import one_torch_thread
from dnslib.model import KERNEL, LEAKY_SLOPE, STRIDE, Cruse, apply_gain
from dnslib.progress import track
from dnslib.training import GRADIENT_CLIP, Batches, Recipe, learning_rate_at, train

LOOPS, MIXING = ("plain", "study"), "mixing"
WARM_UP_STEPS = 2  # kernels are compiled in the first step of a process, memory is taken in the first two


class PlainCruse(nn.Module):
    """The network of a `Cruse` built from PyTorch's own layers, with a copy of its weights."""

    def __init__(self, model: Cruse):
        super().__init__()
        self.look_ahead = model.look_ahead
        self.encoders = nn.ModuleList(_copied(nn.Conv2d, layer, KERNEL, STRIDE) for layer in model.encoders)
        self.skips = nn.ModuleList(_copied(nn.Conv2d, layer, 1, 1) for layer in model.skips)
        self.decoders = nn.ModuleList(
            _copied(nn.ConvTranspose2d, layer, KERNEL, STRIDE, output_padding=layer.output_padding)
            for layer in model.decoders
        )
        self.grus = nn.ModuleList(_copied_gru(model.gru, group) for group in range(model.groups))

    def forward(self, log_power: torch.Tensor) -> torch.Tensor:
        """Gain of the log power, both ``(B, 1, T, 161)``."""
        x, skipped = log_power, []
        for encoder, skip in zip(self.encoders, self.skips, strict=True):
            x = functional.leaky_relu(encoder(functional.pad(x, (0, 0, 1, 0))), LEAKY_SLOPE)
            skipped.append(skip(x))
        batch, channels, frames, bins = x.shape
        parts = x.transpose(1, 2).reshape(batch, frames, channels * bins).chunk(len(self.grus), dim=-1)
        x = torch.cat([gru(part)[0] for gru, part in zip(self.grus, parts, strict=True)], dim=-1)
        x = x.reshape(batch, frames, channels, bins).transpose(1, 2)
        for level in reversed(range(len(self.decoders))):
            x = self.decoders[level](x + skipped[level])[:, :, :frames]  # without the last frame, which is the future's
            x = functional.leaky_relu(x, LEAKY_SLOPE) if level else torch.sigmoid(x)
        return x


def _copied(kind: type[nn.Module], layer: nn.Module, kernel, stride, **more) -> nn.Module:
    copy = kind(layer.in_channels, layer.out_channels, kernel, stride, **more)
    copy.load_state_dict(layer.state_dict())
    return copy


def _copied_gru(grus: nn.Module, group: int) -> nn.GRU:
    copy = nn.GRU(grus.size, grus.size, batch_first=True)
    copy.load_state_dict({f"{name}_l0": parameter[group] for name, parameter in grus.named_parameters()})
    return copy


def train_plainly(model: PlainCruse, batches: Batches, recipe: Recipe) -> list[float]:
    """Train in place, in float32, mixing each batch when it is needed; returns the loss of every step."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    losses = []
    for step in range(recipe.steps):
        noisy, target = batches.batch(step)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, recipe)
        optimiser.zero_grad()
        loss = compressed_spectral_loss(apply_gain(model, noisy), target, recipe.loss)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@dataclass(frozen=True)
class Race:
    """What both loops train: a network of ``widths`` on crops of the training split of the corpora in a folder."""

    widths: tuple[int, ...]
    corpora: str  # `dnslib.data.Corpora.folder`
    batch_size: int
    crop_seconds: float
    recipe: Recipe

    @property
    def audio_seconds(self) -> float:
        """Length of the audio in a batch."""
        return self.batch_size * self.crop_seconds

    def batches(self, seed: int, device: str = "cpu") -> Mixtures:
        """The training batches of a seed."""
        return Mixtures(open_corpora(Path(self.corpora)).train, seed, self.batch_size, self.crop_seconds, device)

    def here(self, loop: str, seed: int, device: str = "cpu") -> dict:
        """`timed` in this process, mixing and training on a device."""
        return timed(loop, self.widths, self.batches(seed, device), self.recipe, seed, device=device)

    def apart(self, loop: str, seed: int) -> dict:
        """`timed`, the loops in a fresh process. Raises as `processes.ask` does."""
        if loop == MIXING:
            return self.here(loop, seed)
        return processes.ask("dnslib.plain_training", loop, seed, json.dumps(asdict(self)))


def timed(
    loop: str,
    widths: Sequence[int],
    batches: Batches,
    recipe: Recipe,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
    device: str = "cpu",
) -> dict:
    """One training, after two steps on a copy of the network to warm up: ``losses`` of the steps, ``seconds`` a step.

    ``loop`` is plain or study, whose clock covers all of it, mixing included; or mixing: the time to mix the batches on
    one thread, which `dnslib.training` does during the step before, with a loss of NaN.
    """
    if loop == MIXING:
        return {"losses": [float("nan")], "seconds": _seconds_to_mix(batches, recipe.steps, clock)}
    torch.manual_seed(seed)
    model = Cruse(widths).to(device)
    _run(loop, deepcopy(model), batches, replace(recipe, steps=WARM_UP_STEPS))
    started = clock()
    losses = _run(loop, model, batches, recipe)
    return {"losses": losses, "seconds": (clock() - started) / recipe.steps}


def compare(run: Callable[[str, int], dict], seeds: Sequence[int]) -> pd.DataFrame:
    """Train both ways, one after the other, for every seed: one row per step with ``seed, loop, step, loss, seconds``.

    ``run(loop, seed)`` is what `timed` gives: `Race.apart`. Both loops start from the same weights and see the same
    batches; which goes first alternates. A further "loop" named mixing comes last.
    """
    rows: list[dict] = []
    for turn, seed in enumerate(track(seeds, description="races")):
        for loop in (*(LOOPS if turn % 2 == 0 else reversed(LOOPS)), MIXING):
            result = run(loop, seed)
            rows += [
                {"seed": seed, "loop": loop, "step": step, "loss": loss, "seconds": result["seconds"]}
                for step, loss in enumerate(result["losses"])
            ]
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame, audio_seconds: float) -> pd.DataFrame:
    """One row per loop of `compare`: ``seconds`` a step, ``audio_seconds_per_second``, ``speedup`` over the plain loop.

    ``audio_seconds`` is the length of a batch. Speedups are geometric means over the seeds, paired by seed, with
    ``speedup_ci_low`` and ``speedup_ci_high`` from Student's t on their logarithms: seeds are few (two at least).
    """
    seconds = table.groupby(["loop", "seed"])["seconds"].first().unstack("loop")[[*LOOPS, MIXING]]
    rows = []
    for loop, times in seconds.items():
        logarithms = np.log(seconds["plain"] / times)
        low, high = student_interval(logarithms)
        rows.append(
            {"loop": loop, "seeds": len(times), "seconds": times.mean(),
             "audio_seconds_per_second": audio_seconds / times.mean(), "speedup": np.exp(logarithms.mean()),
             "speedup_ci_low": np.exp(low), "speedup_ci_high": np.exp(high)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _seconds_to_mix(batches: Batches, steps: int, clock: Callable[[], float]) -> float:
    with one_torch_thread():
        started = clock()
        for step in range(steps):
            batches.batch(step)
        return (clock() - started) / steps


def _run(loop: str, model: Cruse, batches: Batches, recipe: Recipe) -> list[float]:
    if loop == "plain":
        device = next(model.parameters()).device
        return train_plainly(PlainCruse(model).to(device).train(), batches, recipe)
    with tempfile.TemporaryDirectory() as folder:
        return [row["loss"] for row in train(model, batches, recipe, Path(folder))]


def _main(loop: str, seed: str, race: str) -> None:
    processes.answer(lambda: TypeAdapter(Race).validate_json(race).here(loop, int(seed)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
