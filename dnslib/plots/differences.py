"""Values with their intervals against a value that means no difference, or a margin that means equivalence."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dnslib.errors import MisuseError
from dnslib.plots.look import EARLIER, INK, METRICS, colour, colours, error_bars, figure_function, name_rows, needed


@figure_function
def intervals(
    table: pd.DataFrame, metric: str = "delta_ovrl", xlabel: str | None = None, neutral: float = 0.0
) -> Figure:
    """Forest plot: a value and its 95 % interval by configuration; hollow where the interval contains ``neutral``."""
    needed(table, ["configuration", metric])
    bars = error_bars(table, metric)
    if bars is None:
        raise MisuseError(f"The table has no interval for {metric}: {metric}_ci_low and {metric}_ci_high.")
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(table) + 1.3))
    axes.axvline(neutral, color=INK, linewidth=1.2, zorder=1, label="neutral")
    shades = colours(table["configuration"])
    for row, (name, value) in enumerate(zip(table["configuration"], table[metric], strict=True)):
        low, high = value - bars[0, row], value + bars[1, row]
        decided = low > neutral or high < neutral  # neither where the interval is not known
        axes.errorbar(
            value,
            row,
            xerr=bars[:, [row]],
            fmt="o",
            color=shades[name],
            markerfacecolor=shades[name] if decided else "white",
            markersize=8,
            elinewidth=2.4,
            label=name,
        )
        end = value + bars[1, row]
        note = (f"{value:+.2f}" if neutral == 0 else f"{value:.2f}").replace("-", "−")
        box = {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 1.5}  # it may lie on the zero line
        axes.annotate(note, (end, row), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9, bbox=box)
    name_rows(axes, table["configuration"])
    axes.margins(x=0.12)
    axes.set_xlabel((xlabel or metric) + "   (95 % interval; hollow: not decided)")
    return figure


@figure_function
def by_seed(table: pd.DataFrame, metric: str = "delta_ovrl", xlabel: str | None = None) -> Figure:
    """A value by configuration, once for each ``seed``, from top to bottom: how much of it is luck of training.

    Thin lines are 95 % intervals over clips, for comparison; the upright line is the mean over seeds.
    """
    needed(table, ["configuration", "seed", metric])
    bars = error_bars(table, metric)
    names = list(dict.fromkeys(table["configuration"]))
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(names) + 1.3))
    axes.axvline(0, color=INK, linewidth=1.2, zorder=1)
    shades, seeds = colours(names), sorted(table["seed"].unique())
    lanes = {seed: 0.5 * (place + 0.5) / len(seeds) - 0.25 for place, seed in enumerate(seeds)}
    for row, name in enumerate(names):
        own = (table["configuration"] == name).to_numpy()
        height = [row + lanes[seed] for seed in table.loc[own, "seed"]]
        look = {"fmt": "o", "markersize": 6, "elinewidth": 1.2, "color": shades[name], "label": name}
        axes.errorbar(table.loc[own, metric], height, xerr=None if bars is None else bars[:, own], **look)
        axes.vlines(table.loc[own, metric].mean(), row - 0.32, row + 0.32, color=shades[name], linewidth=2)
    name_rows(axes, names)
    axes.set_xlabel((xlabel or metric) + f"   (seeds {', '.join(map(str, seeds))}; upright: their mean)")
    return figure


@figure_function
def gains(
    table: pd.DataFrame, x: str, metric: str = "delta_ovrl", xlabel: str | None = None, ylabel: str | None = None
) -> Figure:
    """A difference and its 95 % interval along a quantity ``x``, a line per configuration, side by side at each value.

    Every second value has a shaded band. Dashed lines: weights with a shorter delay than others of their configuration.
    """
    needed(table, ["configuration", x, metric])
    figure, axes = plt.subplots(figsize=(9, 4.2))
    axes.axhline(0, color=INK, linewidth=1.2, zorder=1)
    names = list(dict.fromkeys(table["configuration"]))
    places = sorted(table[x].unique())
    width = min((b - a for a, b in pairwise(places)), default=1.0)
    step = 0.8 * width / max(len(names), 8)  # so that the bars do not hide each other, nor pass for the next value
    for place in places[::2]:
        axes.axvspan(place - width / 2, place + width / 2, color="#f3f5f7", zorder=0)
    for index, (name, shade) in enumerate(colours(names).items()):
        rows = table[table["configuration"] == name].sort_values(x)
        bars = error_bars(rows, metric)
        at = rows[x] + (index - (len(names) - 1) / 2) * step
        look = {"color": shade, "markersize": 5, "elinewidth": 1.8, "linewidth": 1.2}
        axes.errorbar(at, rows[metric], yerr=bars, fmt="o--" if EARLIER.search(name) else "o-", label=name, **look)
    axes.set_xticks(places)
    axes.set_xlabel(xlabel or x)
    axes.set_ylabel(ylabel or metric)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@figure_function
def equivalence(table: pd.DataFrame, margin: float, metrics: Sequence[str] = ("sig", "bak", "ovrl")) -> Figure:
    """Differences from the network in float32 with their intervals; filled where the interval lies within ± ``margin``.

    Columns: configuration, form, and delta_<metric> with its interval for every metric, one panel each.
    """
    needed(table, ["configuration", "form", *(f"delta_{metric}" for metric in metrics)])
    figure, panels = plt.subplots(
        1, len(metrics), sharex=True, sharey=True, squeeze=False, figsize=(9.4, 0.36 * len(table) + 1.3)
    )
    names = [f"{name}  {form}" for name, form in zip(table["configuration"], table["form"], strict=True)]
    for axes, metric in zip(panels[0], metrics, strict=True):
        bars = error_bars(table, f"delta_{metric}")
        if bars is None:
            raise MisuseError(f"The table has no interval for delta_{metric}.")
        axes.axvspan(-margin, margin, color="#e8f2ec", zorder=0)
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        values = table[f"delta_{metric}"].to_numpy(dtype=float)
        for row, (name, value) in enumerate(zip(table["configuration"], values, strict=True)):
            within = -margin <= value - bars[0, row] and value + bars[1, row] <= margin
            look = {"color": colour(name), "markerfacecolor": colour(name) if within else "white", "markersize": 6.5}
            axes.errorbar(value, row, xerr=bars[:, [row]], fmt="o", elinewidth=2, label=names[row], **look)
        axes.set_title(METRICS.get(metric, metric))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", visible=False)
    panels[0, 0].set_yticks(range(len(table)), names)
    panels[0, 0].set_ylim(len(table) - 0.4, -0.6)
    figure.supxlabel(
        f"difference to float32, MOS  (95 % interval, paired by clip; filled: within ±{margin:g})", fontsize=10
    )
    return figure
