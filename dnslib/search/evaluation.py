"""One trial: a design made from CRUSE32 and trained on, its latency beside CRUSE32's, its loss on held-out crops."""

from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import pandas as pd
import torch

from dnslib import data, export, paper, profiling, regrouping
from dnslib.digests import code_digest, record_digest
from dnslib.experiments import PLAIN, Laboratory, Run, source_digest
from dnslib.loss import PAPER, LossWeights, compressed_spectral_loss
from dnslib.model import Cruse, apply_gain
from dnslib.search.designs import REFERENCE, Design, Outcome
from dnslib.training import Batches

VALIDATION_SEED = 1  # of the held-out crops; 0 draws those of `training.validate`


@dataclass(frozen=True)
class Protocol:
    """How a trial is evaluated: steps of fine-tuning, held-out crops, rounds and frames of the latency, file form."""

    steps: int = 40
    crops: int = 32
    rounds: int = 10
    frames_per_round: int = 50
    form: str = PLAIN


class Evaluator:
    """Evaluates designs in a laboratory; ``folder`` is where a search with this protocol lies."""

    def __init__(self, laboratory: Laboratory, protocol: Protocol):
        self.laboratory, self.protocol = laboratory, protocol
        settings = laboratory.settings
        self.batches = data.Mixtures(
            laboratory.corpora.validation, VALIDATION_SEED, settings.batch_size, settings.crop_seconds
        )

    def run(self, design: Design) -> Run:
        """CRUSE32 pruned to the design and trained on for the protocol's steps."""
        return self.laboratory.slimmed(design.widths, design.groups, self.protocol.steps)

    def __call__(self, design: Design) -> Outcome:
        run, p = self.run(design), self.protocol
        losses = crop_losses(self.laboratory.load(run), self.batches, p.crops, run.loss)
        runs = {REFERENCE: self.laboratory.baseline(REFERENCE), "design": run}
        files = {name: self.laboratory.streaming_file(one, p.form) for name, one in runs.items()}
        table = profiling.measure_latency(files, p.rounds, p.frames_per_round, self_check=False).set_index("model")
        return Outcome(*latency_shares(table.loc["design"]), tuple(losses))

    @property
    def folder(self) -> Path:
        """Below ``outputs/search``, named by all that decides an outcome: another machine has another search."""
        reference = self.run(Design(paper.CONFIGURATIONS[REFERENCE]))  # whose key holds how all are trained
        about = asdict(self.protocol) | {"reference": reference.key, "seed": VALIDATION_SEED}
        about |= profiling.decisive(profiling.timing_conditions())
        about["own_code"] = [source_digest(export), source_digest(regrouping), code_digest([Path(__file__)])]
        return self.laboratory.outputs / "search" / record_digest(about)


def latency_shares(row: pd.Series) -> tuple[float, float, float]:
    """Latency as a share of the reference's, with its interval, from the speedup of a latency table."""
    return float(1 / row["speedup"]), float(1 / row["speedup_ci_high"]), float(1 / row["speedup_ci_low"])


@torch.inference_mode()
def crop_losses(model: Cruse, batches: Batches, crops: int, weights: LossWeights = PAPER) -> list[float]:
    """The training loss of each of the first ``crops`` held-out crops."""
    losses: list[float] = []
    for step in count():
        noisy, target = batches.batch(step)
        estimate = apply_gain(model, noisy)
        pairs = zip(estimate.split(1), target.split(1), strict=True)
        losses += [float(compressed_spectral_loss(*pair, weights)) for pair in pairs]
        if len(losses) >= crops:
            return losses[:crops]
