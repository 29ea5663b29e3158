import gc
import json
import threading
import time
import weakref
from collections import Counter
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from dnslib import gru, profiling
from dnslib.errors import MisuseError
from dnslib.export import export_streaming
from dnslib.locks import waiting
from dnslib.model import Cruse
from dnslib.model import parameter_count as torch_parameter_count
from dnslib.paper import CONFIGURATIONS
from dnslib.profiling import (
    conditions,
    count_macs,
    decaying_frames,
    kernel_times,
    latency,
    latency_table,
    layer_shares,
    macs_by_operator,
    measure_latency,
    memory_mb,
    parameter_count,
    process_memory,
    self_check_verdict,
    time_rounds,
    timing_conditions,
    weight_bytes,
)

SMALL, SMALLER = ((4, 6, 8), 2), ((2, 4), 1)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Function (widths, groups, form) -> path of an exported network."""
    folder = tmp_path_factory.mktemp("profiling")

    def export(widths, groups=4, form="plain"):
        path = folder / f"{'_'.join(map(str, widths))}_{groups}_{form}.onnx"
        return path if path.exists() else export_streaming(Cruse(widths, groups), path, form)

    return export


# arithmetic and size


def closed_form_macs(widths, groups) -> int:
    """Multiply-accumulates of one frame, from the definition of the network alone."""
    bins = [161]
    for _ in widths:
        bins.append((bins[-1] - 3) // 2 + 1)
    encoders = sum(6 * c_in * c_out * f for c_in, c_out, f in zip((1, *widths), widths, bins[1:], strict=False))
    skips = sum(width**2 * f for width, f in zip(widths, bins[1:], strict=True))
    size = widths[-1] * bins[-1] // groups
    return 2 * encoders + skips + groups * 6 * size**2  # a decoder has the products of its encoder


SHAPES = [(CONFIGURATIONS["CRUSE32"], 4), (CONFIGURATIONS["P.875"], 4), SMALL, SMALLER, ((3, 4, 5, 6, 6), 3)]


@pytest.mark.parametrize(("widths", "groups"), SHAPES)
def test_macs_are_the_closed_form_and_what_torch_counts(export, widths, groups, monkeypatch):
    macs = count_macs(export(widths, groups))
    assert macs == closed_form_macs(widths, groups)
    frames, model, transposed = 5, Cruse(widths, groups), torch.nn.ConvTranspose2d.forward
    # torch's own operator, for a decoder written as another convolution may multiply zeros besides
    monkeypatch.setattr(type(model.decoders[0]), "forward", lambda self, x: transposed(self, x)[:, :, : x.shape[2]])
    monkeypatch.setattr(gru, "PACKED_TYPES", ())  # and its counter does not know products of packed weights
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, frames, 161))
    assert counter.get_total_flops() == 2 * macs * frames


def test_cruse32_needs_15_50_million_macs(export):
    assert count_macs(export(CONFIGURATIONS["CRUSE32"])) / 1e6 == pytest.approx(15.50, abs=0.005)


@pytest.mark.parametrize("form", ["exact", "int8"])
@pytest.mark.parametrize(("widths", "groups"), SHAPES)
def test_macs_of_layers_as_products(export, widths, groups, form):
    """Every level has a row of zeros or more; a decoder has four products a pair of bins and makes all rows."""
    bins = [161]
    for _ in widths:
        bins.append((bins[-1] - 3) // 2 + 1)
    pairs = [max(smaller + 1, -(-(here + 1) // 2)) for here, smaller in pairwise(bins)]
    rows = [2 * count for count in pairs] + [bins[-1] + 1]
    size = widths[-1] * bins[-1] // groups
    macs = groups * 6 * size**2
    for level, (c_in, c_out) in enumerate(zip((1, *widths), widths, strict=False), start=1):
        macs += 6 * c_in * c_out * rows[level] + c_out**2 * rows[level] + 4 * c_out * 2 * c_in * pairs[level - 1]
    assert count_macs(export(widths, groups, form)) == macs


@pytest.mark.parametrize(("widths", "groups"), SHAPES)
def test_parameters_and_memory(export, widths, groups):
    path, parameters = export(widths, groups), torch_parameter_count(Cruse(widths, groups))
    assert parameter_count(path) == parameters
    with pytest.raises(MisuseError, match="not in the int8 one"):
        parameter_count(export(widths, groups, "int8"))
    assert memory_mb(path) == path.stat().st_size / 1e6
    assert 0 < memory_mb(path) - 4 * parameters / 1e6 < 0.02  # four bytes each, and the graph


def graph_file(path, nodes, x_shape, constants: dict):
    """An ONNX file that makes y from x and ``constants``; the sizes of y are left open."""
    shapes = {"x": x_shape, "y": [None] * len(x_shape)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "toy", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def transposed(output):
    weight = {"w": np.zeros((2, 5, 2, 3), np.float32)}  # 2 channels to 5, 2 frames by 3 bins
    return helper.make_node("ConvTranspose", ["x", "w"], [output], kernel_shape=(2, 3), strides=(1, 2)), weight


def test_what_a_slice_cuts_off_is_not_needed(tmp_path):
    """Two frames give three; the middle one takes one product from each frame, half of all."""
    node, constants = transposed("y")
    everything = count_macs(graph_file(tmp_path / "all.onnx", [node], (1, 2, 2, 7), constants))
    assert everything == 2 * 5 * (2 * 2) * (7 * 3)
    node, constants = transposed("full")
    cut = helper.make_node("Slice", ["full", "start", "end", "axis"], ["y"])
    for start, end, share in ((1, 2, 2 / 4), (0, 1, 1 / 4), (0, 3, 1), (-1, 99, 1 / 4)):
        ends = {"start": np.array([start]), "end": np.array([end]), "axis": np.array([2])}
        path = graph_file(tmp_path / "cut.onnx", [node, cut], (1, 2, 2, 7), constants | ends)
        assert count_macs(path) == everything * share


@pytest.mark.parametrize(
    ("operator", "constants", "attributes"),
    [
        ("MatMul", {"w": np.zeros((3, 5), np.float32)}, {}),
        ("Gemm", {"w": np.zeros((3, 5), np.float32)}, {}),
        ("Gemm", {"w": np.zeros((5, 3), np.float32)}, {"transB": 1}),
        ("DynamicQuantizeMatMul", {"w": np.zeros((3, 5), np.int8), "w_scale": np.ones(5, np.float32)}, {}),
        (
            "MatMulNBits",
            {"w": np.zeros((5, 1, 16), np.uint8), "w_scale": np.ones(5, np.float32)},
            {"K": 3, "N": 5, "bits": 8, "block_size": 16},
        ),
    ],
)
def test_matrix_products_of_every_precision(operator, constants, attributes, tmp_path):
    domain = "" if operator in ("MatMul", "Gemm") else "com.microsoft"
    node = helper.make_node(operator, ["x", *constants], ["y"], domain=domain, **attributes)
    assert count_macs(graph_file(tmp_path / "product.onnx", [node], (2, 3), constants)) == 2 * 3 * 5


def test_unknown_weights_are_not_counted_as_nothing(tmp_path):
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik", name="mixed")
    path = graph_file(tmp_path / "einsum.onnx", [node], (2, 3), {"w": np.zeros((3, 5), np.float32)})
    with pytest.raises(MisuseError, match="Einsum nodes, such as 'mixed'"):
        count_macs(path)


def test_open_shapes_are_not_counted_as_nothing(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = graph_file(tmp_path / "open.onnx", [node], ("n", 3), {"w": np.zeros((3, 5), np.float32)})
    with pytest.raises(MisuseError, match="does not tell the shape of 'x'"):
        count_macs(path)


def test_macs_by_operator_are_all_of_them(export):
    """In int8 the GRUs' products are those of `MatMulNBits`: six matrices of H x H for each group."""
    path = export((8, 16, 64), 2, "int8")
    found = macs_by_operator(path)
    assert sum(found.values()) == count_macs(path)
    assert found["MatMulNBits"] == 2 * 6 * (64 * 19 // 2) ** 2
    assert {"Gemm", "DynamicQuantizeMatMul"} <= set(found)  # the first and last layer stay in float32


def test_bytes_read_every_frame(export, tmp_path):
    """Four a weight in float32; a quarter in int8, and scales; a constant that nobody reads does not count."""
    shape = (8, 16, 64), 2
    parameters = torch_parameter_count(Cruse(*shape))
    assert 4 * parameters <= weight_bytes(export(*shape)) < 1.001 * 4 * parameters
    assert parameters < weight_bytes(export(*shape, "int8")) < 0.3 * 4 * parameters
    constants = {"w": np.zeros((3, 5), np.float32), "b": np.zeros(5, np.float16), "unread": np.zeros(99, np.int8)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["w", "w"], ["w2"])]
    assert weight_bytes(graph_file(tmp_path / "net.onnx", nodes, (2, 3), constants)) == 3 * 5 * 4  # b unread, too


