"""Roles of inputs and outputs recognised from the file alone, and a table for models written by others."""

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from onnx import TensorProto, helper

from dnslib import CONFIGURATIONS, Cruse, MisuseError, profiling
from dnslib.__main__ import main
from dnslib.benchmark import AnySession, Value, as_text, benchmark, labels, recognise
from dnslib.export import export_streaming
from dnslib.profiling import latency_table


def value(name: str, *shape: int, dtype=np.float32) -> Value:
    return Value(name, shape, dtype)


def foreign(path, frame="mix", state="cache", next_state="cache_updated", size=12, state_size=None, open_size=False):
    """A network with names of its own: result = frame + state, next state = 0.5 (frame + state), frame first."""
    first = "frames" if open_size else 1
    kinds = {name: (TensorProto.FLOAT, [first, size]) for name in (frame, "enhanced")}
    kinds |= {name: (TensorProto.FLOAT, [1, state_size or size]) for name in (state, next_state)}
    inputs, outputs = ([helper.make_tensor_value_info(n, *kinds[n]) for n in names]
                       for names in ((frame, state), ("enhanced", next_state)))  # fmt: skip
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    nodes = [helper.make_node("Add", [frame, state], ["enhanced"]),
             helper.make_node("Mul", ["enhanced", "half"], [next_state])]  # fmt: skip
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, [half])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def growing(path):
    """A network whose state, of open size, is twice as long after every frame: no size to keep it in."""
    kinds = {"x": [1, 4], "y": [1, 4], "s": [1, "old"], "s_next": [1, "new"]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in kinds.items()}
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Concat", ["s", "s"], ["s_next"], axis=1)]
    graph = helper.make_graph(nodes, "growing", [values["x"], values["s"]], [values["y"], values["s_next"]])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return export_streaming(Cruse(CONFIGURATIONS["P.875"]), tmp_path_factory.mktemp("ours") / "P.875.onnx")


# roles

FRAME, MASK = value("frame", 1, 257), value("mask", 1, 257)
H, C = value("h", 2, 64), value("c", 1, 257)


@pytest.mark.parametrize(
    ("inputs", "outputs", "frame", "states"),
    [
        # by name, in any order, although c looks like the frame
        ([value("c", 1, 257), FRAME], [value("c_next", 1, 257), MASK], "frame", {"c": "c_next"}),
        ([FRAME, H, C], [value("next_c", 1, 257), MASK, value("h_out", 2, 64)], "frame", {"h": "h_out", "c": "next_c"}),
        ([FRAME, value("h_in", 2, 64)], [MASK, value("h_out", 2, 64)], "frame", {"h_in": "h_out"}),
        ([value("in_h", 2, 64), FRAME], [MASK, value("out_h", 2, 64)], "frame", {"in_h": "out_h"}),
        ([value("input", 1, 257), C], [value("output", 1, 257), value("b", 1, 257)], "input", {"c": "b"}),
        # by shape, where only the frame remains
        ([H, FRAME], [value("a", 1, 40), value("b", 2, 64)], "frame", {"h": "b"}),
        # by shape, in order: two states alike
        (
            [FRAME, H, value("k", 2, 64)],
            [value("a", 1, 40), value("b", 2, 64), value("d", 2, 64)],
            "frame",
            {"h": "b", "k": "d"},
        ),
        # nothing remains: frame and result come first
        ([FRAME, C], [MASK, value("b", 1, 257)], "frame", {"c": "b"}),
        # the result looks like the state, the frame like nothing: the result comes first
        ([value("frame", 160), H], [value("mask", 2, 64), value("b", 2, 64)], "frame", {"h": "b"}),
        # the type tells a state from a result of equal shape
        (
            [FRAME, value("n", 1, 257, dtype=np.int64)],
            [MASK, value("m", 1, 257, dtype=np.int64)],
            "frame",
            {"n": "m"},
        ),
    ],
)
def test_roles(inputs, outputs, frame, states):
    roles = recognise(inputs, outputs)
    assert roles.frame.name == frame
    assert {state.name: following.name for state, following in roles.states} == states
    assert {v.name for v in roles.results} == {v.name for v in outputs} - set(states.values())


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ([FRAME], [value("class", 10)], "it has no state"),
        ([FRAME], [MASK], "it has no state"),
        ([FRAME, H, value("rate", dtype=np.int64)], [MASK, value("h_next", 2, 64)], "no state: frame, rate"),
        ([H], [value("h_next", 2, 64), MASK], "inputs that are no state: none"),
        ([value("i", 5, dtype=np.int64), H], [MASK, value("h_next", 2, 64)], "not made of floating-point numbers"),
    ],
)
def test_what_cannot_be_told_is_refused(inputs, outputs, words):
    with pytest.raises(MisuseError, match=words):
        recognise(inputs, outputs, "net.onnx")


