"""The study's figures: each function takes a tidy table and returns a matplotlib Figure, finished and not yet shown.

Tables have one row a configuration, its name in ``configuration``, units in the column names and 95 % intervals in
``<column>_ci_low`` and ``<column>_ci_high``, or in plain ``ci_low`` and ``ci_high`` right behind the column. Figures do
not touch the reader's own matplotlib settings, and say "quick run" in a corner unless ``profile`` is "full".
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from dnslib.errors import MisuseError

INK, MUTED, FAINT = "#22303c", "#6b7a88", "#d9dfe4"
BLUE, ORANGE, GREEN = "#0173b2", "#de8f05", "#029e73"  # seaborn's colour-blind safe palette
METRICS = {"sig": "SIG  (speech)", "bak": "BAK  (background)", "ovrl": "OVRL  (overall)"}
METRIC_COLOURS = {"sig": BLUE, "bak": ORANGE, "ovrl": GREEN}
FIXED_COLOURS = {"CRUSE32": INK, "CRUSE16": "#d55e00", "noisy": "#949494", "clean": GREEN, "enhanced": BLUE}
OTHERS = sns.color_palette("colorblind").as_hex()[3:]


# --- Style ------------------------------------------------------------------------------------------------------


@contextmanager
def style():
    """The look of every figure; restores the settings that were there before."""
    look = sns.axes_style("whitegrid") | sns.plotting_context("notebook", font_scale=0.9)
    look |= {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": "#edf0f3",
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "font.sans-serif": ["DejaVu Sans"],
    }
    with mpl.rc_context(look):
        yield


def figure_function(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the study's style, add the mark of a quick run, and take the figure out of pyplot's hands.

    Closed for pyplot, the figure appears where it is the last value of a cell, once, and no figures pile up.
    """

    @wraps(draw)
    def finished(*arguments, profile: str = "quick", **options) -> Figure:
        with style():
            figure = draw(*arguments, **options)
            if profile != "full":
                line = 0.17 / figure.get_figheight()  # inches kept free at the bottom, so that the mark covers nothing
                figure.get_layout_engine().set(rect=(0, line, 1, 1 - line))
                figure.text(0.995, 0.004, f"{profile} run", ha="right", va="bottom", fontsize=8, color="#b3541e")
            figure.draw_without_rendering()  # ticks take their look when they are first drawn
        plt.close(figure)
        return figure

    return finished


def colour(name: str) -> str:
    """The colour of a configuration, the same in every figure: pruned ones run from blue to yellow-green with p."""
    if name in FIXED_COLOURS:
        return FIXED_COLOURS[name]
    share = re.search(r"(?:^P|\s0)?\.(\d+)$", name)  # "P.625", "GRU 0.25"
    if share:
        return mpl.colors.to_hex(mpl.colormaps["viridis"](0.12 + 0.78 * float(f"0.{share[1]}")))
    return OTHERS[sum(map(ord, name)) % len(OTHERS)]


def needed(table: pd.DataFrame, columns: Iterable[str]) -> None:
    """MisuseError that names the columns a table lacks."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise MisuseError(f"The table lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}.")


def error_bars(table: pd.DataFrame, column: str) -> np.ndarray | None:
    """Distances (2, rows) from a column to the ends of its interval; None when the table has no interval for it."""
    low, high = f"{column}_ci_low", f"{column}_ci_high"
    if low not in table and list(table.columns).index(column) + 1 < len(table.columns):
        following = table.columns[list(table.columns).index(column) + 1]
        low, high = ("ci_low", "ci_high") if following == "ci_low" else (low, high)  # plain names: the column before
    if low not in table or high not in table:
        return None
    return np.array([table[column] - table[low], table[high] - table[column]], dtype=float).clip(min=0)


# --- Figure 1 ---------------------------------------------------------------------------------------------------


def quadratic_trend(x: Sequence[float], y: Sequence[float]) -> tuple[np.ndarray, float]:
    """Least-squares parabola: coefficients (3,), highest power first, and R² = 1 - residual / total sum of squares."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if np.unique(x).size < 3:
        raise MisuseError("A quadratic trend needs at least three different speeds.")
    powers = np.vander(x, 3)  # (points, 3): x², x, 1
    coefficients = np.linalg.lstsq(powers, y, rcond=None)[0]
    residual, total = np.sum((y - powers @ coefficients) ** 2), np.sum((y - y.mean()) ** 2)
    return coefficients, float(1 - residual / total) if total > 0 else float("nan")