def test_memory_of_a_fresh_process_holds_the_weights(export):
    """32 MB of weights more must take at least 32 MB more, and the peak is the highest of all."""
    small, large = (process_memory(export(widths)) for widths in ((4, 8, 16, 16), CONFIGURATIONS["CRUSE32"]))
    for memory in (small, large):
        assert 10 < memory.before_mb <= memory.resident_mb <= memory.peak_mb
    weights_mb = 4 * torch_parameter_count(Cruse(CONFIGURATIONS["CRUSE32"])) / 1e6
    assert large.resident_mb - small.resident_mb > 0.9 * weights_mb
    assert large.before_mb == pytest.approx(small.before_mb, rel=0.1)  # neither has the weights of this process in it


# statistics of latencies


def toy_times() -> dict[str, np.ndarray]:
    """Milliseconds of 3 rounds of 5 frames: `half` takes half of `full` in each round, while the machine slows down."""
    full = np.array([[2, 2, 2, 3, 11], [4, 4, 4, 4, 4], [8, 7, 8, 9, 8]]) * 1e6
    return {"full": full, "half": full / 2}


def test_with_fewer_rounds_than_models_nobody_is_always_early():
    """Of 24 models in 6 rounds, each model's mean place lies near the middle of 0 to 23."""
    order, names = [], [f"{index:02d}" for index in range(24)]
    openers = {name: lambda name=name: lambda _: order.append(name) for name in names}
    time_rounds(openers, np.zeros((1, 161), np.float32), 6, 1, 0)
    places = {name: np.mean([order[24 * r : 24 * r + 24].index(name) for r in range(6)]) for name in names}
    assert max(abs(place - 11.5) for place in places.values()) < 2.5


