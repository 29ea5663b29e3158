"""Which runs a study has: from names, as tables and figures use them, to the records of all that decides a network."""

from dataclasses import replace
from functools import cached_property

from dnslib import data, paper, published
from dnslib.errors import MisuseError
from dnslib.experiments.runs import LOSSES, Run, widths_of
from dnslib.settings import Settings

CYCLE_SEEDS = 1000  # between the seeds of a baseline's cycles; the seeds of a study are below


class Catalogue:
    """The runs of one study. Nothing is trained here, but a run needs the digest of the data, so they are prepared."""

    def __init__(self, settings: Settings):
        self.settings = settings

    @cached_property
    def corpora(self) -> data.Corpora:
        """The training, validation and test material; prepared once."""
        return data.prepare(self.settings)

    def untrained(self, name: str) -> Run:
        """Random weights of a configuration: enough for parameters, memory and latency. Needs no data."""
        return Run(widths_of(name), seed=self.settings.seed)

    def baseline(self, name: str = "CRUSE32", seed: int | None = None, steps: int | None = None) -> Run:
        """A configuration trained from scratch, in the settings' cycles; ``steps`` are those of the last one.

        Every cycle begins with the weights of the one before, a fresh schedule and batches of its own, so a finished
        training is extended by asking for one cycle more (warm restarts, arXiv 1608.03983). With the setting
        ``pretrained`` CRUSE32 is the one bundled with the project, for every seed.
        """
        s, run = self.settings, None
        if s.pretrained and name == "CRUSE32":
            return self.shipped(name)
        first = s.seed if seed is None else seed
        for cycle in range(s.baseline_cycles):
            run = self._trained(widths_of(name), first + cycle * CYCLE_SEEDS, s.baseline_steps, run)
        return replace(run, steps=steps or s.baseline_steps)

    def shipped(self, name: str) -> Run:
        """The bundled weights of a configuration (`dnslib.published`), with the settings' look-ahead.

        Raises MisuseError where there are none.
        """
        ahead = self.settings.look_ahead
        found = published.published_name(name, ahead)
        if found not in (available := published.available()) or published.look_ahead(found) != ahead:
            there = ", ".join(f"{one} ({published.look_ahead(one)})" for one in available) or "none"
            raise MisuseError(
                f"No bundled weights of {name} look {ahead} frames ahead; there are {there}. "
                "Change look_ahead, or leave pretrained out."
            )
        digest = published.digest(found)
        return Run(widths_of(name), seed=self.settings.seed, data=self.corpora.digest, look_ahead=ahead, shipped=digest)

    def direct(self, name: str, seed: int | None = None) -> Run:
        """Trained from scratch for as many steps as the baseline and the fine-tuning together (Table 3)."""
        return self.baseline(name, seed, self.settings.baseline_steps + self.settings.fine_tuning_steps)

    def pruned(self, name: str, seed: int | None = None) -> Run:
        """CRUSE32 sliced to a configuration, not fine-tuned (Table 6)."""
        return self._trained(widths_of(name), seed, 0, start=self.baseline(seed=seed))

    def fine_tuned(self, name: str, seed: int | None = None, learning_rate: float | None = None) -> Run:
        """CRUSE32 sliced to a configuration and trained on, by default with the original hyper-parameters."""
        start = self.baseline(seed=seed)
        return self._trained(widths_of(name), seed, self.settings.fine_tuning_steps, start, learning_rate)

    def sparse(self, fraction: float, fine_tuned: bool, seed: int | None = None) -> Run:
        """CRUSE32 with this share of its GRU weights set to zero (Table 7)."""
        start, steps = self.baseline(seed=seed), self.settings.fine_tuning_steps if fine_tuned else 0
        return self._trained(start.widths, seed, steps, start, sparsity=fraction)

    def network(self, name: str, seed: int | None = None) -> Run:
        """What Figure 1 shows under a name: the baselines from scratch, the others pruned and fine-tuned.

        With the setting ``pretrained``, the pretrained weights of the names that have some.
        """
        s = self.settings
        if s.pretrained and published.published_name(name, s.look_ahead) in published.available():
            return self.shipped(name)
        return self.fine_tuned(name, seed) if name in paper.PRUNED else self.baseline(name, seed)

    def slimmed(self, widths: tuple[int, ...], groups: int, steps: int, seed: int | None = None) -> Run:
        """CRUSE32 pruned to any widths and number of GRUs (`regrouping.shrink`), and trained on for ``steps``."""
        return replace(self._trained(widths, seed, steps, self.baseline(seed=seed)), groups=groups)

    def _trained(self, widths, seed, steps, start=None, learning_rate=None, sparsity=0.0) -> Run:
        s = self.settings
        return Run(
            widths=tuple(widths),
            steps=steps,
            learning_rate=s.learning_rate if learning_rate is None else learning_rate,
            weight_decay=s.weight_decay,
            batch_size=s.batch_size,
            crop_seconds=s.crop_seconds,
            seed=s.seed if seed is None else seed,
            data=self.corpora.digest,
            sparsity=sparsity,
            start=start,
            speed_change=s.speed_change,
            loss=LOSSES[s.loss],
            look_ahead=s.look_ahead,
        )