@figure_function
def speed_and_quality(
    table: pd.DataFrame, difference: bool = False, scale: str = "log", trend_over: Sequence[str] | None = None
) -> Figure:
    """Figure 1: speedup against SIG, BAK and OVRL, one panel each, with 95 % intervals and a quadratic trend line.

    Columns: configuration, speedup, dnsmos_sig, dnsmos_bak, dnsmos_ovrl, or delta_sig ... with ``difference``.
    The trend runs over CRUSE32 and the pruned configurations, or over those named in ``trend_over``.
    """
    prefix = "delta" if difference else "dnsmos"
    needed(table, ["configuration", "speedup", *(f"{prefix}_{metric}" for metric in METRICS)])
    family = table["configuration"].isin(trend_over) if trend_over is not None else in_family(table["configuration"])
    figure, panels = plt.subplots(3, 1, sharex=True, figsize=(8.6, 8))
    for axes, metric in zip(panels, METRICS, strict=True):
        trade_off(axes, table, f"{prefix}_{metric}", family, METRIC_COLOURS[metric])
        axes.set_ylabel(("Δ" if difference else "") + METRICS[metric])
        if difference:
            axes.axhline(0, color=MUTED, linewidth=1)
    speed_axis(panels[-1], table["speedup"], scale)
    name_columns(panels[0], table["speedup"], table["configuration"])
    return figure


def in_family(names: pd.Series) -> pd.Series:
    """The baseline and what was pruned from it; every row when the table knows no such names."""
    family = names.eq("CRUSE32") | names.str.startswith("P.")
    return family if family.any() else ~family


def trade_off(axes: Axes, table: pd.DataFrame, column: str, family: pd.Series, trend_colour: str) -> None:
    """One panel: points with their intervals, guides up to their names, the trend line with its R²."""
    for speedup in table["speedup"]:
        axes.axvline(speedup, color=FAINT, linewidth=0.8, zorder=0)
    x_bars, y_bars = error_bars(table, "speedup"), error_bars(table, column)
    for row, (name, x, y) in enumerate(zip(table["configuration"], table["speedup"], table[column], strict=True)):
        axes.errorbar(
            x,
            y,
            xerr=None if x_bars is None else x_bars[:, [row]],
            yerr=None if y_bars is None else y_bars[:, [row]],
            fmt="o" if family.iloc[row] else "D",
            color=colour(name),
            markersize=7,
            markeredgecolor="white",
            elinewidth=1.6,
            label=name,
            zorder=3,
        )
    present = family & table[column].notna()
    x, y = table.loc[present, "speedup"], table.loc[present, column]
    if x.nunique() >= 3:
        coefficients, r_squared = quadratic_trend(x, y)
        grid = np.linspace(x.min(), x.max(), 200)
        axes.plot(grid, np.polyval(coefficients, grid), color=trend_colour, linewidth=2.2, alpha=0.75, label="trend")
        beside = {"xy": (1.015, 0.5), "xycoords": "axes fraction", "ha": "left", "va": "center"}
        axes.annotate(f"quadratic\ntrend\nR² = {r_squared:.2f}", fontsize=9.5, color=trend_colour, **beside)
    axes.grid(axis="x", visible=False)


def speed_axis(axes: Axes, speedups: pd.Series, scale: str) -> None:
    """An x axis of speedups with ticks at 1x, 2x, 3x ..."""
    axes.set_xscale(scale)
    axes.set_xlim(min(0.93, speedups.min() * 0.93), speedups.max() * 1.08)
    if scale == "log":
        axes.set_xticks([tick for tick in (1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30) if tick <= speedups.max() * 1.08])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.set_xlabel("speedup over CRUSE32  (ONNX Runtime, one CPU thread)")


