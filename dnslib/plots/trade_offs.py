"""Speed against quality: Figure 1, with its trend, and the front of a search."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from scipy.optimize import isotonic_regression

from dnslib.errors import MisuseError
from dnslib.plots.look import BLUE, FAINT, METRIC_COLOURS, METRICS, MUTED, colour, error_bars, figure_function, needed


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
    """The baseline and what was pruned from it; every row when the table has no such names."""
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
        axes.annotate(f"quadratic\ntrend\nR² = {r_squared:.3f}", fontsize=9.5, color=trend_colour, **beside)
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


def name_columns(axes: Axes, positions: pd.Series, names: pd.Series, looks: Sequence[str] | None = None) -> None:
    """Write the names above the panel, moved apart where they would touch, with a line to their guides.

    ``looks`` are their colours, by default those of `colour`.
    """
    looks = [colour(name) for name in names] if looks is None else looks
    to_pixels, bounds = axes.transData.transform, axes.get_xlim()
    left, right = (to_pixels((bound, 0))[0] for bound in bounds)
    wanted = np.array([(to_pixels((x, 0))[0] - left) / (right - left) for x in positions])
    for name, look, x, at in zip(names, looks, wanted, spread(wanted, gap=0.042), strict=True):
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
            color=look,
            fontweight="bold",
            arrowprops={"arrowstyle": "-", "color": FAINT, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0)},
        )


def spread(positions: Sequence[float], gap: float) -> np.ndarray:
    """Positions in [0, 1] moved as little as needed for neighbours to be ``gap`` apart; the order stays."""
    positions = np.asarray(positions, dtype=float)
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(positions.size)
    level = isotonic_regression(positions[order] - steps).x  # a gap apart: without the steps, not decreasing
    moved = np.empty_like(positions)
    moved[order] = np.clip(level, 0, max(0, 1 - steps[-1])) + steps
    return moved


@figure_function
def pareto_front(table: pd.DataFrame, x: str = "latency_ratio", y: str = "delta_loss") -> Figure:
    """Two quantities to minimise, one against the other: a point per design, 95 % intervals, the front as a staircase.

    Columns: configuration, ``x``, ``y``, on_front, is_paper_configuration, and intervals where there are any. The
    paper's configurations are diamonds in their colours; they and the other designs on the front are named above.
    Filled points lie on the front.
    """
    needed(table, ["configuration", x, y, "on_front", "is_paper_configuration"])
    figure, axes = plt.subplots(figsize=(9, 6))
    names_above: list[tuple[float, str, str]] = []  # place, name, colour
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
            axes.axvline(row[x], color=FAINT, linewidth=0.8, zorder=0)
            names_above.append((row[x], row["configuration"], look))
    front = table[table["on_front"]].sort_values(x)
    axes.step(front[x], front[y], where="post", color=FAINT, linewidth=2, zorder=1, label="front")
    axes.set_xscale("log")
    low, high = table[x].min() / 1.3, table[x].max() * 1.3
    ticks = [share for share in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if low <= share <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("latency, share of that of CRUSE32  (faster is left)")
    axes.set_ylabel("validation loss minus that of CRUSE32  (better is down)" if y == "delta_loss" else y)
    axes.grid(axis="x", visible=False)
    if names_above:
        name_columns(axes, *zip(*names_above, strict=True))
    return figure
