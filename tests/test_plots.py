"""Figures are checked for facts: what the lines, bars and labels say, not what the pixels look like."""

import json
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dnslib import plots
from dnslib.errors import MisuseError

NAMES = ["CRUSE32", "P.125", "P.500", "P.875", "CRUSE16"]
SPEEDUP = np.array([1.0, 1.25, 2.5, 12.5, 3.0])


@pytest.fixture
def table() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "configuration": NAMES,
            "latency_ms": 2.0 / SPEEDUP,
            "ci_low": 1.9 / SPEEDUP,
            "ci_high": 2.2 / SPEEDUP,
            "speedup": SPEEDUP,
            "speedup_ci_low": 0.9 * SPEEDUP,
            "speedup_ci_high": 1.1 * SPEEDUP,
        }
    )
    for place, metric in enumerate(plots.METRICS):
        frame[f"dnsmos_{metric}"] = [3.0, 3.1, 2.9, 2.5, 2.6]
        frame[f"dnsmos_{metric}"] += place
        frame[f"delta_{metric}"] = [0.0, 0.1, -0.1, -0.5, -0.4]
        for prefix in ("dnsmos", "delta"):
            frame[f"{prefix}_{metric}_ci_low"] = frame[f"{prefix}_{metric}"] - 0.2
            frame[f"{prefix}_{metric}_ci_high"] = frame[f"{prefix}_{metric}"] + 0.15
    return frame


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.findobj(mpl.text.Text)]
    return [text for text in found if text]


def test_a_parabola_is_its_own_trend():
    x = np.array([1.0, 1.5, 2.0, 4.0, 9.0])
    coefficients, r_squared = plots.quadratic_trend(x, -0.02 * x**2 + 0.1 * x + 3)
    np.testing.assert_allclose(coefficients, [-0.02, 0.1, 3], atol=1e-12)
    assert r_squared == pytest.approx(1, abs=1e-12)


def test_trend_agrees_with_numpy_and_with_the_squared_correlation():
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 12, 9)
    y = 3 - 0.01 * x**2 + rng.normal(0, 0.2, 9)
    coefficients, r_squared = plots.quadratic_trend(x, y)
    np.testing.assert_allclose(coefficients, np.polyfit(x, y, 2), rtol=1e-8)
    # for least squares with a constant, R² is the squared correlation of the values with the fit
    assert r_squared == pytest.approx(np.corrcoef(y, np.polyval(coefficients, x))[0, 1] ** 2)
    assert 0 < r_squared < 1


def test_trend_needs_three_points():
    with pytest.raises(MisuseError, match="three"):
        plots.quadratic_trend([1, 2, 2], [1, 2, 3])


def test_figure_1_holds_points_intervals_trend_and_names(table):
    figure = plots.speed_and_quality(table)
    assert len(figure.axes) == 3
    for place, axes in enumerate(figure.axes):
        containers = {container.get_label(): container for container in axes.containers}
        assert list(containers) == NAMES
        for row, name in enumerate(NAMES):
            point, _, (horizontal, vertical) = containers[name]
            (x,), (y,) = point.get_data()
            assert (x, y) == (SPEEDUP[row], table["dnsmos_sig"][row] + place)
            np.testing.assert_allclose(vertical.get_segments()[0], [[x, y - 0.2], [x, y + 0.15]])
            np.testing.assert_allclose(horizontal.get_segments()[0], [[0.9 * x, y], [1.1 * x, y]])
        (trend,) = [line for line in axes.lines if line.get_label() == "trend"]
        family = table.iloc[:4]  # CRUSE16 is not a pruned CRUSE32
        expected = np.polyfit(family["speedup"], family["dnsmos_sig"] + place, 2)
        np.testing.assert_allclose(trend.get_ydata(), np.polyval(expected, trend.get_xdata()), atol=1e-9)
        assert trend.get_xdata()[[0, -1]].tolist() == [1.0, 12.5]
        left, right = axes.get_xlim()
        assert left < 1
        assert right > 12.5
    assert sum("R² = " in text for text in texts(figure)) == 3
    assert set(NAMES) <= set(texts(figure))


