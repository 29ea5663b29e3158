"""Latencies and speedups: by configuration, by layer, by form of deployment, by the share of zeros."""

from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from dnslib.plots.look import BLUE, INK, MUTED, ORANGE, colour, error_bars, figure_function, name_rows, needed

FORM_ALPHAS = {"plain": 0.35, "exact": 0.65, "int8": 1.0}
CONDITIONS = {"paced_latency_ms": ("o", "one frame every 10 ms"), "cold_latency_ms": ("s", "caches evicted")}


@figure_function
def latency_bars(table: pd.DataFrame) -> Figure:
    """Latency of one frame by configuration. Columns: configuration, latency_ms, its interval, and speedup if known."""
    needed(table, ["configuration", "latency_ms"])
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(table) + 1.2))
    names, latency = list(table["configuration"]), table["latency_ms"].to_numpy(dtype=float)
    bars = error_bars(table, "latency_ms")
    rows = np.arange(len(table))
    axes.barh(rows, latency, color=[colour(name) for name in names], height=0.66, alpha=0.9)
    if bars is not None:
        axes.errorbar(latency, rows, xerr=bars, fmt="none", ecolor=INK, elinewidth=1.4, capsize=3)
    ends = latency + (0 if bars is None else bars[1])
    for row, (end, value) in enumerate(zip(ends, latency, strict=True)):
        note = f"{three_digits(value)} ms"
        if "speedup" in table:
            note += f"   {three_digits(table['speedup'].iloc[row])}x"
        axes.annotate(note, (end, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    name_rows(axes, names)
    axes.set_xlim(0, ends.max() * 1.22)
    axes.set_xlabel("latency of one frame, ms  (95 % interval)")
    return figure


def three_digits(value: float) -> str:
    """Three significant digits, zeros kept: 0.640, 1.60, 12.5, 123."""
    return f"{value:#.3g}".rstrip(".")


@figure_function
def layer_shares(table: pd.DataFrame, columns: Mapping[str, str] | None = None) -> Figure:
    """Share of each layer, in the order of the table: what costs time. Columns: layer and share, from 0 to 1.

    ``columns`` maps legend labels to columns, for shares side by side: {"time": "share", "MACs": "macs_share"}.
    """
    columns = dict(columns or {"time": "share"})
    needed(table, ["layer", *columns.values()])
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(table) * (0.5 + 0.5 * len(columns)) + 1.2))
    rows, height = np.arange(len(table)), 0.76 / len(columns)
    recurrent = table["layer"].str.contains("gru", case=False)
    for place, (label, column) in enumerate(columns.items()):
        share = table[column].to_numpy(dtype=float)
        at = rows + (place - (len(columns) - 1) / 2) * height
        main = [ORANGE if is_recurrent else BLUE for is_recurrent in recurrent]
        bars = axes.barh(at, 100 * share, height=height * 0.92, color=main, alpha=0.9 if place == 0 else 0.4)
        axes.bar_label(bars, [f"{100 * value:.1f} %" for value in share], padding=4, fontsize=8.5)
        bars.set_label(label)
    name_rows(axes, table["layer"])
    axes.set_xlim(0, 108 * max(table[column].max() for column in columns.values()))
    axes.set_xlabel("share of " + " (solid) and ".join(columns) + (" (pale)" if len(columns) > 1 else "") + ", %")
    return figure


