"""A `Run` says all that decides a network; its key is that of its folder."""

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from dnslib import digests, paper
from dnslib.errors import MisuseError, unknown
from dnslib.loss import PAPER, LossWeights

LOSSES = {  # by the setting `loss`; the second one was found by DNSMOS on validation clips, see the model card
    "paper": PAPER,
    "weighted": LossWeights(complex_share=0.15, over_suppression=2.0, pauses=0.2),
}

_CODE = (  # the content of the data has its own digest
    "gru.py", "model.py", "sampling.py", "stft.py", "loss.py", "training.py", "pruning.py", "regrouping.py",
    "data/mixing.py", "data/mixtures.py", "data/corpora.py", "data/samples.py", "data/rooms.py",
    "experiments/training.py",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """All that decides a network's weights. ``steps`` 0 is a network not trained (further)."""

    widths: tuple[int, ...]
    steps: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    batch_size: int = 32
    crop_seconds: float = 4.0
    seed: int = 0
    data: str = ""  # digest of the corpora
    sparsity: float = 0.0  # share of GRU weights set to zero at the start, and kept there
    start: "Run | None" = None  # the network this one is pruned from; None: random weights
    groups: int = 4
    speed_change: float = 0.0  # of training crops, see `data.Mixtures`
    loss: LossWeights = PAPER
    look_ahead: int = 0  # frames, see `Cruse`
    shipped: str = ""  # digest of the pretrained weights, where the network has these

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits of the record and the code that trains it."""
        return digests.record_digest(asdict(self) | {"code": code_digest()})

    @property
    def total_steps(self) -> int:
        """Optimiser steps from random weights to these."""
        return self.steps + (self.start.total_steps if self.start else 0)

    @property
    def name(self) -> str:
        """A folder name that a person recognises: configuration, what was done, hash."""
        sparse = f"-sparse{self.sparsity:g}" if self.sparsity else ""
        tuned = "-tuned" if self.start and self.steps else "-pruned" if self.start else ""
        groups = f"-{self.groups}groups" if self.groups != Run.groups else ""
        return f"{configuration_name(self.widths)}{groups}{sparse}{tuned}-seed{self.seed}-{self.key}"


def configuration_name(widths: tuple[int, ...]) -> str:
    """The paper's name of these widths, or the widths joined by x."""
    names = {value: name for name, value in paper.CONFIGURATIONS.items()}
    return names.get(tuple(widths), "x".join(map(str, widths)))


def widths_of(name: str) -> tuple[int, ...]:
    """The widths of a named configuration; MisuseError with the known names for another."""
    if name not in paper.CONFIGURATIONS:
        raise MisuseError(unknown("configuration", name, paper.CONFIGURATIONS))
    return paper.CONFIGURATIONS[name]


def describe(run: Run) -> str:
    """A run in a few words, for progress lines."""
    words = [configuration_name(run.widths)]
    words += [f"in {run.groups} groups"] if run.groups != Run.groups else []
    words += [f"{run.sparsity:.0%} sparse"] if run.sparsity else []
    if run.start and run.steps and not run.sparsity:
        words.append("trained further" if run.start.widths == run.widths else "after pruning")
    return " ".join(words) + (f", seed {run.seed}" if run.seed else "")


def identity(run: Run) -> dict[str, object]:
    """What tells the networks of a study apart, by column of a table.

    ``started_from`` is the configuration whose weights it began with, empty for random ones; ``sparsity`` the share of
    zeros among its GRU weights; ``steps`` are its own, 0 where it was only pruned, ``total_steps`` those from random
    weights.
    """
    return {
        "configuration": configuration_name(run.widths),
        "started_from": configuration_name(run.start.widths) if run.start else "",
        "sparsity": run.sparsity,
        "learning_rate": run.learning_rate,
        "steps": run.steps,
        "total_steps": run.total_steps,
        "seed": run.seed,
    }


@cache
def code_digest() -> str:
    """Digest of the sources that decide a trained network: changed code never finds an old network."""
    package = Path(__file__).parents[1]
    return digests.code_digest(package / name for name in _CODE)
