import copy
from math import prod

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import biased
from onnx import TensorProto, helper

from dnslib.errors import MisuseError
from dnslib.export import (
    FORMS,
    StreamingSession,
    export_streaming,
    flushed_denormals,
    initial_states,
    look_ahead,
    run_streaming,
    session_options,
)
from dnslib.export.products import bins_seen, pairs_of_bins, row_counts, sub_pixel_weight
from dnslib.export.quantised import FEWEST_QUANTISED, quantise_blocks, quantise_columns
from dnslib.model import Cruse, parameter_count
from dnslib.paper import CONFIGURATIONS
from dnslib.plain_training import PlainCruse
from dnslib.quality import si_sdr_db
from dnslib.stft import SAMPLE_RATE, istft, log_power, stft

WIDTHS, GROUPS = (2, 4, 6), 2  # 161, 80, 39, 19 bins, so two GRUs of 6 * 19 / 2 = 57 units


@pytest.fixture(scope="session")
def waveform() -> np.ndarray:
    """3.2 s like speech: a buzz of moving pitch in syllables, over noise, with a silent end."""
    generator = np.random.default_rng(7)
    time_s = np.arange(int(3.2 * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.8 * time_s)) / SAMPLE_RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 25))
    syllables = np.maximum(np.sin(2 * np.pi * 3.1 * time_s), 0) ** 0.5
    waveform = 0.05 * buzz * syllables + 0.01 * generator.standard_normal(time_s.size)
    waveform[-SAMPLE_RATE // 2 :] = 0
    return waveform.astype(np.float32)


@pytest.fixture(scope="session")
def frames(waveform) -> np.ndarray:
    """Log power (T, 161)."""
    return log_power(stft(torch.from_numpy(waveform))).numpy()


def lively(widths, groups=4, seed=0) -> Cruse:
    """A network whose gains move over (0, 1) and hang on its past: as PyTorch starts it, they would stay near 0.5."""
    torch.manual_seed(seed)
    model = Cruse(widths, groups).eval()
    with torch.no_grad():
        for layers, factor in ((model.encoders, 1.5), (model.skips, 1.5), (model.decoders, 2.0), ([model.gru], 2.0)):
            for layer in layers:
                for parameter in layer.parameters():
                    parameter *= factor
    return biased(model)


@torch.inference_mode()
def whole(model: Cruse, frames: np.ndarray) -> np.ndarray:
    """By the library's own layers, so that only the rounding of what is compared with it counts."""
    return PlainCruse(model).double()(torch.from_numpy(frames).double()[None, None])[0, 0].numpy()


@pytest.fixture(scope="module")
def small() -> Cruse:
    return lively(WIDTHS, GROUPS)


@pytest.fixture(scope="module")
def small_path(small, tmp_path_factory):
    return export_streaming(small, tmp_path_factory.mktemp("export") / "small.onnx")


@pytest.fixture(scope="module", params=list(FORMS))
def any_path(request, tmp_path_factory):
    """A network in each form, just wide enough that int8 quantises convolutions and GRUs."""
    model = Cruse((8, 16, 64), GROUPS).eval()
    return export_streaming(model, tmp_path_factory.mktemp("any") / f"{request.param}.onnx", request.param)


# the network, frame by frame


SHAPES = [((4,), 4), ((3, 5), 1), (WIDTHS, GROUPS), ((2, 3, 4, 5, 6), 3), ((2, 2, 3, 3, 4, 4), 2), ((4, 4, 16), 1)]


def check_equal(model, folder, frames):
    expected = whole(model, frames)
    assert len(frames) >= 300
    assert expected.std() > 0.02, "gains that hardly move would prove little"
    for form in ("plain", "exact"):
        gains = run_streaming(export_streaming(model, folder / "net.onnx", form), frames)
        np.testing.assert_allclose(gains, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["CRUSE32", "P.500", "P.750", "P.875", "CRUSE16"])
def test_frame_by_frame_equals_whole_utterance(name, frames, tmp_path):
    check_equal(lively(CONFIGURATIONS[name]), tmp_path, frames)


@pytest.mark.parametrize(("widths", "groups"), SHAPES)
def test_other_depths_and_groups(widths, groups, frames, tmp_path):
    check_equal(lively(widths, groups), tmp_path, frames)


@pytest.mark.parametrize(
    ("widths", "groups"), [*((CONFIGURATIONS[name], 4) for name in ("CRUSE32", "P.750", "P.875")), *SHAPES]
)
def test_the_exact_form_is_the_plain_one_to_rounding(widths, groups, frames, tmp_path):
    """As the network starts: a lively one amplifies the rounding of its first layers, in either form."""
    torch.manual_seed(1)
    model = Cruse(widths, groups)
    plain, exact = (
        run_streaming(export_streaming(model, tmp_path / form, form), frames) for form in ("plain", "exact")
    )
    assert plain.std() > 0.02, "gains that hardly move would prove little"
    np.testing.assert_allclose(exact, plain, atol=1e-5, rtol=0)


def test_bound_buffers_equal_plain_calls(small_path, frames):
    session = onnxruntime.InferenceSession(small_path, providers=["CPUExecutionProvider"])
    states, gains = initial_states(session), []
    for frame in frames[:50]:
        values = session.run(None, {"log_power": frame.reshape(1, 1, 1, 161), **states})
        outputs = dict(zip([output.name for output in session.get_outputs()], values, strict=True))
        gains.append(outputs["gain"].ravel())
        states = {name: outputs[f"{name}_next"] for name in states}
    np.testing.assert_allclose(run_streaming(small_path, frames[:50]), gains, atol=1e-6, rtol=0)


def test_states_are_the_named_ones_with_closed_form_shapes(small_path):
    assert {name: zero.shape for name, zero in initial_states(small_path).items()} == {
        "encoder_1_state": (1, 1, 1, 161),
        "encoder_2_state": (1, 2, 1, 80),
        "encoder_3_state": (1, 4, 1, 39),
        "gru_1_state": (1, 1, 57),
        "gru_2_state": (1, 1, 57),
        "decoder_3_state": (1, 6, 1, 19),
        "decoder_2_state": (1, 4, 1, 39),
        "decoder_1_state": (1, 2, 1, 80),
    }
    assert not any(zero.any() for zero in initial_states(small_path).values())


def test_every_state_matters(any_path, frames):
    """Forgetting any one state, even once, changes the next gain."""
    session = onnxruntime.InferenceSession(any_path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def step(frame, states):
        values = session.run(None, {"log_power": frame.reshape(1, 1, 1, 161), **states})
        outputs = dict(zip(names, values, strict=True))
        return outputs.pop("gain"), {name.removesuffix("_next"): value for name, value in outputs.items()}

    states = initial_states(session)
    for frame in frames[:40]:
        _, states = step(frame, states)
    expected, _ = step(frames[40], states)
    for name in states:
        forgetful, _ = step(frames[40], states | {name: np.zeros_like(states[name])})
        assert np.abs(forgetful - expected).max() > 1e-4, name


def test_no_gain_sees_the_future(any_path, frames):
    later = frames.copy()
    later[30:] += 1
    before, after = run_streaming(any_path, frames[:40]), run_streaming(any_path, later[:40])
    np.testing.assert_array_equal(before[:30], after[:30])
    assert (np.abs(before[30:] - after[30:]).max(axis=1) > 1e-4).all()


def test_reset_forgets_everything(any_path, frames):
    session, gains = StreamingSession(any_path), []
    for _ in range(2):
        session.reset()
        for frame in frames[:7]:  # an odd number, so that the buffers have changed places
            session.step(frame)
        gains.append(session.gain)
    np.testing.assert_array_equal(*gains)


# the exact form's rewrites


def test_rows_of_every_level():
    """161, 80, 39, 19, 9 bins, and at least one row of zeros; a decoder gives an even number of rows."""
    assert row_counts([161, 80, 39, 19, 9]) == [162, 82, 40, 20, 10]


def test_bins_an_encoder_sees_by_hand():
    """Five bins give two, whose taps overlap in bin 2; rows beyond see row 5, the first that is zero."""
    np.testing.assert_array_equal(bins_seen(4, 5, 2), [[0, 1, 2], [2, 3, 4], [5, 5, 5], [5, 5, 5]])


def test_pairs_of_bins_by_hand():
    """Two bins, and row 2, the first that is zero: pair i sees bins i and i - 1."""
    np.testing.assert_array_equal(pairs_of_bins(4, 2), [[0, 2], [1, 0], [2, 1], [2, 2]])


@pytest.mark.parametrize(("form", "node"), [("exact", "add_skip"), ("int8", "mask")])
def test_rows_beyond_the_bins_are_zero(form, node, frames, tmp_path):
    """Whatever the biases: the decoders take these rows for the zeros beyond the edges."""
    network = lively(CONFIGURATIONS["P.750"])
    for layer in (*network.encoders, *network.skips, *network.decoders):
        torch.nn.init.uniform_(layer.bias, 0.1, 1)
    path = export_streaming(network, tmp_path / "model.onnx", form)
    model = onnx.load(path)
    bins = {f"decoder_{level}/{node}": count for level, count in zip((1, 2, 3, 4), (80, 39, 19, 9), strict=True)}
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in bins)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, count in bins.items():
        (rows,) = session.run([name], {"log_power": frames[50].reshape(1, 1, 1, 161), **initial_states(path)})
        assert len(rows) > count
        assert not rows[count:].any()
        assert rows[:count].any(axis=1).all()


def test_sub_pixel_weights_by_hand():
    """One channel, taps 1 2 3 for this frame and 4 5 6 for the previous one: even bins see taps 0, 2, odd ones 1."""
    decoder = torch.nn.ConvTranspose2d(1, 1, (2, 3), (1, 2))
    decoder.weight.data = torch.tensor([[1.0, 2, 3], [4, 5, 6]])[None, None]
    # rows: previous frame bins i and i - 1, this frame bins i and i - 1; columns: even, odd
    np.testing.assert_array_equal(sub_pixel_weight(decoder), [[4, 5], [6, 0], [1, 2], [3, 0]])


def test_the_exact_form_needs_operators_of_the_standard_only(small, tmp_path):
    model = onnx.load(export_streaming(small, tmp_path / "exact.onnx", "exact"))
    assert {node.domain for node in model.graph.node} == {""}
    assert [opset.domain for opset in model.opset_import] == [""]


# int8


def test_quantised_columns_by_hand():
    weight = np.array([[1.27, 0, -254], [-0.64, 0, 127], [0.004, 0, 1]], np.float32)
    quantised, scales = quantise_columns(weight)
    assert quantised.dtype == np.int8
    np.testing.assert_array_equal(quantised, [[127, 0, -127], [-64, 0, 64], [0, 0, 0]])
    np.testing.assert_allclose(scales[[0, 2]], [0.01, 2], rtol=1e-6)
    assert scales[1] > 0  # a column of zeros still has a scale to divide by


def test_quantised_blocks_by_hand():
    """Three weights of one column in blocks of two: 1.27 and -0.64 share a scale, the third stands beside a zero."""
    quantised, scales = quantise_blocks(np.array([[1.27], [-0.64], [-254]], np.float32), block=2)
    np.testing.assert_array_equal(quantised, [[[128 + 127, 128 - 64], [128 - 127, 128]]])
    np.testing.assert_allclose(scales, [[0.01, 2]], rtol=1e-6)


def test_quantised_weights_are_off_by_half_a_step_at_most():
    weight = np.random.default_rng(2).standard_normal((150, 7)).astype(np.float32) * np.logspace(-3, 2, 7)
    quantised, scales = quantise_columns(weight)
    assert (np.abs(quantised * scales - weight) <= scales * 0.5001).all()
    quantised, scales = quantise_blocks(weight)
    assert quantised.shape == (7, 3, 64)  # 150 weights fill two blocks of 64 and a part of a third
    restored = ((quantised.astype(np.float32) - 128) * scales[..., None]).reshape(7, -1)
    assert (np.abs(restored[:, :150] - weight.T) <= np.repeat(scales, 64, axis=1)[:, :150] * 0.5001).all()
    assert not restored[:, 150:].any()


@pytest.mark.parametrize("name", ["CRUSE32", "P.500", "P.750", "P.875"])
def test_int8_stays_close(name, waveform, frames, tmp_path):
    """Rounding to 127 levels is noise at about -50 dB of what is rounded, twice a product (weights, activations); over
    the ten products from input to gain some -40 dB. The bounds leave 10 dB for activations with outliers."""
    torch.manual_seed(1)
    model = Cruse(CONFIGURATIONS[name]).eval()
    files = {form: export_streaming(model, tmp_path / form, form) for form in ("plain", "int8")}
    gains = {form: run_streaming(path, frames) for form, path in files.items()}
    error = gains["int8"] - gains["plain"]
    assert gains["plain"].std() > 0.02, "gains that hardly move would prove little"
    assert 0 < np.sqrt(np.mean(error**2)) < 0.02
    spectrum = stft(torch.from_numpy(waveform))
    enhanced = {form: istft(spectrum * torch.from_numpy(gain), len(waveform)).numpy() for form, gain in gains.items()}
    assert si_sdr_db(enhanced["int8"], enhanced["plain"]) > 30


def test_int8_is_small_symmetric_and_float_at_both_ends(tmp_path):
    model = Cruse(CONFIGURATIONS["P.500"])
    files = {form: export_streaming(model, tmp_path / form, form) for form in FORMS}
    sizes = {form: path.stat().st_size for form, path in files.items()}
    assert sizes["exact"] < 1.05 * sizes["plain"]  # a decoder's odd bins have a zero for a quarter of its weights
    assert sizes["int8"] < 0.35 * sizes["plain"]  # a quarter, and scales and small layers
    graph = onnx.load(files["int8"]).graph
    operators = {node.name: node.op_type for node in graph.node}
    assert {operators[f"{layer}/{frame}"] for layer in ("encoder_1", "decoder_1") for frame in ("past", "now")} == {
        "Gemm"
    }
    assert operators["encoder_3/product"] == operators["decoder_3/product"] == "DynamicQuantizeMatMul"
    quantised = [node for node in graph.node if node.op_type in ("DynamicQuantizeMatMul", "MatMulNBits")]
    assert sum(node.op_type == "MatMulNBits" for node in quantised) == 2 * model.groups
    assert {node.input[3] for node in quantised} == {""}  # zero points
    floats = {tensor.name: prod(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    large = {name for name, size in floats.items() if size >= FEWEST_QUANTISED and not name.endswith("_scale")}
    assert large <= {f"{layer}/{frame}_weight" for layer in ("encoder_1", "decoder_1") for frame in ("past", "now")}


# the file


def test_file_holds_the_weights_and_says_what_it_is(small, small_path):
    model = onnx.load(small_path)
    onnx.checker.check_model(model, full_check=True)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    assert sum(prod(tensor.dims) for tensor in floats) == parameter_count(small)
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert facts == {
        "form": "plain",
        "widths": "[2, 4, 6]",
        "groups": "2",
        "sample_rate": "16000",
        "window": "320",
        "hop": "160",
        "look_ahead": "0",
    }
    names = {node.name for node in model.graph.node}
    assert {"encoder_1/conv", "gru_2/gru", "skip_2/conv", "decoder_1/conv_transpose"} <= names


def test_same_weights_give_same_bytes(small, small_path, tmp_path):
    again = export_streaming(copy.deepcopy(small).train(), tmp_path / "folder" / "again.onnx")
    assert again.read_bytes() == small_path.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["again.onnx"]  # nothing temporary is left


def test_arithmetic_of_the_process_is_left_as_it_was(small_path, frames):
    """ONNX Runtime's own option would leave denormals flushed in everything computed later."""
    denormal = torch.tensor(1e-40)
    run_streaming(small_path, frames[:2])
    assert denormal * 1 != 0
    with flushed_denormals():
        assert denormal * 1 == 0
        StreamingSession(small_path)  # as in every round of a measurement, inside which all stay flushed
        assert denormal * 1 == 0
    assert denormal * 1 != 0


def test_sessions_run_on_one_thread_in_order_without_spinning_and_fully_optimised(small_path):
    """In what is asked for, and in what a session got: with one thread the runtime never runs nodes in parallel."""
    for options in (session_options(), StreamingSession(small_path).session.get_session_options()):
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


# misuse


@pytest.mark.parametrize("form", FORMS)
def test_notes_and_form_are_in_the_file(small, form, tmp_path):
    path = export_streaming(small, tmp_path / "net.onnx", form, notes={"trained_on": "nothing"})
    facts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert (facts["form"], facts["trained_on"], facts["widths"]) == (form, "nothing", "[2, 4, 6]")


@pytest.mark.parametrize("form", ["exact", "int8"])
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_weights_of_other_precision_become_float32(form, kind, small, frames, tmp_path):
    model = copy.deepcopy(small).to(kind)
    given = run_streaming(export_streaming(model, tmp_path / "given.onnx", form), frames)
    single = run_streaming(export_streaming(model.float(), tmp_path / "single.onnx", form), frames)
    np.testing.assert_array_equal(given, single)


def test_unknown_form(small, tmp_path):
    with pytest.raises(MisuseError, match="'plane'; choose one of plain, exact, int8"):
        export_streaming(small, tmp_path / "net.onnx", form="plane")


def test_missing_and_corrupt_files(small_path, tmp_path):
    with pytest.raises(MisuseError, match="no ONNX file"):
        initial_states(tmp_path / "nowhere.onnx")
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(small_path.read_bytes()[:-2000])
    with pytest.raises(MisuseError, match=r"truncated\.onnx cannot be opened"):
        initial_states(truncated)


def network(path, inputs: dict, outputs: dict):
    """An ONNX file whose outputs copy its first input, all float32."""
    first = next(iter(inputs))
    nodes = [helper.make_node("Identity", [first], [name]) for name in outputs]
    values = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in named.items()]
        for named in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "other", *values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


FRAME = (1, 1, 1, 161)


@pytest.mark.parametrize(
    ("inputs", "outputs", "complaint"),
    [
        ({"x": FRAME}, {"y": FRAME}, "must read one float32 frame log_power"),
        ({"log_power": (1, 1, 1, 81)}, {"gain": (1, 1, 1, 81)}, "must read one float32 frame log_power"),
        ({"log_power": FRAME, "s": FRAME}, {"gain": FRAME}, "the input s needs an output s_next"),
        ({"log_power": FRAME, "s": (1, 2)}, {"gain": FRAME, "s_next": FRAME}, "the input s needs an output s_next"),
        ({"log_power": FRAME, "s": ("n",)}, {"gain": FRAME, "s_next": FRAME}, "the input s needs an output s_next"),
        ({"log_power": FRAME}, {"gain": FRAME, "s_next": FRAME}, "no input takes up the output s_next"),
    ],
)
def test_other_networks_are_refused(inputs, outputs, complaint, tmp_path):
    with pytest.raises(MisuseError, match=f"other.onnx is not a streaming network: .*{complaint}"):
        StreamingSession(network(tmp_path / "other.onnx", inputs, outputs))


@pytest.mark.parametrize("said", ["-1", "one", "", "1.5"])
def test_a_look_ahead_that_is_no_number_of_frames_is_refused(said, small_path, tmp_path):
    model = onnx.load(small_path)
    next(prop for prop in model.metadata_props if prop.key == "look_ahead").value = said
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(MisuseError, match=f"other.onnx is not a streaming network: its look_ahead is '{said}'"):
        StreamingSession(tmp_path / "other.onnx")


def test_a_file_tells_its_look_ahead_and_without_a_word_has_none(small_path, tmp_path):
    ahead = export_streaming(Cruse(WIDTHS, GROUPS, look_ahead=2), tmp_path / "ahead.onnx")
    silent = network(tmp_path / "silent.onnx", {"log_power": FRAME}, {"gain": FRAME})
    assert [look_ahead(path) for path in (small_path, ahead, silent)] == [0, 2, 0]


@pytest.mark.parametrize("wrong", [np.zeros((0, 161)), np.zeros((3, 160)), np.zeros(161), np.full((2, 161), np.nan)])
def test_frames_must_be_frames(small_path, wrong):
    with pytest.raises(ValueError, match="rames"):
        run_streaming(small_path, wrong)