def test_latency_table_by_hand():
    table = latency_table(toy_times(), reference="full").set_index("model")
    assert list(table["latency_ms"]) == [4, 2]  # the median of the round medians 2, 4, 8
    assert list(table["p95_ms"]) == pytest.approx([9.6, 4.8])  # 15 sorted frames end in 8, 8, 8, 9, 11: place 13.3
    assert list(table["p99_ms"]) == pytest.approx([10.72, 5.36])  # place 13.86
    assert list(table["speedup"]) == [1, 2]
    assert list(table["rounds"]) == [3, 3]
    assert list(table["frames"]) == [15, 15]
    # paired rounds: the drift widens the interval of the latency, not that of the speedup
    assert (table.loc["half", "ci_low"], table.loc["half", "ci_high"]) == (1, 4)
    assert (table.loc["half", "speedup_ci_low"], table.loc["half", "speedup_ci_high"]) == (2, 2)


def test_a_speedup_is_the_median_of_paired_rounds():
    """Ratios of 2, 9 and 1: their median is 2, their mean 4, and the ratio of the median times, 4 and 3, is 4 / 3."""
    full, other = np.array([[2.0], [27], [4]]), np.array([[1.0], [3], [4]])
    table = latency_table({"full": full, "other": other}, reference="full").set_index("model")
    assert table["speedup"].to_dict() == {"full": 1, "other": 2}


def test_latency_table_against_a_slower_reference():
    table = latency_table(toy_times(), reference="half").set_index("model")
    assert table.loc["full", "speedup"] == 0.5
    assert table.loc["half", "speedup"] == 1