def test_our_states_are_recognised(ours):
    roles = AnySession(ours).roles
    assert roles.frame.name == "log_power"
    assert [v.name for v in roles.results] == ["gain"]
    assert all(following.name == f"{state.name}_next" for state, following in roles.states)


# running


@pytest.mark.parametrize("open_size", [False, True])
def test_states_are_carried(tmp_path, open_size):
    """result_t = frame_t + s_t and s_t+1 = result_t / 2, computed by hand."""
    session = AnySession(foreign(tmp_path / "net.onnx", open_size=open_size))
    assert session.frames.shape == (1000, 1, 12)
    state = np.zeros((1, 12))
    for index in range(5):
        session.step(index)
        state = 0.5 * (session.frames[index] + state)
        latest = session._bindings[1 - session._turn].get_outputs()[1].numpy()
        np.testing.assert_allclose(latest, state, rtol=1e-6)


def test_a_table_of_ours_and_a_foreign_model(ours, tmp_path):
    other = foreign(tmp_path / "foreign.onnx")
    table = benchmark([ours, other], rounds=3, frames_per_round=4, warmup_frames=1)
    assert list(table["model"]) == ["P.875", "foreign", "self_check"]
    expected = latency_table({"a": np.ones((2, 2))}, "a").columns
    assert list(table.columns) == [*expected, "memory_mb", "states", "frame"]
    assert table["memory_mb"].tolist() == [ours.stat().st_size / 1e6, other.stat().st_size / 1e6, table["memory_mb"][0]]
    assert list(table["states"]) == [12, 1, 12]  # 4 encoders, 4 groups, 4 decoders in the plain form
    assert list(table["frame"]) == ["log_power 1x1x1x161", "mix 1x12", "log_power 1x1x1x161"]
    assert list(table["frames"]) == [12] * 3
    assert (table["latency_ms"] > 0).all()
    assert table["speedup"][0] == 1
    text = as_text(table, {"cpu": "a processor"})
    assert "a processor" in text
    assert "3 rounds, 12 frames a model" in text
    assert text.splitlines()[-2].split()[0] == "foreign"


def test_equal_names_are_told_apart_by_their_folders(tmp_path):
    one, other, third = tmp_path / "a" / "net.onnx", tmp_path / "b" / "net.onnx", tmp_path / "b" / "other.onnx"
    assert labels([one, third]) == {"net": one, "other": third}
    assert labels([one, other, third]) == {"a/net": one, "b/net": other, "b/other": third}
    assert labels([one, one]) == {"net": one}


# misuse


def test_files_that_cannot_be_measured(tmp_path, ours):
    (tmp_path / "text.onnx").write_text("no network")
    for path, words in {
        tmp_path / "none.onnx": "There is no ONNX file",
        tmp_path / "text.onnx": "cannot be opened as an ONNX network",
        growing(tmp_path / "growing.onnx"): r"the state s, \(1, 1\), comes back as \(1, 2\)",
    }.items():
        with pytest.raises(MisuseError, match=words) as caught:
            benchmark([ours, path], rounds=2, frames_per_round=1)
        assert "\n" not in str(caught.value)


def test_too_few_rounds_and_too_many_frames(ours, monkeypatch):
    with pytest.raises(MisuseError, match="at least 2 rounds"):
        benchmark([ours], rounds=1)
    with pytest.raises(MisuseError, match="warm-up must not be negative"):
        benchmark([ours], warmup_frames=-1)
    with pytest.raises(MisuseError, match="no model"):
        benchmark([])
    monkeypatch.setattr("dnslib.benchmark.MOST_FRAMES", 5)
    with pytest.raises(MisuseError, match="2 rounds of 3 frames are more than"):
        benchmark([ours], rounds=2, frames_per_round=3)


def test_the_command_prints_the_table_and_writes_it(ours, tmp_path, capsys):
    models = [str(ours), str(foreign(tmp_path / "foreign.onnx"))]
    csv = tmp_path / "table.csv"
    assert main(["benchmark", *models, "--rounds", "2", "--frames", "3", "--csv", str(csv)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    table = pd.read_csv(csv)
    assert list(table["model"]) == ["P.875", "foreign", "self_check"]
    for name in table["model"]:
        assert name in captured.out
    assert "onnxruntime" in captured.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.onnx"], "There is no ONNX file"),
        (["--rounds", "1"], "at least 2 rounds"),
        (["--csv", "no/such/folder/table.csv"], "cannot be written"),
    ],
)
def test_misuse_of_the_command_is_one_line(ours, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", str(ours), *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_denormals_are_flushed_while_other_projects_models_are_timed(ours, monkeypatch):
    """As the protocol says that stands above the table."""
    flushed, measure, denormal = [], profiling.time_rounds, torch.tensor(1e-40)
    monkeypatch.setattr(profiling, "time_rounds", lambda *given: flushed.append(denormal * 1 == 0) or measure(*given))
    benchmark([ours], rounds=2, frames_per_round=1, warmup_frames=0)
    assert flushed == [True]
    assert denormal * 1 != 0
