"""The training loop: the same code for baselines, fine-tuning, direct training and sparse fine-tuning.

A training is resumable at any step: batches are a pure function of (seed, step), the network has no randomness, and
a checkpoint holds weights, optimiser and history. Killed and started again, it ends with the weights of an
uninterrupted one (same machine, same threads).
Source of the recipe: CRUSE paper (arXiv 2101.09249); what differs is listed in the README.
"""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol

import torch

from dnslib.errors import MisuseError, unwritable
from dnslib.loss import PAPER, LossWeights, compressed_spectral_loss
from dnslib.machine import keep_freed_memory
from dnslib.model import Cruse, apply_gain
from dnslib.paths import write_atomically
from dnslib.progress import track
from dnslib.pruning import gru_weights

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 20.0
WARM_UP_SHARE = 0.05  # of the steps; then the learning rate follows half a cosine down to zero
GRADIENT_CLIP = 1.0  # L2 norm; GRUs jump at high learning rates without one
VALIDATION_BATCHES = 2
_PREFETCHED = 2  # batches mixed ahead


class Batches(Protocol):
    """Anything that gives the (noisy, target) waveforms of a step, ``(B, samples)`` each, and always the same ones."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]: ...


class Diverged(RuntimeError):
    """The loss is no longer finite. Batches are deterministic, so a second try would fail too."""


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training. AdamW; linear warm-up, then a cosine to zero."""

    steps: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    freeze_zeros: bool = False  # sparse fine-tuning: GRU weights that are zero at the start stay zero
    loss: LossWeights = PAPER


def learning_rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate of step 0, 1, …, steps - 1."""
    warm_up = max(1, round(WARM_UP_SHARE * recipe.steps))
    if step < warm_up:
        return recipe.learning_rate * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, recipe.steps - warm_up)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def train(model: Cruse, batches: Batches, recipe: Recipe, folder: Path, description: str = "training") -> list[dict]:
    """Train ``model`` in place, continuing from the checkpoint in ``folder`` if there is one.

    Returns the history: one row per step with step, loss, learning_rate, gradient_norm. Raises Diverged when the
    loss is not finite.
    """
    keep_freed_memory()
    device = next(model.parameters()).device
    parameters = model.parameters()
    optimiser = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    masks = [weight.detach() != 0 for weight in gru_weights(model)] if recipe.freeze_zeros else []
    history = _load_checkpoint(folder / CHECKPOINT, model, optimiser)
    model.train().to(memory_format=torch.channels_last)
    saved = time.monotonic()
    steps = range(len(history), recipe.steps)
    for step, (noisy, target) in zip(track(steps, description=description), prefetched(batches, steps), strict=False):
        rate = learning_rate_at(step, recipe)
        loss, norm = _step(model, optimiser, rate, noisy.to(device), target.to(device), recipe.loss)
        if not math.isfinite(loss):
            raise Diverged(f"{description}: the loss is {loss} at step {step}.")
        _reapply(masks, model)
        history.append({"step": step, "loss": loss, "learning_rate": rate, "gradient_norm": norm})
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            _save_checkpoint(folder / CHECKPOINT, model, optimiser, history)
            saved = time.monotonic()
    model.eval().to(memory_format=torch.contiguous_format)
    return history


@torch.inference_mode()
def validate(model: Cruse, batches: Batches) -> float:
    """Mean loss over the first two batches of a held-out split; always the paper's loss."""
    model.eval()
    losses = []
    for step in range(VALIDATION_BATCHES):
        noisy, target = batches.batch(step)
        losses.append(float(compressed_spectral_loss(apply_gain(model, noisy), target)))
    return sum(losses) / len(losses)


def _step(
    model, optimiser, rate: float, noisy: torch.Tensor, target: torch.Tensor, weights: LossWeights
) -> tuple[float, float]:
    """One optimiser step; the loss and the norm of its gradient."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    with reduced_precision(noisy.device):
        estimate = apply_gain(model, noisy)
    loss = compressed_spectral_loss(estimate, target, weights)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
    optimiser.step()
    return float(loss.detach()), float(norm)


def reduced_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 autocast where the processor multiplies it natively, else float32 (emulation is slower)."""
    capabilities = torch.cpu.get_capabilities()
    native = device.type == "cuda" or capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.autocast(device.type, torch.bfloat16) if native else contextlib.nullcontext()


def prefetched(batches: Batches, steps: range) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of ``steps`` in order, mixed by one background thread on one core beside the optimiser step."""
    ready: queue.Queue = queue.Queue(_PREFETCHED)
    stop = threading.Event()

    def fill() -> None:
        torch.set_num_threads(1)  # of this thread, and of those started later: see below
        try:
            for step in steps:
                if stop.is_set():  # the loop was left: mix nothing more
                    break
                _put(ready, batches.batch(step), stop)
        except BaseException as error:  # handed to the loop, which raises it
            _put(ready, error, stop)

    thread = threading.Thread(target=fill, daemon=True)
    threads = torch.get_num_threads()
    thread.start()
    try:
        for _ in steps:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
        torch.set_num_threads(threads)


def _put(ready: queue.Queue, item, stop: threading.Event) -> None:
    while not stop.is_set():
        with contextlib.suppress(queue.Full):
            return ready.put(item, timeout=0.1)


def _reapply(masks: list[torch.Tensor], model: Cruse) -> None:
    with torch.no_grad():
        for mask, weight in zip(masks, gru_weights(model), strict=False):
            weight *= mask


def _save_checkpoint(path: Path, model, optimiser, history: list[dict]) -> None:
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "history": history}
    try:
        with write_atomically(path) as temporary:
            torch.save(state, temporary)
    except RuntimeError:  # of PyTorch's writer
        raise unwritable(path) from None


def _load_checkpoint(path: Path, model, optimiser) -> list[dict]:
    if not path.exists():
        return []
    try:
        state = torch.load(path, weights_only=True, map_location=next(model.parameters()).device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return state["history"]
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, UnpicklingError):
        raise MisuseError(f"The checkpoint {path} is damaged: delete it, and this training begins anew.") from None