def test_figure_1_of_differences_on_a_linear_axis(table):
    figure = plots.speed_and_quality(table, difference=True, scale="linear", trend_over=NAMES)
    axes = figure.axes[2]
    assert axes.get_xscale() == "linear"
    assert axes.containers[3][0].get_ydata() == [-0.5]
    (trend,) = [line for line in axes.lines if line.get_label() == "trend"]
    expected = np.polyfit(SPEEDUP, table["delta_ovrl"], 2)
    np.testing.assert_allclose(trend.get_ydata(), np.polyval(expected, trend.get_xdata()), atol=1e-9)


def test_names_keep_their_distance_and_their_order():
    moved = plots.spread([0.5, 0.1, 0.51, 0.52, 0.9], gap=0.1)
    np.testing.assert_allclose(moved, [0.41, 0.1, 0.51, 0.61, 0.9])
    assert np.diff(np.sort(plots.spread([0.0, 0.0, 0.01, 0.02], gap=0.05))).min() >= 0.05 - 1e-12
    assert plots.spread([0.0, 0.01], gap=0.05).min() == 0
    np.testing.assert_array_equal(plots.spread([0.1, 0.9], gap=0.1), [0.1, 0.9])


def test_latency_bars_are_as_long_as_the_table_says(table):
    figure = plots.latency_bars(table)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == table["latency_ms"].tolist()
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert "2.00 ms   1.00x" in texts(figure)
    assert "0.160 ms   12.5x" in texts(figure)
    (errors,) = [container for container in axes.containers if hasattr(container, "has_xerr")]
    np.testing.assert_allclose(errors[2][0].get_segments()[0][:, 0], [1.9, 2.2])


def test_layer_shares_stand_beside_each_other():
    table = pd.DataFrame({"layer": ["encoder 1", "GRU"], "share": [0.25, 0.75], "macs_share": [0.4, 0.6]})
    (axes,) = plots.layer_shares(table, {"time": "share", "MACs": "macs_share"}).axes
    time, macs = ([bar.get_width() for bar in container] for container in axes.containers)
    assert time == [25, 75]
    assert macs == [40, 60]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor(), "the recurrent layer stands out"


def test_forest_plot_is_hollow_where_nothing_is_decided(table):
    figure = plots.intervals(table, "delta_ovrl")
    (axes,) = figure.axes
    (zero,) = [line for line in axes.lines if line.get_label() == "neutral"]
    assert list(zero.get_xdata()) == [0, 0]
    hollow = [to_hex(container[0].get_markerfacecolor()) == "#ffffff" for container in axes.containers]
    assert hollow == [True, True, True, False, False]  # -0.5 and -0.4 with +0.15 stay below zero
    unknown = table.assign(delta_ovrl_ci_low=np.nan, delta_ovrl_ci_high=np.nan)
    containers = plots.intervals(unknown, "delta_ovrl").axes[0].containers
    assert {to_hex(container[0].get_markerfacecolor()) for container in containers} == {"#ffffff"}
    np.testing.assert_allclose(axes.containers[3][2][0].get_segments()[0][:, 0], [-0.7, -0.35])
    assert "−0.50" in texts(figure)
    (axes,) = plots.intervals(table, "speedup", neutral=1.0).axes
    np.testing.assert_allclose(axes.containers[2][2][0].get_segments()[0][:, 0], [2.25, 2.75])