def name_columns(axes: Axes, positions: pd.Series, names: pd.Series) -> None:
    """Write the names above the panel, moved apart where they would touch, with a line to their guides."""
    to_pixels, bounds = axes.transData.transform, axes.get_xlim()
    left, right = (to_pixels((bound, 0))[0] for bound in bounds)
    wanted = np.array([(to_pixels((x, 0))[0] - left) / (right - left) for x in positions])
    for name, x, at in zip(names, wanted, spread(wanted, gap=0.042), strict=True):
        axes.annotate(
            name,
            xy=(x, 1.0),
            xytext=(at, 1.1),
            xycoords="axes fraction",
            rotation=40,
            ha="left",
            va="bottom",
            rotation_mode="anchor",
            fontsize=9,
            color=colour(name),
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": FAINT, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0)},
        )


def spread(positions: Sequence[float], gap: float) -> np.ndarray:
    """Positions in [0, 1] moved as little as needed for neighbours to be ``gap`` apart; the order stays."""
    positions = np.asarray(positions, dtype=float)
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(positions.size)
    # apart by a gap means not decreasing once the steps are taken off: pool neighbours that go down (isotonic fit)
    blocks: list[list[float]] = []
    for value in positions[order] - steps:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    moved = np.empty_like(positions)
    level = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    moved[order] = np.clip(level, 0, max(0, 1 - steps[-1])) + steps
    return moved


# --- Tables as figures ------------------------------------------------------------------------------------------


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
    axes.set_yticks(rows, names)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(0, ends.max() * 1.22)
    axes.set_xlabel("latency of one 10 ms frame, ms  (95 % interval)")
    axes.grid(axis="y", visible=False)
    return figure


def three_digits(value: float) -> str:
    """Three significant digits, zeros kept: 0.640, 1.60, 12.5, 123."""
    return f"{value:#.3g}".rstrip(".")


