"""What all figures share: colours, style, the mark of a quick run, a table's columns, error bars and rows."""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from functools import wraps

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dnslib.errors import MisuseError
from dnslib.intervals import interval_columns

INK, MUTED, FAINT = "#22303c", "#6b7a88", "#d9dfe4"
BLUE, ORANGE, GREEN = "#0173b2", "#de8f05", "#029e73"  # seaborn's colour-blind safe palette
METRICS = {"sig": "SIG  (speech)", "bak": "BAK  (background)", "ovrl": "OVRL  (overall)"}
METRIC_COLOURS = {"sig": BLUE, "bak": ORANGE, "ovrl": GREEN}
FIXED_COLOURS = {
    "CRUSE32": INK, "CRUSE16": "#d55e00", "noisy": "#949494", "clean": GREEN, "enhanced": BLUE, "ideal gain": "#c1121f",
}  # fmt: skip
OTHERS = ["#cc78bc", "#7f4f24", "#56b4e9", "#de8f05"]  # not pale, and distinct where their lines cross
EARLIER = re.compile(r"-\d+ms$")  # of a name: weights of the same configuration with a shorter delay


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

    Closed in pyplot, the figure appears just once, where it is the last value of a cell, and figures do not pile up.
    """

    @wraps(draw)
    def finished(*arguments, profile: str = "quick", **options) -> Figure:
        with style():
            figure = draw(*arguments, **options)
            if profile != "full":
                line = 0.17 / figure.get_figheight()  # inches kept free at the bottom, so that the mark covers nothing
                figure.get_layout_engine().set(rect=(0, line, 1, 1 - line))
                figure.text(0.995, 0.004, f"{profile} run", ha="right", va="bottom", fontsize=8, color="#b3541e")
            figure.draw_without_rendering()  # ticks take on their look when they are first drawn
        plt.close(figure)
        return figure

    return finished


def colour(name: str) -> str:
    """The colour of a configuration, the same in every figure: pruned ones run from blue to yellow-green with p.

    Its weights with another delay, such as "P.500-20ms", share that colour.
    """
    name = EARLIER.sub("", name)
    if name in FIXED_COLOURS:
        return FIXED_COLOURS[name]
    share = re.search(r"(?:^P|\s0)?\.(\d+)$", name)  # "P.625", "GRU 0.25"
    if share:
        return mpl.colors.to_hex(mpl.colormaps["viridis"](0.12 + 0.78 * float(f"0.{share[1]}")))
    return OTHERS[sum(map(ord, name)) % len(OTHERS)]


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: that of `colour`, or another one where an earlier name has it and one is free."""
    chosen: dict[str, str] = {}
    for name in names:
        free = [other for other in OTHERS if other not in chosen.values()]
        taken = colour(name) in chosen.values() and EARLIER.sub("", name) not in chosen
        chosen[name] = free[0] if taken and free else colour(name)
    return chosen


def needed(table: pd.DataFrame, columns: Iterable[str]) -> None:
    """MisuseError that names the columns a table lacks."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise MisuseError(f"The table lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}.")


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names at the rows 0, 1, … from top to bottom, without lines between them."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def error_bars(table: pd.DataFrame, column: str) -> np.ndarray | None:
    """Distances (2, rows) from a column to the ends of its interval; None when the table has no interval for it."""
    bounds = interval_columns(table.columns).get(column)
    if bounds is None:
        return None
    low, high = (table[bound] for bound in bounds)
    return np.array([table[column] - low, high - table[column]], dtype=float).clip(min=0)
