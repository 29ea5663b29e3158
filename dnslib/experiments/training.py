"""Trains the network of a run and fills the run's folder."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from dnslib import data, published
from dnslib.experiments.files import write_csv, write_json
from dnslib.experiments.runs import Run, code_digest, configuration_name, describe
from dnslib.machine import cpu_model, installed_version
from dnslib.model import Cruse, parameter_count, save_weights
from dnslib.paths import remove
from dnslib.pruning import sparsify, sparsity
from dnslib.regrouping import shrink
from dnslib.training import CHECKPOINT, Recipe, train, validate

PACKAGES = ("torch", "numpy", "scipy", "soxr")  # other versions may round differently
HISTORY = ("step", "loss", "learning_rate", "gradient_norm")  # columns; no row for a network that took no step


def train_network(run: Run, folder: Path, load: Callable[[Run], Cruse], corpora: Callable[[], data.Corpora]) -> None:
    """Fill the folder of a run. ``load`` gives the network it starts from; ``corpora`` are asked for where needed."""
    for leftover in folder.glob(".*.part*"):  # of a process that was killed while it wrote
        remove(leftover)
    write_json(folder / "config.json", asdict(run) | {"code": code_digest()})
    started = time.perf_counter()
    model, history = first_network(run, load), []
    if run.steps:
        recipe = Recipe(run.steps, run.learning_rate, run.weight_decay, freeze_zeros=run.sparsity > 0, loss=run.loss)
        batches = data.Mixtures(corpora().train, run.seed, run.batch_size, run.crop_seconds, device(), run.speed_change)
        history = train(model.to(device()), batches, recipe, folder, description=f"training {describe(run)}")
    model = model.cpu()
    write_csv(folder / "history.csv", pd.DataFrame(history, columns=HISTORY))
    save_weights(model.state_dict(), folder / "model.safetensors", {"look_ahead": model.look_ahead})
    write_json(folder / "summary.json", summary_of(run, model, time.perf_counter() - started, corpora))
    (folder / "DONE").touch()
    (folder / CHECKPOINT).unlink(missing_ok=True)  # last: without both, a kill in between would lose the training


def first_network(run: Run, load: Callable[[Run], Cruse]) -> Cruse:
    """The network before its first step."""
    if run.shipped:
        return published.pretrained(published.published_name(configuration_name(run.widths), run.look_ahead))
    if run.start is None:
        torch.manual_seed(run.seed)
        model = Cruse(run.widths, run.groups, run.look_ahead)
    else:
        model = shrink(load(run.start), run.widths, run.groups)
        model.look_ahead = run.look_ahead  # the start may have another one
    return sparsify(model, run.sparsity) if run.sparsity else model


def summary_of(run: Run, model: Cruse, seconds: float, corpora: Callable[[], data.Corpora]) -> dict:
    summary = {
        "parameters": parameter_count(model),
        "sparsity": sparsity(model),
        "seconds_of_last_session": seconds,
    }
    if run.data:
        held_out = data.Mixtures(corpora().validation, 0, run.batch_size, run.crop_seconds)
        summary["validation_loss"] = validate(model, held_out)
    summary["audio_seconds"] = run.steps * run.batch_size * run.crop_seconds
    summary |= {"cpu": cpu_model(), "device": device().type}
    summary["packages"] = {package: installed_version(package) for package in PACKAGES}
    return summary


def device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