class Clock:
    """Time that passes only when a model works: ``cost[name]`` nanoseconds a frame; what ran is kept in ``log``."""

    def __init__(self, cost):
        self.now, self.log, self.opened = 0, [], []
        self.openers = {name: partial(self.open, name, nanoseconds) for name, nanoseconds in cost.items()}

    def open(self, name, nanoseconds):
        self.opened.append(name)

        def step(frame):
            self.now += nanoseconds
            self.log.append((name, int(frame[0])))

        return step


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 11])
def test_every_model_stands_everywhere_and_behind_every_other_equally_often(count):
    times = 1 if count % 2 == 0 else 2
    orders = [latency.balanced(count, number) for number in range(times * count)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    for place in range(count):
        assert Counter(order[place] for order in orders) == dict.fromkeys(range(count), times)
    behind = Counter(pair for order in orders for pair in pairwise(order))
    assert behind == {(a, b): times for a in range(count) for b in range(count) if a != b}


def test_a_model_is_closed_before_the_next_is_opened():
    """Or the place of its weights in memory would depend on whose turn was before."""
    alive = []

    def opener(name):
        def step(frame):
            pass

        assert not [one for one in alive if one() is not None]
        alive.append(weakref.ref(step))
        return step

    time_rounds({name: partial(opener, name) for name in "abc"}, np.zeros((1, 1)), 3, 2, 1)
    assert len(alive) == 9


def test_rounds_change_order_and_all_models_see_the_same_frames():
    clock = Clock({"a": 7, "b": 11, "c": 13})
    frames = np.arange(5)[:, None]  # five frames, numbered, used again and again
    times = time_rounds(clock.openers, frames, rounds=4, frames_per_round=2, warmup_frames=1, clock=lambda: clock.now)
    assert {name: set(values.ravel()) for name, values in times.items()} == {"a": {7}, "b": {11}, "c": {13}}
    assert {values.shape for values in times.values()} == {(4, 2)}
    ran = [clock.log[9 * r : 9 * r + 9] for r in range(4)]
    assert ["".join(name for name, _ in calls[::3]) for calls in ran] == ["acb", "bac", "cba", "bca"]
    assert "".join(clock.opened) == "acbbaccbabca"  # every model anew in every round
    assert [[frame for _, frame in calls[:3]] for calls in ran] == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]
    assert all([frame for _, frame in calls] == [frame for _, frame in calls[:3]] * 3 for calls in ran)


def test_no_garbage_is_collected_while_frames_are_timed():
    collecting = []
    time_rounds({"a": lambda: lambda frame: collecting.append(gc.isenabled())}, np.zeros((1, 1)), 2, 3, 1)
    assert collecting == [False] * 8
    assert gc.isenabled()
    with pytest.raises(KeyError):
        time_rounds({"a": partial({}.__getitem__, "nothing")}, np.zeros((1, 1)), 2, 3, 1)
    assert gc.isenabled()


def test_two_measurements_of_a_user_take_turns(tmp_path, monkeypatch):
    """The second one has timed nothing before the first one ends."""
    monkeypatch.setattr(latency, "clock_lock", lambda: tmp_path / "clock.lock")
    clock = Clock({"a": 7})
    measure = partial(time_rounds, clock.openers, np.zeros((1, 1)), 2, 3, 0, clock=lambda: clock.now)
    second = threading.Thread(target=measure, daemon=True)
    with waiting(latency.clock_lock(), "the clock"):
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert clock.now == 0
    second.join(30)
    assert clock.now == 6 * 7


@pytest.mark.parametrize(("percent", "cores", "told"), [(20.0, 2, False), (60.0, 2, True), (10.0, 16, True)])
def test_other_programs_that_are_busy_are_told(monkeypatch, capsys, percent, cores, told):
    monkeypatch.setattr(latency.psutil, "cpu_percent", lambda seconds: percent)
    monkeypatch.setattr(latency.psutil, "cpu_count", lambda: cores)
    latency.tell_busy_cores()
    out = capsys.readouterr().out
    assert (f"other programs keep {percent * cores / 100:.1f} cores busy" in out) == told


def test_what_happens_between_frames_is_not_timed():
    clock, calls = Clock({"a": 7}), []

    def sleep(seconds):
        clock.now += round(1e9 * seconds)
        calls.append(seconds)

    wait = profiling.Pace(10, clock=lambda: clock.now / 1e9, sleep=sleep)
    times = time_rounds(clock.openers, np.zeros((1, 1)), 2, 3, 0, clock=lambda: clock.now, before=wait)
    assert set(times["a"].ravel()) == {7}
    assert len(calls) == 6
    assert clock.now == 6 * 10_000_000 + 7  # the last frame is begun after six periods


