"""Networks: their widths, the importance of their channels, how their training went."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dnslib.errors import MisuseError
from dnslib.plots.look import BLUE, MUTED, colour, colours, figure_function, needed

SMOOTHED_ROWS = 8  # of a running mean, at least


@figure_function
def configurations(widths: Mapping[str, Sequence[int]], per_row: int = 5) -> Figure:
    """The widths as U-Net silhouettes: encoder left, decoder right, a bar per level; the first stays as a shadow."""
    if not widths:
        raise MisuseError("There is no configuration to draw.")
    per_row = min(per_row, len(widths))
    row_count = -(-len(widths) // per_row)
    figure, panels = plt.subplots(
        row_count, per_row, sharex=True, sharey=True, squeeze=False, figsize=(2.1 * per_row, 1.75 * row_count + 0.3)
    )
    shadow = next(iter(widths.values()))
    limit = max(max(levels) for levels in widths.values())
    for axes in panels.flat:
        axes.axis("off")
    for axes, (name, levels) in zip(panels.flat, widths.items(), strict=False):
        silhouette(axes, shadow, "#e6eaee")
        silhouette(axes, levels, colour(name))
        for level, channels in enumerate(levels):
            axes.text(limit * 1.12, level, str(channels), va="center", ha="left", fontsize=8, color=MUTED)
        axes.set_title(name, fontsize=10, color=colour(name), loc="center", x=1.05 / 2.55)
    panels[0, 0].set_xlim(-limit * 1.05, limit * 1.5)
    panels[0, 0].set_ylim(max(map(len, widths.values())) - 0.4, -0.6)
    return figure


def silhouette(axes: Axes, levels: Sequence[int], face: str) -> None:
    """A bar for each level, centred, reaching as far to each side as it has channels."""
    channels = np.asarray(levels, dtype=float)
    axes.barh(np.arange(channels.size), 2 * channels, left=-channels, height=0.74, color=face, linewidth=0)


@figure_function
def importance(levels: Mapping[str, tuple[np.ndarray, Sequence[int]]]) -> Figure:
    """Channel importance, largest first, one panel per level: ``{"c4": (importance (C,), kept channel indices)}``."""
    if not levels:
        raise MisuseError("There is no level to draw.")
    figure, panels = plt.subplots(len(levels), 1, squeeze=False, figsize=(8.5, 1.9 * len(levels) + 0.7))
    for axes, (level, (norms, kept)) in zip(panels[:, 0], levels.items(), strict=True):
        norms = np.asarray(norms, dtype=float)
        order = np.argsort(-norms, kind="stable")
        is_kept = np.isin(order, np.asarray(kept, dtype=int))
        rank = np.arange(norms.size)
        for chosen, label, face in ((is_kept, "kept", BLUE), (~is_kept, "removed", "#c9ced3")):
            axes.bar(rank[chosen], norms[order][chosen], width=1.0, color=face, linewidth=0, label=label)
        axes.set_title(f"{level}: {is_kept.sum()} of {norms.size} channels kept")
        axes.set_xlim(-0.5, norms.size - 0.5)
        axes.set_ylabel("importance")
        axes.grid(axis="x", visible=False)
    panels[0, 0].legend(loc="upper right", ncols=2)
    panels[-1, 0].set_xlabel("channels, most important first")
    return figure


@figure_function
def training_curves(
    histories: Mapping[str, pd.DataFrame], columns: Sequence[str] | None = None, x: str = "step", smooth: bool = False
) -> Figure:
    """How runs went: one panel per column (by default every column with "loss" in its name), one line per run.

    ``smooth`` draws running means over the same number of rows for all runs: a fiftieth of the longest, and
    `SMOOTHED_ROWS` at least. Points with fewer rows before them are left out.
    """
    if not histories:
        raise MisuseError("There is no training history to draw.")
    first = next(iter(histories.values()))
    columns = list(columns or [column for column in first.columns if "loss" in column])
    for history in histories.values():
        needed(history, [x, *columns])
    rows = max(SMOOTHED_ROWS, max(map(len, histories.values())) // 50)
    width = 4.6 * len(columns) + 0.8
    figure, panels = plt.subplots(1, len(columns), squeeze=False, figsize=(width, 3.8))
    shades = colours(histories).values()
    dashes = ["-", *[(0, (4, 2))] * (len(histories) - 1)]  # the first shows through them where all coincide
    for axes, column in zip(panels[0], columns, strict=True):
        for (name, history), shade, dash in zip(histories.items(), shades, dashes, strict=True):
            there = history[[x, column]].dropna()
            if smooth:
                there = there.assign(**{column: there[column].rolling(min(rows, len(there))).mean()})
            marker = "o" if len(there) <= 12 else None
            axes.plot(there[x], there[column], color=shade, linestyle=dash, label=name, marker=marker, markersize=5)
        axes.set_title(column.replace("_", " "))
        axes.set_xlabel(x)
        axes.set_ylabel("running mean" if smooth else "")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if len(histories) > 1:
        panels[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
