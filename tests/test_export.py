import copy
from math import prod

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from dnslib.errors import MisuseError
from dnslib.export import (
    StreamingSession,
    export_streaming,
    flushed_denormals,
    initial_states,
    run_streaming,
)
from dnslib.model import Cruse, parameter_count
from dnslib.paper import CONFIGURATIONS
from dnslib.stft import SAMPLE_RATE, log_power, stft

WIDTHS, GROUPS = (2, 4, 6), 2  # 161, 80, 39, 19 bins, so two GRUs of 6 * 19 / 2 = 57 units


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Log power (T, 161) of 3.2 s like speech: a buzz of moving pitch in syllables, over noise, with a silent end."""
    generator = np.random.default_rng(7)
    time_s = np.arange(int(3.2 * SAMPLE_RATE)) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.8 * time_s)) / SAMPLE_RATE
    buzz = sum(np.sin(k * phase) / k for k in range(1, 25))
    syllables = np.maximum(np.sin(2 * np.pi * 3.1 * time_s), 0) ** 0.5
    waveform = 0.05 * buzz * syllables + 0.01 * generator.standard_normal(time_s.size)
    waveform[-SAMPLE_RATE // 2 :] = 0
    return log_power(stft(torch.from_numpy(waveform).float())).numpy()


def lively(widths, groups=4, seed=0) -> Cruse:
    """A network whose gains move over (0, 1) and hang on its past: as PyTorch starts it, they would stay near 0.5."""
    torch.manual_seed(seed)
    model = Cruse(widths, groups).eval()
    with torch.no_grad():
        for layers, factor in ((model.encoders, 1.5), (model.skips, 1.5), (model.decoders, 2.0), ([model.gru], 2.0)):
            for layer in layers:
                for parameter in layer.parameters():
                    parameter *= factor
    return model


@torch.inference_mode()
def whole(model: Cruse, frames: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(frames)[None, None])[0, 0].numpy()


@pytest.fixture(scope="module")
def small() -> Cruse:
    return lively(WIDTHS, GROUPS)


@pytest.fixture(scope="module")
def small_path(small, tmp_path_factory):
    return export_streaming(small, tmp_path_factory.mktemp("export") / "small.onnx")


# the network, frame by frame


def check_equal(model, path, frames):
    expected = whole(model, frames)
    assert len(frames) >= 300
    assert expected.std() > 0.02, "gains that hardly move would prove little"
    np.testing.assert_allclose(run_streaming(path, frames), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_frame_by_frame_equals_whole_utterance(name, frames, tmp_path):
    model = lively(CONFIGURATIONS[name])
    check_equal(model, export_streaming(model, tmp_path / "net.onnx"), frames)


@pytest.mark.parametrize(
    ("widths", "groups"), [((4,), 4), ((3, 5), 1), (WIDTHS, GROUPS), ((2, 3, 4, 5, 6), 3), ((2, 2, 3, 3, 4, 4), 2)]
)
def test_other_depths_and_groups(widths, groups, frames, tmp_path):
    model = lively(widths, groups)
    check_equal(model, export_streaming(model, tmp_path / "net.onnx"), frames)


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


def test_every_state_matters(small_path, frames):
    """Forgetting any one state, even once, changes the next gain."""
    session = onnxruntime.InferenceSession(small_path, providers=["CPUExecutionProvider"])
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
        assert np.abs(forgetful - expected).max() > 1e-3, name


def test_no_gain_sees_the_future(small_path, frames):
    later = frames.copy()
    later[30:] += 1
    before, after = run_streaming(small_path, frames[:40]), run_streaming(small_path, later[:40])
    np.testing.assert_array_equal(before[:30], after[:30])
    assert (np.abs(before[30:] - after[30:]).max(axis=1) > 1e-4).all()


def test_reset_forgets_everything(small_path, frames):
    session, gains = StreamingSession(small_path), []
    for _ in range(2):
        session.reset()
        for frame in frames[:7]:  # an odd number, so that the buffers have changed places
            session.step(frame)
        gains.append(session.gain)
    np.testing.assert_array_equal(*gains)


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
    assert denormal * 1 != 0


# misuse


def test_unknown_form(small, tmp_path):
    with pytest.raises(MisuseError, match="'plane'; choose one of plain"):
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


@pytest.mark.parametrize("wrong", [np.zeros((0, 161)), np.zeros((3, 160)), np.zeros(161), np.full((2, 161), np.nan)])
def test_frames_must_be_frames(small_path, wrong):
    with pytest.raises(ValueError, match="rames"):
        run_streaming(small_path, wrong)