def test_frames_come_at_a_pace():
    """Work of 3 ms every 10 ms leaves a sleep of 7; a frame that took 24 ms is followed by a whole period."""
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(round(1e3 * seconds, 6))
        now[0] += seconds

    wait = profiling.Pace(10.0, clock=lambda: now[0], sleep=sleep)
    started = []
    for work in (0.003, 0.003, 0.024, 0.001, 0.001):
        wait()
        started.append(round(1e3 * (now[0] - 100), 6))
        now[0] += work
    assert slept == [10, 7, 7, 10, 9]
    assert started == [10, 20, 30, 64, 74]


def test_paced_frames_really_pause(export):
    """6 frames of two networks and the self check, 4 ms apart, take at least 2 x 3 x 3 x 4 ms; no pause is timed."""
    paths = {"small": export(*SMALL), "smaller": export(*SMALLER)}
    begin = time.perf_counter()
    table = measure_latency(paths, rounds=2, frames_per_round=3, warmup_frames=1, pace_ms=4.0)
    assert time.perf_counter() - begin >= 18 * 0.004
    assert list(table.columns) == COLUMNS


# real files


COLUMNS = [
    *("model", "latency_ms", "ci_low", "ci_high", "p95_ms", "p99_ms"),
    *("speedup", "speedup_ci_low", "speedup_ci_high", "rounds", "frames"),
]


@pytest.mark.parametrize("evict_mb", [0.0, 0.5])
def test_measure_latency_of_two_networks(export, evict_mb):
    paths = {"small": export(*SMALL), "smaller": export(*SMALLER)}
    table = measure_latency(paths, rounds=4, frames_per_round=6, warmup_frames=2, evict_mb=evict_mb)
    assert list(table.columns) == COLUMNS
    assert list(table["model"]) == ["small", "smaller", "self_check"]
    assert (table["ci_low"] <= table["latency_ms"]).all()
    assert (table["latency_ms"] <= table["ci_high"]).all()
    assert (table["p95_ms"] <= table["p99_ms"]).all()
    assert (table["speedup_ci_low"] <= table["speedup"]).all()
    assert (table["speedup"] <= table["speedup_ci_high"]).all()
    assert (table["ci_low"] > 0).all()
    assert tuple(table.loc[0, ["speedup", "speedup_ci_low", "speedup_ci_high"]]) == (1, 1, 1)
    assert set(table["frames"]) == {24}


@pytest.mark.parametrize(
    ("evict_mb", "pace_ms", "expected"), [(3.0, 0.0, [3_000_000]), (0.0, 4.0, [4.0]), (3.0, 4.0, [3_000_000, 4.0])]
)
def test_what_is_timed_is_what_was_given(monkeypatch, evict_mb, pace_ms, expected):
    """Files, frames, and the bytes that are read and the pause that is made ahead of a frame, in this order."""
    happened, seen, denormal = [], {}, torch.tensor(1e-40)

    class Memory(np.ndarray):
        def sum(self):
            happened.append(self.nbytes)

    def rounds(openers, frames, *numbers, before):
        seen.update(opened={name: open_step() for name, open_step in openers.items()}, frames=frames, numbers=numbers)
        seen["flushed"] = denormal * 1 == 0
        before()
        return {name: np.ones(numbers[:2]) for name in openers}

    memory = SimpleNamespace(**{**vars(np), "ones": lambda count: np.ones(count).view(Memory)})
    monkeypatch.setattr(profiling.latency, "np", memory)
    monkeypatch.setattr(profiling.latency, "Pace", lambda period_ms: partial(happened.append, period_ms))
    monkeypatch.setattr(profiling.latency, "_open_step", lambda path: path)
    monkeypatch.setattr(profiling.latency, "time_rounds", rounds)
    frames = np.random.default_rng(0).normal(size=(7, 161)).astype(np.float32)
    paths = {"first": "a.onnx", "second": "b.onnx"}
    measure_latency(paths, 2, 3, 5, reference="second", frames=frames, evict_mb=evict_mb, pace_ms=pace_ms)
    assert seen["opened"] == {"first": "a.onnx", "second": "b.onnx", "self_check": "b.onnx"}
    np.testing.assert_array_equal(seen["frames"], frames)
    assert seen["numbers"] == (2, 3, 5)
    assert happened == expected
    assert seen["flushed"]