def test_gains_stand_at_their_place_side_by_side_with_their_intervals():
    table = pd.DataFrame(
        {
            "configuration": ["a", "b", "a", "b"],
            "snr_db": [7.5, 7.5, 2.5, 2.5],
            "delta_ovrl": [0.3, 0.2, 0.1, -0.1],
            "delta_ovrl_ci_low": [0.2, 0.1, 0.0, -0.3],
            "delta_ovrl_ci_high": [0.5, 0.3, 0.3, 0.1],
        }
    )
    (axes,) = plots.gains(table, "snr_db").axes
    first, second = axes.containers
    assert list(first[0].get_ydata()) == [0.1, 0.3]  # sorted along x
    assert list(second[0].get_ydata()) == [-0.1, 0.2]
    at, beside = (line[0].get_xdata().astype(float) for line in (first, second))
    np.testing.assert_allclose((at + beside) / 2, [2.5, 7.5])
    assert (at < beside).all()
    np.testing.assert_allclose(np.array(first[2][0].get_segments())[:, :, 1], [[0.0, 0.3], [0.2, 0.5]])
    assert list(axes.get_xticks()) == [2.5, 7.5]


def test_seeds_lie_in_lanes_of_their_own_around_their_mean():
    table = pd.DataFrame(
        {
            "configuration": ["a", "b", "a", "b"],
            "seed": [5, 5, 4, 4],
            "delta_ovrl": [0.3, 0.0, 0.1, -0.1],
            "delta_ovrl_ci_low": [0.2, -0.1, 0.0, -0.3],
            "delta_ovrl_ci_high": [0.5, 0.1, 0.3, 0.1],
        }
    )
    (axes,) = plots.by_seed(table).axes
    first, second = axes.containers
    assert list(first[0].get_xdata()) == [0.3, 0.1]
    assert list(second[0].get_xdata()) == [0.0, -0.1]
    np.testing.assert_allclose(first[0].get_ydata(orig=False), [0.125, -0.125])  # seed 4 above seed 5, around row 0
    np.testing.assert_allclose(second[0].get_ydata(orig=False), [1.125, 0.875])
    np.testing.assert_allclose(np.array(first[2][0].get_segments())[:, :, 0], [[0.2, 0.5], [0.0, 0.3]])
    means = [collection for collection in axes.collections if collection not in (first[2][0], second[2][0])]
    np.testing.assert_allclose([mean.get_segments()[0][0][0] for mean in means], [0.2, -0.05])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert "4, 5" in axes.get_xlabel()


def test_an_interval_that_is_not_there_is_not_borrowed(table):
    bare = table.drop(columns=["speedup_ci_low", "delta_ovrl_ci_low"])  # ci_low and ci_high are those of latency_ms
    for metric in ("speedup", "delta_ovrl"):
        with pytest.raises(MisuseError, match="no interval"):
            plots.intervals(bare, metric)


@pytest.fixture
def forms(table) -> pd.DataFrame:
    """Two configurations in two forms."""
    frame = table.iloc[[0, 0, 2, 2]].reset_index(drop=True)
    frame.insert(1, "form", ["plain", "int8"] * 2)
    return frame.assign(
        paced_latency_ms=2 * frame["latency_ms"], bound_ms=frame["latency_ms"] / 4, chosen=[False, True, True, False]
    )


def test_the_ladder_holds_bars_marks_bounds_and_the_choice(forms):
    (axes,) = plots.ladder(forms).axes
    assert [bar.get_width() for bar in axes.patches] == forms["latency_ms"].tolist()
    rows = [bar.get_y() + bar.get_height() / 2 for bar in axes.patches]
    assert rows[2] - rows[1] > rows[1] - rows[0]  # configurations stand apart
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == ["CRUSE32  plain", "CRUSE32  int8", "P.500  plain", "P.500  int8"]
    assert [label.get_fontweight() for label in labels] == ["normal", "bold", "bold", "normal"]
    (paced,) = [line for line in axes.lines if line.get_label() == "one frame every 10 ms"]
    assert list(paced.get_xdata()) == forms["paced_latency_ms"].tolist()
    (bounds,) = [lines for lines in axes.collections if lines.get_label() == "lower bound, back to back"]
    assert [segment[0, 0] for segment in bounds.get_segments()] == forms["bound_ms"].tolist()
    assert "2.00 ms   1.00x" in texts(plots.ladder(forms))
    assert axes.get_xscale() == "log"