@figure_function
def layer_shares(table: pd.DataFrame, columns: Mapping[str, str] | None = None) -> Figure:
    """Share of each layer, in the order of the table: what costs time. Columns: layer and share, from 0 to 1.

    ``columns`` maps legend labels to columns, to set shares beside each other: {"time": "share", "MACs": "macs_share"}.
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
    axes.set_yticks(rows, table["layer"])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlim(0, 108 * max(table[column].max() for column in columns.values()))
    axes.set_xlabel("share of " + " (solid) and ".join(columns) + (" (pale)" if len(columns) > 1 else "") + ", %")
    axes.grid(axis="y", visible=False)
    return figure


@figure_function
def intervals(
    table: pd.DataFrame, metric: str = "delta_ovrl", xlabel: str | None = None, neutral: float = 0.0
) -> Figure:
    """Forest plot: a value and its 95 % interval by configuration; hollow where the interval holds ``neutral``."""
    needed(table, ["configuration", metric])
    bars = error_bars(table, metric)
    if bars is None:
        raise MisuseError(f"The table has no interval for {metric}: {metric}_ci_low and {metric}_ci_high.")
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(table) + 1.3))
    axes.axvline(neutral, color=INK, linewidth=1.2, zorder=1, label="neutral")
    for row, (name, value) in enumerate(zip(table["configuration"], table[metric], strict=True)):
        decided = not value - bars[0, row] <= neutral <= value + bars[1, row]
        axes.errorbar(
            value,
            row,
            xerr=bars[:, [row]],
            fmt="o",
            color=colour(name),
            markerfacecolor=colour(name) if decided else "white",
            markersize=8,
            elinewidth=2.4,
            label=name,
        )
        end = value + bars[1, row]
        note = (f"{value:+.2f}" if neutral == 0 else f"{value:.2f}").replace("-", "−")
        axes.annotate(note, (end, row), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(table)), table["configuration"])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel((xlabel or metric) + "   (95 % interval; hollow: not decided)")
    axes.grid(axis="y", visible=False)
    return figure


# --- Forms of deployment ------------------------------------------------------------------------------------------

FORM_ALPHAS = {"plain": 0.35, "exact": 0.65, "int8": 1.0}
CONDITIONS = {"paced_latency_ms": ("o", "one frame each 10 ms"), "cold_latency_ms": ("s", "caches evicted")}


@figure_function
def ladder(table: pd.DataFrame) -> Figure:
    """Latency by configuration and form, back to back as bars with intervals; paced and cold frames as marks.

    Columns: configuration, form, latency_ms and its interval; if there, paced_latency_ms, cold_latency_ms, bound_ms (a
    black line: what the machine could do at best), speedup (written beside) and chosen (its name is bold).
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
        axes.vlines(table["bound_ms"], rows - 0.4, rows + 0.4, color="black", linewidth=2.2, label="lower bound")
    columns = ["latency_ms", *(column for column in (*CONDITIONS, "bound_ms") if column in table)]
    low, high = table[columns].min().min(), table[columns].max().max()
    axes.set_xscale("log")
    axes.set_xlim(low * 0.75, high * 4)
    ticks = [digit * 10.0**power for power in range(-4, 3) for digit in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if low * 0.75 <= tick <= high * 4])
    chosen = table["chosen"] if "chosen" in table else pd.Series(False, index=table.index)
    for row, entry in enumerate(table.to_dict(orient="records")):
        weight = "bold" if chosen.iloc[row] else "normal"
        end = max(
            *(entry[column] for column in columns), latency[row] + (0 if distances is None else distances[1, row])
        )
        note = f"{three_digits(entry['latency_ms'])} ms"
        note += f"   {three_digits(entry['speedup'])}x" if "speedup" in table else ""
        beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "fontsize": 8.5}
        axes.annotate(note, (end, rows[row]), fontweight=weight, **beside)
    axes.set_yticks(rows, [f"{name}  {form}" for name, form in zip(table["configuration"], table["form"], strict=True)])
    for label, is_chosen in zip(axes.get_yticklabels(), chosen, strict=True):
        label.set_fontweight("bold" if is_chosen else "normal")
    axes.set_ylim(rows[-1] + 0.8, -0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("latency of one 10 ms frame, ms  (bars: back to back, 95 % interval; bold: chosen)")
    axes.grid(axis="y", visible=False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


@figure_function
def equivalence(table: pd.DataFrame, margin: float, metrics: Sequence[str] = ("sig", "bak", "ovrl")) -> Figure:
    """Differences to the network in float32 with their intervals; filled where the interval lies within ± ``margin``.

    Columns: configuration, form, and delta_<metric> with its interval for every metric, a panel each.
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


@figure_function
def sparse_speedups(table: pd.DataFrame, rivals: pd.DataFrame | None = None, panel: str = "caches") -> Figure:
    """Speedup over the dense product against the share of zeros: a line a kernel, with 95 % intervals, and one at 1.

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


# --- Sound, training, network -----------------------------------------------------------------------------------


@figure_function
def spectrograms(waveforms: Mapping[str, np.ndarray], sample_rate: int = 16_000, range_db: float = 70.0) -> Figure:
    """Spectrograms of waveforms (samples,) above each other, on one scale of dB below the loudest bin of all."""
    if not waveforms:
        raise MisuseError("There is no waveform to draw.")
    powers = {label: power_db(waveform) for label, waveform in waveforms.items()}
    top = max(power.max() for power in powers.values())
    figure, panels = plt.subplots(
        len(powers), 1, sharex=True, sharey=True, squeeze=False, figsize=(9, 1.9 * len(powers) + 0.6)
    )
    for axes, (label, power) in zip(panels[:, 0], powers.items(), strict=True):
        seconds = len(waveforms[label]) / sample_rate
        image = axes.imshow(
            power.T - top,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-range_db,
            vmax=0,
            extent=(0, seconds, 0, sample_rate / 2000),
        )
        axes.set_title(label)
        axes.set_ylabel("kHz")
        axes.grid(visible=False)
    panels[-1, 0].set_xlabel("time, s")
    figure.colorbar(image, ax=panels, label="dB below the loudest", pad=0.01)
    return figure


def power_db(waveform: np.ndarray, window: int = 512, hop: int = 128) -> np.ndarray:
    """Power (frames, bins) in dB under a Hann window, with a floor far below anything audible."""
    waveform = np.pad(np.asarray(waveform, dtype=np.float64), window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, window)[::hop]
    return 10 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(window))) ** 2 + 1e-12)