def test_reference_and_frames_can_be_given(export):
    paths = {"small": export(*SMALL), "smaller": export(*SMALLER)}
    frames = decaying_frames(0.05)
    table = measure_latency(paths, 2, 20, 0, reference="smaller", frames=frames, self_check=False)
    assert list(table["model"]) == ["small", "smaller"]
    assert table.loc[1, "speedup"] == 1


def test_frames_decay_into_silence_and_depend_on_the_seed_only():
    frames = decaying_frames(2.0, seed=1)
    assert frames.shape == (201, 161)
    assert frames.dtype == np.float32
    assert frames[5].mean() > frames[30].mean() > frames[90].mean()
    np.testing.assert_array_equal(frames[85:95], frames[90, 0])  # digital silence
    np.testing.assert_array_equal(frames, decaying_frames(2.0, seed=1))
    assert not np.array_equal(frames, decaying_frames(2.0, seed=2))


def test_shares_sum_to_one_and_name_every_layer(export, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shares = layer_shares(export(*SMALL), frames=20, warmup_frames=2)
    assert shares["share"].sum() == pytest.approx(1)
    assert (shares["share"] >= 0).all()
    assert list(shares["layer"]) == [
        *("encoder_1", "skip_1", "encoder_2", "skip_2", "encoder_3", "skip_3"),
        *("gru", "gru_1", "gru_2", "decoder_3", "decoder_2", "decoder_1"),
    ]
    assert set(shares["kind"]) == {"encoder", "skip", "gru", "decoder"}
    assert list(shares.loc[shares["kind"] == "gru", "nodes"]) == [4, 1, 1]  # two reshapes, split and join; then GRUs
    assert list(tmp_path.iterdir()) == []  # neither profile nor optimised network is left


def test_neither_warm_up_nor_the_slowest_tenth_counts_in_a_share(export, monkeypatch):
    """Were every node as fast as the next, the share of a layer would be that of its nodes."""
    kernel_times = profiling.shares.kernel_times

    def made_up(events):
        names, times = kernel_times(events)
        assert len(times) == 2 + 10
        times = np.ones_like(times)
        times[:2, 0] = 1000  # warm-up
        times[5, -1] = 100  # one of ten frames
        return names, times

    monkeypatch.setattr(profiling.shares, "kernel_times", made_up)
    shares = layer_shares(export(*SMALL), frames=10, warmup_frames=2)
    assert list(shares["share"]) == pytest.approx(list(shares["nodes"] / shares["nodes"].sum()))


@pytest.mark.parametrize("form", ["exact", "int8"])
def test_shares_of_every_form(export, form):
    """The groups of 608 units are large enough for a product each, in int8 too."""
    shares = layer_shares(export((8, 16, 64), 2, form), frames=20, warmup_frames=2).set_index("layer")
    assert shares["share"].sum() == pytest.approx(1)
    assert set(shares["kind"]) == {"encoder", "skip", "gru", "decoder"}
    assert set(shares.index) == {"gru", "gru_1", "gru_2"} | {
        f"{kind}_{level}" for kind in ("encoder", "skip", "decoder") for level in (1, 2, 3)
    }


def test_layers_of_fused_and_inserted_nodes():
    """A convolution named after its activation's output, with changes of layout around it, stays in its layer."""
    node = helper.make_node
    written = [
        node("Conv", ["x"], ["a/conv"], name="a/conv"),
        node("LeakyRelu", ["a/conv"], ["b_state_next"], name="a/activation"),
        node("Conv", ["b_state_next"], ["b/conv"], name="b/conv"),
    ]
    optimised = [
        node("ReorderInput", ["x"], ["token_0"], name="ReorderInput"),
        node("Conv", ["token_0"], ["token_1"], name="b_state_next_nchwc"),
        node("Conv", ["token_1"], ["token_2"], name="b/conv_nchwc"),
        node("ReorderOutput", ["token_1"], ["b_state_next"], name="ReorderOutput"),
        node("ReorderOutput", ["token_2"], ["b/conv"], name="ReorderOutput_token_3"),
    ]
    graphs = [helper.make_graph(nodes, "graph", [], []) for nodes in (written, optimised)]
    assert profiling.shares._layers(*graphs) == {
        "ReorderInput": "a",
        "b_state_next_nchwc": "a",
        "b/conv_nchwc": "b",
        "ReorderOutput": "a",
        "ReorderOutput_token_3": "b",
    }


def test_kernel_times_by_hand():
    def event(name, dur, cat="Node"):
        return {"cat": cat, "name": name, "dur": dur}

    first = [event("a_kernel_time", 3), event("b_kernel_time", 5), event("model_run", 100, "Session")]
    second = [event("a_kernel_time", 4), event("a_fence_before", 9), event("b_kernel_time", 6)]
    names, times = kernel_times(json.loads(json.dumps(first + second)))
    assert names == ["a", "b"]
    np.testing.assert_array_equal(times, [[3, 5], [4, 6]])


def test_machine_says_what_matters():
    facts = timing_conditions()
    assert {"cpu", "cores", "governor", "load_1_min", "onnxruntime"} <= set(facts)
    assert facts["cpu"]
    assert facts["cores"] >= 1


def test_the_conditions_of_a_table_in_one_line():
    facts = {"cpu": "A processor", "last_level_cache_mb": 34, "governor": "performance"}
    facts |= {"load_1_min": 0.26, "onnxruntime": "1.2.3"}
    said = conditions(latency_table(toy_times(), "full").assign(**facts))
    assert said == (
        "A processor, last-level cache 34 MB, governor performance, one thread, ONNX Runtime 1.2.3; "
        "3 rounds, 15 frames a network, 50 more to warm up each round; load 0.3 in the minute before"
    )


# misuse


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"paths": {}}, "no model to measure"),
        ({"reference": "huge"}, "'huge' is not among the models small"),
        ({"rounds": 1}, "at least 2 rounds"),
        ({"frames_per_round": 0}, "at least 1 frame"),
        ({"warmup_frames": -1}, "must not be negative"),
        ({"evict_mb": -1}, "must not be negative"),
        ({"pace_ms": -1}, "must not be negative"),
        ({"paths": {"self_check": "x.onnx"}}, "may be called 'self_check'"),
    ],
)
def test_wrong_protocols_are_refused(export, change, complaint):
    with pytest.raises(MisuseError, match=complaint):
        measure_latency(**{"paths": {"small": export(*SMALL)}, **change})