def test_the_ladder_needs_only_latencies(forms):
    (axes,) = plots.ladder(forms[["configuration", "form", "latency_ms"]]).axes
    assert [len(axes.patches), len(axes.collections), axes.get_legend()] == [4, 0, None]


def test_an_interval_within_the_margin_is_filled(forms):
    """All intervals are [value - 0.2, value + 0.15]: of 0, 0, -0.1 and -0.1 the last two leave ±0.25."""
    panels = plots.equivalence(forms, margin=0.25).axes
    assert [axes.get_title(loc="left") for axes in panels] == list(plots.METRICS.values())
    for axes in panels:
        filled = [to_hex(container[0].get_markerfacecolor()) != "#ffffff" for container in axes.containers]
        assert filled == [True, True, False, False]
        np.testing.assert_allclose(axes.containers[2][2][0].get_segments()[0][:, 0], [-0.3, 0.05])
        (band,) = axes.patches
        assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.25, 0.25))
    with pytest.raises(MisuseError, match="no interval for delta_sig"):
        plots.equivalence(forms.drop(columns="delta_sig_ci_low"), margin=0.25)


def test_spectrogram_shows_a_tone_at_its_frequency():
    time = np.arange(16_000) / 16_000
    figure = plots.spectrograms({"tone": np.sin(2 * np.pi * 3000 * time), "silence": np.zeros(8000)})
    tone, silence = (axes.images[0] for axes in figure.axes[:2])
    assert tone.get_extent() == [0, 1.0, 0, 8.0]
    bins = tone.get_array().shape[0]
    loudest = np.argmax(tone.get_array()[:, 50]) * 8.0 / (bins - 1)
    assert loudest == pytest.approx(3.0, abs=8.0 / bins)
    assert tone.get_array().max() == 0
    assert silence.get_array().max() < -100
    assert tone.get_clim() == silence.get_clim()


def ramp(rows: int) -> pd.DataFrame:
    """A straight line, row k at height k: the mean of the w rows up to it is k - (w - 1) / 2."""
    return pd.DataFrame({"step": range(rows), "loss": range(rows)})


def test_smooth_training_curves_are_running_means_of_a_fiftieth_of_the_longest_and_eight_rows_at_least():
    def ends(**lengths: int) -> list[tuple[float, float]]:
        figure = plots.training_curves({name: ramp(rows) for name, rows in lengths.items()}, smooth=True)
        return [tuple(line.get_ydata()[~np.isnan(line.get_ydata())][[0, -1]]) for line in figure.axes[0].get_lines()]

    assert ends(long=1000, short=25) == [(19 / 2, 999 - 19 / 2), (19 / 2, 24 - 19 / 2)]
    assert ends(short=20, shorter=9) == [(7 / 2, 19 - 7 / 2), (7 / 2, 8 - 7 / 2)]
    assert ends(few=3) == [(1, 1)]  # a mean of all that there are
    assert plots.training_curves({"a": ramp(9)}, smooth=True).axes[0].get_ylabel() == "running mean"


def test_weights_with_another_delay_share_the_colour_of_their_configuration():
    names = ["CRUSE32", "P.500", "P.875", "P.500-20ms", "P.875-20ms", "DTLN"]
    chosen = plots.colours(names)
    assert chosen["P.500-20ms"] == chosen["P.500"] == plots.colour("P.500-20ms") == plots.colour("P.500")
    assert len({chosen[name] for name in ("CRUSE32", "P.500", "P.875", "DTLN")}) == 4
    table = pd.DataFrame({"configuration": names, "snr_db": 0.0, "delta_ovrl": 0.1})
    _zero, *lines = plots.gains(table, "snr_db").axes[0].get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "-", "-", "--", "--", "-"]