@figure_function
def training_curves(
    histories: Mapping[str, pd.DataFrame], columns: Sequence[str] | None = None, x: str = "step"
) -> Figure:
    """How runs went: one panel a column (by default every column with "loss" in its name), one line a run."""
    if not histories:
        raise MisuseError("There is no training history to draw.")
    first = next(iter(histories.values()))
    columns = list(columns or [column for column in first.columns if "loss" in column])
    for history in histories.values():
        needed(history, [x, *columns])
    width = 4.6 * len(columns) + 0.8
    figure, panels = plt.subplots(1, len(columns), squeeze=False, figsize=(width, 3.8))
    for axes, column in zip(panels[0], columns, strict=True):
        for name, history in histories.items():
            there = history[[x, column]].dropna()
            marker = "o" if len(there) <= 12 else None
            axes.plot(there[x], there[column], color=colour(name), label=name, marker=marker, markersize=5)
        axes.set_title(column.replace("_", " "))
        axes.set_xlabel(x)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if len(histories) > 1:
        panels[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@figure_function
def importance(levels: Mapping[str, tuple[np.ndarray, Sequence[int]]]) -> Figure:
    """Channel importance, largest first, one panel a level: ``{"c4": (importance (C,), kept channel indices)}``."""
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
def configurations(widths: Mapping[str, Sequence[int]], per_row: int = 5) -> Figure:
    """The widths as U-Net silhouettes: encoder left, decoder right, a bar a level; the first one stays as a shadow."""
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
    """A bar for each level, centred, as long to each side as it has channels."""
    channels = np.asarray(levels, dtype=float)
    axes.barh(np.arange(channels.size), 2 * channels, left=-channels, height=0.74, color=face, linewidth=0)


# --- Search -----------------------------------------------------------------------------------------------------


@figure_function
def pareto_front(table: pd.DataFrame, x: str = "latency_ratio", y: str = "delta_loss") -> Figure:
    """Two things to keep small against each other, one point a design, with 95 % intervals and a staircase: the front.

    Columns: configuration, ``x``, ``y``, on_front, is_paper_configuration, and intervals where there are any. The
    paper's configurations are diamonds with their names and colours, other designs on the front are named too; filled
    points lie on the front.
    """
    needed(table, ["configuration", x, y, "on_front", "is_paper_configuration"])
    figure, axes = plt.subplots(figsize=(9, 5.6))
    bars = {"xerr": error_bars(table, x), "yerr": error_bars(table, y)}
    for place, row in enumerate(table.to_dict("records")):
        named = row["is_paper_configuration"] or row["on_front"]
        look = colour(row["configuration"]) if row["is_paper_configuration"] else BLUE if row["on_front"] else MUTED
        point = axes.errorbar(
            row[x],
            row[y],
            **{axis: None if bar is None else bar[:, [place]] for axis, bar in bars.items()},
            fmt="D" if row["is_paper_configuration"] else "o",
            color=look,
            markerfacecolor=look if row["on_front"] else "white",
            markersize=7 if named else 5,
            elinewidth=1.2,
            alpha=1.0 if named else 0.6,
            zorder=3 if named else 2,
        )
        point.set_label(row["configuration"])
        if named:
            axes.annotate(row["configuration"], (row[x], row[y]), xytext=(7, 5), textcoords="offset points",
                          fontsize=8.5, color=look)  # fmt: skip
    front = table[table["on_front"]].sort_values(x)
    axes.step(front[x], front[y], where="post", color=FAINT, linewidth=2, zorder=1, label="front")
    axes.set_xscale("log")
    ticks = [share for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0) if table[x].min() / 1.3 <= share <= 1.3]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("latency, share of that of CRUSE32  (faster is left)")
    axes.set_ylabel("validation loss minus that of CRUSE32  (better is down)" if y == "delta_loss" else y)
    return figure
