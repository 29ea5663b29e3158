"""The shapes that are searched: a design, the space of designs, and what a trial finds about one."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dnslib import paper
from dnslib.errors import MisuseError
from dnslib.experiments import configuration_name
from dnslib.pruning import configure

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm, unused here; Optuna's first import
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

REFERENCE = "CRUSE32"


@dataclass(frozen=True)
class Design:
    """Widths of the four levels and the number of disconnected GRUs."""

    widths: tuple[int, ...]
    groups: int = 4

    @property
    def name(self) -> str:
        """The paper's name, or the widths; with the groups where they are not the paper's four."""
        return configuration_name(self.widths) + ("" if self.groups == Design.groups else f" / {self.groups}")

    @property
    def is_paper_configuration(self) -> bool:
        return self.groups == Design.groups and self.widths in paper.CONFIGURATIONS.values()


@dataclass(frozen=True)
class Space:
    """Which designs are searched: each width from ``lowest`` to ``widest`` in equal steps, and the groups.

    A proposal is brought into the paper's shape by its own rule, no level wider than the next (§4). Its GRUs have no
    more weights than those of ``widest`` in four groups: fewer groups get fewer channels.
    """

    lowest: tuple[int, ...] = (8, 16, 16, 32)
    widest: tuple[int, ...] = paper.CONFIGURATIONS[REFERENCE]
    steps: tuple[int, ...] = (8, 8, 16, 16)
    groups: tuple[int, ...] = (1, 2, 4, 8)

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        ranges = enumerate(zip(self.lowest, self.widest, self.steps, strict=True), start=1)
        return {f"c{level}": IntDistribution(low, high, step=step) for level, (low, high, step) in ranges} | {
            "groups": CategoricalDistribution(self.groups)
        }

    def design(self, parameters: Mapping[str, int]) -> Design:
        """The design that a proposal stands for: monotone from the right, the last level capped."""
        groups, step = parameters["groups"], self.steps[-1]
        cap = int(self.widest[-1] * (groups / Design.groups) ** 0.5) // step * step
        proposed = [parameters[f"c{level}"] for level in range(1, len(self.widest) + 1)]
        return Design(configure((*proposed[:-1], min(proposed[-1], cap)), 0), groups)

    def parameters(self, design: Design) -> dict[str, int]:
        """The proposal that stands for ``design``. Raises MisuseError for one outside the space."""
        values = {f"c{level}": width for level, width in enumerate(design.widths, start=1)} | {"groups": design.groups}
        inside = values.keys() == self.distributions.keys() and all(
            value in kind.choices
            if isinstance(kind, CategoricalDistribution)
            else kind.low <= value <= kind.high and (value - kind.low) % kind.step == 0
            for value, kind in ((values[name], kind) for name, kind in self.distributions.items())
        )
        if not inside or self.design(values) != design:
            raise MisuseError(f"{design.name} ({design.widths}, {design.groups} groups) lies outside the search space.")
        return values


@dataclass(frozen=True)
class Outcome:
    """What a trial found. Latency is a share of CRUSE32's in the same measurement, with its 95 % interval."""

    latency_ratio: float
    ci_low: float
    ci_high: float
    losses: tuple[float, ...]  # one per held-out crop, the same crops for every trial
    rounds_ms: tuple[float, ...] = ()  # median of each round, where all designs were timed in the same rounds

    @property
    def validation_loss(self) -> float:
        return float(np.mean(self.losses))


Evaluate = Callable[[Design], Outcome]
