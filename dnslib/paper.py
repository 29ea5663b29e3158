"""What the paper states, as data: configurations, claims, published figures.

Source: Chee, Braun, Gopal, Cutler, *Performance optimizations on deep noise suppression models*, arXiv 2110.04378.
A figure the text does not print is ``None``; the numbers inside the paper's tables are not part of this project.
"""

from dataclasses import dataclass

CONFIGURATIONS: dict[str, tuple[int, int, int, int]] = {
    "CRUSE32": (32, 64, 128, 256),
    "P.125": (32, 64, 128, 224),
    "P.250": (32, 64, 128, 192),
    "P.375": (32, 64, 128, 160),  # our reading of the "8 configurations", whose list is not available to us
    "P.500": (32, 64, 128, 128),
    "P.5625": (32, 64, 112, 112),
    "P.625": (32, 64, 96, 96),
    "P.750": (32, 64, 64, 64),
    "P.875": (32, 32, 32, 32),
    "CRUSE16": (16, 32, 64, 128),
}
PRUNED = tuple(name for name in CONFIGURATIONS if name.startswith("P."))

NOT_PUBLISHED = "not published in the text"


def pruning_ratio(name: str) -> float:
    """The p of a configuration named ``P.…``: ``pruning_ratio("P.625") == 0.625``; 0 for the baselines."""
    return float(name[1:]) if name.startswith("P.") else 0.0


@dataclass(frozen=True)
class Claim:
    """One testable statement of the paper, in our words."""

    id: str
    statement: str
    where: str
    published: str
    notebook: str


CLAIMS: tuple[Claim, ...] = (
    Claim("C1", "the GRUs dominate the inference time of CRUSE32", "§4, Table 1", "“dominates”", "04_1_profile"),
    Claim(
        "C2",
        "complexity falls smoothly while quality falls slowly",
        "§5, Figure 1",
        "quadratic trend lines with R²",
        "05_0_speed_and_quality",
    ),
    Claim(
        "C3",
        "a middle configuration (P.500) loses almost nothing",
        "§5",
        "3.64x less memory, 2.46x faster, −0.01 OVRL",
        "05_0_speed_and_quality",
    ),
    Claim(
        "C4",
        "the smallest configuration (P.875) is much faster at a small cost",
        "§1, §5",
        "7.25x faster, −0.2 OVRL",
        "05_0_speed_and_quality",
    ),
    Claim(
        "C5",
        "the lightest pruning (P.125) beats the baseline, as it trains further",
        "§5",
        "OVRL(P.125) > OVRL(CRUSE32)",
        "05_0_speed_and_quality",
    ),
    Claim(
        "C6",
        "at equal complexity the pruned configurations sound better than CRUSE16",
        "§5.1",
        "CRUSE16 between P.500 and P.5625 in memory and latency; SIG and OVRL lower, BAK the same",
        "05_0_speed_and_quality",
    ),
    Claim(
        "C7",
        "pruning and fine-tuning ends where training that size directly does",
        "§5.1, Table 3",
        "“virtually indistinguishable”",
        "05_1_ablation",
    ),
    Claim(
        "C8",
        "tuning the learning rate of the fine-tuning does not help",
        "§5.1, Table 4",
        "the original learning rate is selected",
        "05_1_ablation",
    ),
    Claim(
        "C9", "fine-tuning is essential after structured pruning", "§5.2, Table 6", "about +1 MOS", "05_2_fine_tuning"
    ),
    Claim(
        "C10",
        "unstructured pruning of GRU weights hardly hurts, so fine-tuning has little to recover",
        "§5.2, Table 7",
        "trend",
        "05_2_fine_tuning",
    ),
    Claim(
        "C11",
        "sparsity is not speed: zeroed GRU weights change nothing in ONNX Runtime",
        "§5.3, Table 8",
        "overlapping 95 % intervals",
        "05_3_sparsity",
    ),
    Claim(
        "C12",
        "the configuration rule carries over to other symmetric encoder-decoders",
        "§4, §6",
        "general",
        "04_2_configurations",
    ),
    Claim(
        "C13",
        "parameter count is not an accurate proxy for latency",
        "§1, §5.3",
        "memory ratio differs from speedup",
        "04_2_configurations",
    ),
)


@dataclass(frozen=True)
class Published:
    """Figures of one configuration against CRUSE32 that the text prints; None where it does not."""

    compression_ratio: float | None = None
    speedup: float | None = None
    delta_ovrl: float | None = None


PUBLISHED: dict[str, Published] = {name: Published() for name in CONFIGURATIONS} | {
    "P.500": Published(compression_ratio=3.64, speedup=2.46, delta_ovrl=-0.01),
    "P.875": Published(speedup=7.25, delta_ovrl=-0.2),
}
PUBLISHED_FINE_TUNING_GAIN_MOS = 1.0  # §5.2, "about"