def test_training_curves_leave_out_what_was_not_measured():
    history = pd.DataFrame({"step": [0, 10, 20], "train_loss": [3.0, 2.0, 1.0], "validation_loss": [4.0, np.nan, 2.0]})
    figure = plots.training_curves({"CRUSE32": history, "P.500": history * [1, 2, 2]})
    train, validation = figure.axes
    assert list(train.lines[0].get_ydata()) == [3, 2, 1]
    assert list(validation.lines[0].get_xdata()) == [0, 20]
    assert list(validation.lines[1].get_ydata()) == [8, 4]
    assert [text.get_text() for text in validation.get_legend().get_texts()] == ["CRUSE32", "P.500"]


def test_importance_is_sorted_and_coloured_by_what_is_kept():
    (axes,) = plots.importance({"c4": (np.array([1.0, 4.0, 3.0, 2.0]), [1, 3])}).axes
    kept, removed = axes.containers
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in kept] == [(0, 4), (2, 2)]
    assert [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in removed] == [(1, 3), (3, 1)]
    assert axes.get_title(loc="left") == "c4: 2 of 4 channels kept"


def test_configurations_are_drawn_over_the_first_one():
    figure = plots.configurations({"CRUSE32": (32, 64, 128, 256), "P.875": (32, 32, 32, 32)})
    first, second = figure.axes
    assert [bar.get_width() for bar in first.containers[1]] == [64, 128, 256, 512]
    assert [bar.get_width() for bar in second.containers[0]] == [64, 128, 256, 512]  # the shadow
    assert [bar.get_width() for bar in second.containers[1]] == [64, 64, 64, 64]
    assert {"CRUSE32", "P.875", "256"} <= set(texts(figure))


def test_lines_of_sparse_kernels_a_line_at_one_and_rivals():
    zeros, speedups = [0.5, 0.8, 0.9], {"csr": [0.5, 1.0, 2.0], "bsr": [0.8, 2.0, 4.0]}
    rows = [
        (kernel, share, value)
        for kernel, values in speedups.items()
        for share, value in zip(zeros, values, strict=True)
    ]
    warm = pd.DataFrame(rows, columns=["kernel", "zeros", "speedup"]).assign(caches="warm")
    table = pd.concat([warm, warm.assign(speedup=3 * warm["speedup"], caches="cold")])
    table["speedup_ci_low"], table["speedup_ci_high"] = 0.9 * table["speedup"], 1.2 * table["speedup"]
    rivals = pd.DataFrame({"kernel": ["int8"] * 2, "speedup": [8.0, 5.0], "caches": ["warm", "cold"]})
    figure = plots.sparse_speedups(table.sample(frac=1, random_state=0), rivals)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    for caches, factor, rival in (("warm", 1, 8.0), ("cold", 3, 5.0)):
        axes = panels[caches]
        lines = {container.get_label(): container for container in axes.containers}
        assert set(lines) == set(speedups)
        for kernel, container in lines.items():
            line, _, (bars,) = container
            np.testing.assert_allclose(line.get_xdata().astype(float), [50, 80, 90])
            np.testing.assert_allclose(line.get_ydata().astype(float), factor * np.array(speedups[kernel]))
            np.testing.assert_allclose(bars.get_segments()[1][:, 1], line.get_ydata()[1] * np.array([0.9, 1.2]))
        levels = {line.get_label(): line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1}
        assert levels == {"dense": 1, "int8": rival}
    assert {"csr", "bsr", "dense", "int8"} <= set(texts(figure))
    assert len(plots.sparse_speedups(warm.drop(columns="caches")).axes) == 1


def test_only_a_full_run_is_not_marked(table):
    assert "quick run" in texts(plots.latency_bars(table))
    assert "quick run" in texts(plots.latency_bars(table, profile="quick"))
    assert not any(text.endswith(" run") for text in texts(plots.latency_bars(table, profile="full")))