@pytest.mark.parametrize(
    "measure",
    [
        lambda path: measure_latency({"net": path}),
        *(layer_shares, count_macs, parameter_count, memory_mb, process_memory, weight_bytes),
    ],
    ids=lambda measure: measure.__name__.replace("<lambda>", "measure_latency"),
)
def test_missing_files_are_told(measure, tmp_path):
    with pytest.raises(MisuseError, match="no ONNX file"):
        measure(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize("measure", [layer_shares, count_macs, parameter_count])
def test_corrupt_files_are_told(measure, export, tmp_path):
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(export(*SMALL).read_bytes()[:-500])
    with pytest.raises(MisuseError, match=r"truncated\.onnx is not a valid ONNX network"):
        measure(truncated)


def test_profiles_are_of_streaming_networks(tmp_path):
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = graph_file(tmp_path / "product.onnx", [node], (2, 3), {"w": np.zeros((3, 5), np.float32)})
    with pytest.raises(MisuseError, match="is not a streaming network"):
        layer_shares(path)
    with pytest.raises(MisuseError, match="at least 10 frames"):
        layer_shares(path, frames=3)


def test_the_verdict_of_a_self_check_is_whether_its_interval_holds_one():
    def verdict(low: float, high: float) -> str:
        return self_check_verdict({"x_ci_low": low, "x_ci_high": high}, "x")

    assert verdict(0.99, 1.02) == "[0.9900, 1.0200] holds 1; off by 2.0% at most"
    assert verdict(1.0, 1.0) == "[1.0000, 1.0000] holds 1; off by 0.0% at most"
    for low, high in ((0.9, 0.999), (1.001, 1.1)):
        assert "misses 1" in verdict(low, high)
        assert verdict(low, high).endswith("off by 10.0% at most")


def test_a_measurement_looks_for_other_programs_first(monkeypatch):
    happened = []
    monkeypatch.setattr(latency, "tell_busy_cores", lambda: happened.append("looked"))
    latency.time_rounds({"a": lambda: lambda frame: happened.append("frame")}, np.zeros((1, 1)), 2, 1, 0)
    assert happened == ["looked", "frame", "frame"]