@figure_function
def ladder(table: pd.DataFrame) -> Figure:
    """Latency by configuration and form, back to back as bars with intervals; paced and cold frames as marks.

    Columns: configuration, form, latency_ms and its interval; if there, paced_latency_ms, cold_latency_ms, bound_ms (a
    black line: what the machine could do at best), speedup (written at the right) and chosen (its name is bold).
    """
    needed(table, ["configuration", "form", "latency_ms"])
    table = table.reset_index(drop=True)
    starts = table["configuration"].ne(table["configuration"].shift()).cumsum() - 1
    rows = np.arange(len(table)) + 0.6 * starts.to_numpy()
    figure, axes = plt.subplots(figsize=(8.6, 0.32 * rows[-1] + 1.7))
    latency = table["latency_ms"].to_numpy(dtype=float)
    bars = axes.barh(rows, latency, height=0.8, color=[colour(name) for name in table["configuration"]])
    for bar, form in zip(bars, table["form"], strict=True):
        bar.set_alpha(FORM_ALPHAS.get(form, 1.0))
    if (distances := error_bars(table, "latency_ms")) is not None:
        axes.errorbar(latency, rows, xerr=distances, fmt="none", ecolor=INK, elinewidth=1.4, capsize=2)
    for column, (mark, label) in CONDITIONS.items():
        if column in table:
            axes.plot(table[column], rows, mark, color=INK, fillstyle="none", markersize=5.5, label=label)
    if "bound_ms" in table:
        axes.vlines(
            table["bound_ms"], rows - 0.4, rows + 0.4, color="black", linewidth=2.2, label="lower bound, back to back"
        )
    columns = ["latency_ms", *(column for column in (*CONDITIONS, "bound_ms") if column in table)]
    low, high = table[columns].min().min(), table[columns].max().max()
    axes.set_xscale("log")
    axes.set_xlim(low * 0.75, high * 1.5)
    ticks = [digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if low * 0.75 <= tick <= high * 1.5])
    chosen = table["chosen"] if "chosen" in table else pd.Series(False, index=table.index)
    beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8.5, "annotation_clip": False}
    for row, entry in enumerate(table.to_dict(orient="records")):
        note = f"{three_digits(entry['latency_ms'])} ms"
        note += f"   {three_digits(entry['speedup'])}x" if "speedup" in table else ""
        axes.annotate(note, (1.02, rows[row]), fontweight="bold" if chosen.iloc[row] else "normal", **beside)
    axes.annotate("back to back", (1.02, -1.0), color=MUTED, **beside)
    axes.set_yticks(rows, [f"{name}  {form}" for name, form in zip(table["configuration"], table["form"], strict=True)])
    for label, is_chosen in zip(axes.get_yticklabels(), chosen, strict=True):
        label.set_fontweight("bold" if is_chosen else "normal")
    axes.set_ylim(rows[-1] + 0.8, -0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("latency of one frame, ms  (bars: back to back, 95 % interval; bold: chosen)")
    axes.grid(axis="y", visible=False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


@figure_function
def sparse_speedups(table: pd.DataFrame, rivals: pd.DataFrame | None = None, panel: str = "caches") -> Figure:
    """Speedup over the dense product against the share of zeros: a line per kernel, with 95 % intervals, and one at 1.

    Columns: kernel, zeros, speedup and its interval; where there is a column ``panel``, one panel for each value of it.
    ``rivals`` (kernel, speedup, and ``panel``) need no zeros: dashed lines.
    """
    needed(table, ["kernel", "zeros", "speedup"])
    panels = list(table[panel].unique()) if panel in table else [None]
    figure, grid = plt.subplots(
        1, len(panels), sharex=True, sharey=True, squeeze=False, figsize=(3.9 * len(panels) + 2.4, 4.4)
    )
    looks = dict(
        zip(table["kernel"].unique(), zip(sns.color_palette("colorblind"), "osD^vPX*<>", strict=True), strict=False)
    )
    for axes, value in zip(grid[0], panels, strict=True):
        there = table if value is None else table[table[panel] == value]
        for kernel, rows in there.groupby("kernel", sort=False):
            rows, (line_colour, marker) = rows.sort_values("zeros"), looks[kernel]
            bars = error_bars(rows, "speedup")
            look = {"color": line_colour, "marker": marker, "markersize": 5, "elinewidth": 1.2, "label": kernel}
            axes.errorbar(100 * rows["zeros"], rows["speedup"], yerr=bars, **look)
        axes.axhline(1, color=INK, linewidth=1.2, zorder=1, label="dense")
        if rivals is not None:
            beside = rivals if value is None else rivals[rivals[panel] == value]
            for row, dashes in zip(beside.itertuples(), cycle([(4, 2), (1, 1.5), (6, 2, 1, 2)]), strict=False):
                axes.axhline(row.speedup, color=MUTED, linewidth=1.4, dashes=dashes, zorder=1, label=row.kernel)
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda speedup, _: f"{speedup:g}x"))
        axes.set_xlabel("zeros, % of the weights")
        axes.set_title("" if value is None else str(value))
    grid[0, 0].set_ylabel("speedup over the fastest dense product")
    grid[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