def test_a_configuration_has_one_colour_and_the_same_in_another_process():
    colours = {name: plots.colour(name) for name in [*NAMES, "P.625", "noisy", "GRU 0.25", "directly trained"]}
    assert len(set(colours.values())) == len(colours)
    code = f"import json; from dnslib import plots; print(json.dumps([plots.colour(n) for n in {list(colours)}]))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(other.stdout) == list(colours.values())


def test_names_that_share_a_colour_are_told_apart_where_they_stand_together():
    names = ["CRUSE32", "DTLN", "P.500", "GTCRN", "RNNoise"]
    assert plots.colour("DTLN") == plots.colour("RNNoise")  # or this test shows nothing
    chosen = plots.colours(names)
    assert list(chosen) == names
    assert len(set(chosen.values())) == len(names)
    assert {name: chosen[name] for name in names[:3]} == {name: plots.colour(name) for name in names[:3]}


def test_figures_are_not_left_open_and_settings_not_changed(table):
    before, opened = dict(mpl.rcParams), plt.get_fignums()
    plots.speed_and_quality(table)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == opened


@pytest.mark.parametrize(
    "draw",
    [
        plots.latency_bars,
        plots.speed_and_quality,
        plots.layer_shares,
        plots.intervals,
        plots.ladder,
        plots.sparse_speedups,
        lambda table: plots.equivalence(table, 0.02),
        lambda table: plots.gains(table, "snr_db"),
    ],
    ids=[
        "latency_bars",
        "speed_and_quality",
        "layer_shares",
        "intervals",
        "ladder",
        "sparse_speedups",
        "equivalence",
        "gains",
    ],
)
def test_a_missing_column_is_named(draw):
    with pytest.raises(MisuseError, match="lacks the columns"):
        draw(pd.DataFrame({"something": [1]}))


@pytest.mark.parametrize(
    "draw",
    [plots.spectrograms, plots.training_curves, plots.importance, plots.configurations],
    ids=lambda f: f.__name__,
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(MisuseError, match="There is no"):
        draw({})


def test_pareto_front_draws_every_design_fills_the_front_and_names_what_counts():
    designs = pd.DataFrame(
        {
            "configuration": ["CRUSE32", "P.500", "16x32x48x64 / 2", "8x16x32x48"],
            "latency_ratio": [1.0, 0.4, 0.2, 0.25],
            "latency_ratio_ci_low": [0.98, 0.37, 0.18, 0.2],
            "latency_ratio_ci_high": [1.03, 0.41, 0.21, 0.3],
            "delta_loss": [0.0, 0.01, 0.03, 0.05],
            "on_front": [True, True, True, False],
            "is_paper_configuration": [True, True, False, False],
        }
    )
    axes = plots.pareto_front(designs).axes[0]
    points = {container.get_label(): container for container in axes.containers}
    assert list(points) == list(designs["configuration"])
    for place, (line, _, bars) in enumerate(points.values()):
        x, y, low, high = (
            designs.iloc[place, 1],
            designs["delta_loss"][place],
            designs.iloc[place, 2],
            designs.iloc[place, 3],
        )
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (x, y)
        assert bars[0].get_segments()[0][:, 0].tolist() == pytest.approx([low, high])
        assert (to_hex(line.get_markerfacecolor()) != "#ffffff") == designs["on_front"][place]
    assert [text.get_text() for text in axes.texts] == ["CRUSE32", "P.500", "16x32x48x64 / 2"]
    (stairs,) = [line for line in axes.lines if line.get_label() == "front"]
    assert stairs.get_xdata().tolist() == [0.2, 0.4, 1.0]
    slower = plots.pareto_front(designs.assign(latency_ratio=[1.0, 2.4, 0.2, 0.25])).axes[0]
    assert [tick.get_text() for tick in slower.get_xticklabels()] == ["0.2", "0.5", "1", "2"]
    with pytest.raises(MisuseError, match="lacks the columns delta_loss"):
        plots.pareto_front(designs.drop(columns="delta_loss"))
