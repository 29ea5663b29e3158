"""The study's figures: each function takes a tidy table and returns a matplotlib Figure, finished and not yet shown.

Tables have one row per configuration, its name in ``configuration``, units in the column names and 95 % intervals in
``<column>_ci_low`` and ``<column>_ci_high``, or in plain ``ci_low`` and ``ci_high`` right after the column. Figures do
not touch the reader's own matplotlib settings, and say "quick run" in a corner unless ``profile`` is "full".

``look`` holds what all share, ``trade_offs`` speed against quality, ``speed`` latencies and speedups, ``differences``
forest plots, ``networks`` widths, importance and training curves, ``sound`` spectrograms.
"""

from dnslib.plots.differences import by_seed, equivalence, gains, intervals
from dnslib.plots.look import METRICS, colour, colours, error_bars, figure_function, needed, style
from dnslib.plots.networks import configurations, importance, training_curves
from dnslib.plots.sound import spectrograms
from dnslib.plots.speed import ladder, latency_bars, layer_shares, sparse_speedups
from dnslib.plots.trade_offs import pareto_front, quadratic_trend, speed_and_quality, spread

__all__ = [
    "METRICS", "by_seed", "colour", "colours", "configurations", "equivalence", "error_bars", "figure_function",
    "gains", "importance", "intervals", "ladder", "latency_bars", "layer_shares", "needed", "pareto_front",
    "quadratic_trend", "sparse_speedups", "spectrograms", "speed_and_quality", "spread", "style", "training_curves",
]  # fmt: skip
