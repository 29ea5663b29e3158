"""Chunk by chunk equals the whole waveform, with a delay that is known, and misuse loses nothing."""

import importlib.util
import json
import os
import sys
import tracemalloc
from itertools import count

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import biased
from onnx import TensorProto, helper
from safetensors.torch import save_file

from dnslib import CONFIGURATIONS, Denoiser, MisuseError, enhance, pretrained
from dnslib import denoiser as denoiser_module
from dnslib.denoiser import overhead_rounds_us
from dnslib.export import StreamingSession, export_streaming
from dnslib.model import Cruse
from dnslib.networks import find_model, weights_of
from dnslib.stft import istft, log_power, stft

WIDTHS, GROUPS = (2, 4, 6), 2
HOP, WINDOW = 160, 320  # 10 ms, 20 ms at 16 kHz


def restless(widths=WIDTHS, groups=GROUPS, seed=0, look_ahead=0) -> Cruse:
    """A network whose gains move and hang on its past: larger weights than a fresh one has."""
    torch.manual_seed(seed)
    model = Cruse(widths, groups, look_ahead).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.5
    return biased(model)


@pytest.fixture(scope="module", params=[0, 1, 3], ids="{} ahead".format)
def model(request) -> Cruse:
    return restless(look_ahead=request.param)


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return export_streaming(model, tmp_path_factory.mktemp("denoiser") / "net.onnx")


@pytest.fixture
def denoiser(path) -> Denoiser:
    return Denoiser(path)


@pytest.fixture(scope="module")
def latency(model) -> int:
    """Samples: the window and a hop for each frame ahead."""
    return WINDOW + HOP * model.look_ahead


@pytest.fixture(scope="module", params=[0, 1, 3], ids="{} ahead".format)
def transparent(request, tmp_path_factory):
    """A network that gives gain 1 to everything: what comes out is what went in."""
    model = Cruse(WIDTHS, GROUPS, request.param)
    with torch.no_grad():
        model.decoders[0].weight.zero_()
        model.decoders[0].bias.fill_(50)  # sigmoid(50) is 1 in float32
    return export_streaming(model, tmp_path_factory.mktemp("transparent") / "net.onnx")


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise with a pause in it, about -20 dBFS."""
    waveform = 0.1 * np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    waveform[samples // 2 : samples * 3 // 4] = 0
    return waveform


def in_chunks(denoiser: Denoiser, waveform: np.ndarray, lengths) -> np.ndarray:
    """The joined output for chunks of the given lengths; the rest of the waveform is the last chunk."""
    chunks = np.split(waveform, np.cumsum(lengths))
    return np.concatenate([denoiser.process(chunk) for chunk in chunks] + [denoiser.flush()])


# equal to the whole waveform


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 319, 320, 321, 4_000, 25_007])
def test_any_chunking_equals_enhance(model, denoiser, samples):
    waveform = noise(samples)
    expected = enhance(model, waveform)
    generator = np.random.default_rng(samples)
    for longest in (3, 160, 500, 12_000):
        lengths = generator.integers(0, longest, size=max(1, samples // longest), endpoint=True)
        got = in_chunks(denoiser, waveform, lengths[np.cumsum(lengths) <= samples])
        assert got.shape == waveform.shape
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    assert samples < 4_000 or np.abs(expected - waveform).max() > 0.01, (
        "a network that does nothing would prove nothing"
    )


@pytest.mark.parametrize("name", ["P.875", "CRUSE32"])
def test_a_configuration_equals_enhance(name, tmp_path):
    model, waveform = restless(CONFIGURATIONS[name], 4), noise(8_000)
    got = in_chunks(Denoiser(export_streaming(model, tmp_path / "net.onnx")), waveform, [100, 0, 1_000, 160, 161])
    np.testing.assert_allclose(got, enhance(model, waveform), atol=1e-4, rtol=0)


def test_a_flushed_or_reset_denoiser_begins_anew(denoiser):
    first, second = noise(3_000, 1), noise(2_000, 2)
    expected = in_chunks(denoiser, second, [])
    in_chunks(denoiser, first, [700])  # ends with a flush
    assert np.array_equal(in_chunks(denoiser, second, []), expected)
    denoiser.process(first)
    denoiser.reset()
    assert np.array_equal(in_chunks(denoiser, second, []), expected)


def test_two_denoisers_of_one_file_share_no_state(path):
    left, right = Denoiser(path), Denoiser(path)
    waveform = noise(3_200)
    expected = in_chunks(Denoiser(path), waveform, [])
    hops = []
    for hop in np.split(waveform, 20):
        hops.append(left.process(hop))
        right.process(-0.5 * hop)
    assert np.array_equal(np.concatenate([*hops, left.flush()]), expected)


def test_nothing_in_nothing_out(denoiser):
    nothing = np.zeros(0, np.float32)
    assert denoiser.process(nothing).shape == (0,)
    assert denoiser.flush().shape == (0,)
    waveform = noise(1_000)
    assert np.array_equal(in_chunks(denoiser, waveform, [0, 0, 500, 0]), in_chunks(denoiser, waveform, [500]))


def test_numpys_public_transforms_serve_as_well(path, monkeypatch):
    """Where a NumPy to come has no such inner functions."""
    monkeypatch.setitem(sys.modules, "numpy.fft._pocketfft_umath", None)
    spec = importlib.util.spec_from_file_location("without_inner_functions", denoiser_module.__file__)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    assert other._rfft is not denoiser_module._rfft
    waveform = noise(2_000)
    expected = in_chunks(Denoiser(path), waveform, [])
    np.testing.assert_allclose(in_chunks(other.Denoiser(path), waveform, []), expected, atol=1e-7, rtol=0)


# delay


@pytest.mark.parametrize("name", ["P.875", "P.875-20ms"])
def test_a_program_of_ones_own_needs_what_the_readme_says_and_no_more(name, tmp_path):
    """One that knows NumPy, ONNX Runtime and the README's words gets the sound that `enhance` gives."""
    network, x = pretrained(name), noise(16_000)
    session = onnxruntime.InferenceSession(export_streaming(network, tmp_path / "net.onnx"))
    look_ahead = int(session.get_modelmeta().custom_metadata_map["look_ahead"])
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(320) / 320))
    states = {one.name: np.zeros(one.shape, np.float32) for one in session.get_inputs() if one.name != "log_power"}
    padded, y, spectra = np.pad(x, (160, 320 + 160 * look_ahead)), np.zeros(x.size + 960), []
    for start in range(0, padded.size - 319, 160):
        spectra.append(np.fft.rfft(window * padded[start : start + 320]))
        seen = ((np.log10(np.abs(spectra[-1]) ** 2 + 1e-7) + 2) / 2).astype(np.float32).reshape(1, 1, 1, 161)
        values = session.run(None, {"log_power": seen, **states})
        answer = dict(zip([one.name for one in session.get_outputs()], values, strict=True))
        states = {state: answer[f"{state}_next"] for state in states}
        if len(spectra) > look_ahead:
            place = 160 * (len(spectra) - 1 - look_ahead)
            y[place : place + 320] += window * np.fft.irfft(spectra[-1 - look_ahead] * answer["gain"].reshape(-1))
    np.testing.assert_allclose(y[160 : 160 + x.size], enhance(network, x), atol=1e-6)


def test_the_latency_is_the_longest_way_of_a_sample(denoiser, latency):
    """Without look-ahead sample n needs the input up to n + 319 at worst (the first of a hop), n + 160 at best."""
    ready = np.cumsum([len(denoiser.process(np.zeros(1, np.float32))) for _ in range(2_000)])
    needed = np.searchsorted(ready, np.arange(1, 1_000)) - np.arange(999) + 1  # samples from n on, n included
    assert (needed.max(), needed.min()) == (latency, latency - HOP + 1)
    assert denoiser.latency_samples == latency


def test_output_sample_n_is_input_sample_n(transparent):
    waveform = noise(5_000)
    np.testing.assert_allclose(in_chunks(Denoiser(transparent), waveform, [77, 400]), waveform, atol=1e-6)


def test_a_later_sample_never_changes_an_earlier_output(denoiser, latency):
    one, other = noise(4_000), noise(4_000)
    other[2_400:] *= -0.3
    ready = len(denoiser.process(one[:2_400]))
    denoiser.reset()
    outputs = []
    for waveform in (one, other):
        outputs.append(denoiser.process(waveform))
        denoiser.reset()
    assert ready == 2_400 - (latency - HOP)
    assert np.array_equal(outputs[0][:ready], outputs[1][:ready])
    assert not np.array_equal(*outputs)


# memory, silence, overhead


def test_memory_does_not_grow(denoiser):
    hop = noise(HOP)

    def held_after(frames: int) -> int:
        for _ in range(frames):
            denoiser.process(hop)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        assert held_after(2_000) - held_after(500) < 10_000
    finally:
        tracemalloc.stop()


def test_silence_stays_silent(denoiser):
    assert not in_chunks(denoiser, np.zeros(4_000, np.float32), [1_000]).any()
    assert not in_chunks(denoiser, np.full(4_000, 1e-42, np.float32), [1_000]).any()  # denormal: less than can be heard


def test_denormals_of_the_caller_are_left_alone(denoiser):
    denoiser.process(noise(1_000))
    assert np.float32(1e-40) * np.float32(1) > 0


def test_overhead_is_the_call_less_the_network_alone(denoiser, monkeypatch):
    """On a clock that only the two move on: 100 us a call of the denoiser, 70 us a step of the network; each fifth call
    is disturbed."""
    now_ns = 0

    def takes(ns):
        def method(*_):
            nonlocal now_ns
            now_ns += ns if next(calls) % 5 else 9 * ns

        calls = count()
        return method

    monkeypatch.setattr(Denoiser, "process", takes(100_000))
    monkeypatch.setattr(StreamingSession, "step", takes(70_000))
    assert overhead_rounds_us(denoiser, rounds=3, clock=lambda: now_ns) == pytest.approx([30] * 3)


def test_overhead_leaves_the_denoiser_alone(path, denoiser):
    waveform = noise(1_000)
    first = denoiser.process(waveform[:500])
    overhead_rounds_us(denoiser, rounds=2)
    assert np.float32(1e-40) * np.float32(1) > 0
    rest = [denoiser.process(waveform[500:]), denoiser.flush()]
    assert np.array_equal(np.concatenate([first, *rest]), in_chunks(Denoiser(path), waveform, []))


# misuse


@pytest.mark.filterwarnings("ignore:overflow")  # of NumPy, for a sample that no sound has
@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (np.zeros(10), "float32 samples in .-1, 1., not float64"),
        (np.zeros(10, np.int16), "not int16"),
        ([0.0, 0.1], "not list"),
        (np.zeros((10, 2), np.float32), r"one channel .* not \(10, 2\)"),
        (np.float32([0, np.nan, 0]), "NaN or infinite"),
        (np.float32([0, -np.inf]), "NaN or infinite"),
        (np.float32([3e38, 0]), "NaN or infinite"),
    ],
)
def test_a_refused_chunk_changes_nothing(denoiser, chunk, words):
    waveform = noise(1_000)
    expected = in_chunks(denoiser, waveform, [300])
    first = denoiser.process(waveform[:300])
    with pytest.raises(MisuseError, match=words) as caught:
        denoiser.process(chunk)
    assert "\n" not in str(caught.value)
    rest = [denoiser.process(waveform[300:]), denoiser.flush()]
    assert np.array_equal(np.concatenate([first, *rest]), expected)


def test_files_that_are_no_streaming_network(tmp_path):
    (tmp_path / "noise.onnx").write_bytes(b"no network")
    (tmp_path / "noise.safetensors").write_bytes(b"no weights")
    (tmp_path / "noise.wav").write_bytes(b"no model")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name, words in {
        "noise.onnx": "cannot be opened as an ONNX network",
        "noise.safetensors": "is not a whole safetensors file",
        "noise.wav": "is neither a streaming network",
        "other.safetensors": "does not hold the weights of a CRUSE network",
        "none.onnx": "There is no file",
    }.items():
        with pytest.raises(MisuseError, match=words):
            Denoiser(tmp_path / name)


def test_an_unknown_configuration():
    with pytest.raises(MisuseError, match=r"unknown configuration P\.600: did you mean P\.500"):
        Denoiser("P.600")


# which weights


def finished_run(outputs, name, when, loss, study="quick", steps=10, sparsity=0.0, configuration="P.875", groups=4):
    """A run folder as the laboratory leaves it, without real weights."""
    folder = outputs / study / "runs" / name
    folder.mkdir(parents=True)
    config = {"widths": CONFIGURATIONS[configuration], "steps": steps, "sparsity": sparsity, "groups": groups}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text(json.dumps({"validation_loss": loss}))
    (folder / "model.safetensors").touch()
    (folder / "DONE").touch()
    os.utime(folder / "DONE", (when, when))
    return folder / "model.safetensors"


def test_the_best_run_of_the_latest_study_is_found(tmp_path):
    shipped, outputs = tmp_path / "weights", tmp_path / "outputs"
    with pytest.raises(MisuseError, match=r"no weights of P\.875 yet: train some by"):
        weights_of("P.875", shipped, outputs)
    finished_run(outputs, "old", 100, loss=0.1, study="older")
    expected = finished_run(outputs, "good", 200, loss=0.3)
    finished_run(outputs, "ablation", 300, loss=0.4)
    finished_run(outputs, "untrained", 400, loss=0.2, steps=0)
    finished_run(outputs, "sparse", 500, loss=0.2, sparsity=0.5)
    finished_run(outputs, "searched", 550, loss=0.2, groups=8)
    finished_run(outputs, "other", 600, loss=0.2, configuration="P.500")
    unfinished = finished_run(outputs, "unfinished", 700, loss=0.2)
    (unfinished.parent / "DONE").unlink()
    assert weights_of("P.875", shipped, outputs) == expected


def test_weights_of_the_project_come_first(tmp_path):
    shipped = tmp_path / "weights"
    shipped.mkdir()
    (shipped / "P.875.safetensors").touch()
    finished_run(tmp_path / "outputs", "run", 100, loss=0.1)
    assert weights_of("P.875", shipped, tmp_path / "outputs") == shipped / "P.875.safetensors"


def test_the_precision_of_weights_and_of_files(path, tmp_path):
    """Weights run in the form named: plain and exact are the same function, int8 an approximation of it."""
    model, waveform = restless((4, 8, 16), 1), noise(8_000)
    weights = tmp_path / "model.safetensors"
    save_file(model.state_dict(), weights, metadata={"look_ahead": str(model.look_ahead)})
    error = {
        precision: np.abs(in_chunks(Denoiser(weights, precision), waveform, []) - enhance(model, waveform)).max()
        for precision in (None, "plain", "exact", "int8")
    }
    assert max(error[None], error["plain"], error["exact"]) < 1e-4
    assert 1e-4 < error["int8"] < 0.05
    for file, precision, words in [
        (path, "exact", "has its precision already"),
        (weights, "int4", "no precision 'int4'; choose one of plain, exact, int8"),
    ]:
        with pytest.raises(MisuseError, match=words):
            Denoiser(file, precision)


@pytest.mark.parametrize(("opset", "ahead"), [(17, 0), (18, 0), (18, 1)])
def test_files_of_other_tools(tmp_path, opset, ahead):
    """A network without states, written by hand: its gain is the logistic function of the log power."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1, 1, 161]) for n in ("log_power", "gain")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["log_power"], ["gain"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if ahead:
        helper.set_model_props(model, {"look_ahead": str(ahead)})
    onnx.save(model, tmp_path / "net.onnx")
    waveform = noise(4_000)
    spectrum = stft(torch.from_numpy(np.pad(waveform, (0, HOP * ahead))))
    gains = torch.sigmoid(log_power(spectrum))
    expected = istft(spectrum[: len(spectrum) - ahead] * gains[ahead:], len(waveform)).numpy()
    got = in_chunks(Denoiser(tmp_path / "net.onnx"), waveform, [123, 456])
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(expected - waveform).max() > 0.01


def test_a_file_of_weights_is_enough(model, tmp_path):
    """Widths, groups and look-ahead are read from it; half precision is what small files are shipped in."""
    waveform = noise(3_000)
    for precision in (torch.float32, torch.float16):
        path = tmp_path / "model.safetensors"
        weights = {name: weight.to(precision) for name, weight in model.state_dict().items()}
        save_file(weights, path, metadata={"look_ahead": str(model.look_ahead)})
        assert find_model(path) == path
        expected = enhance(restless(look_ahead=model.look_ahead).to(precision).float(), waveform)
        np.testing.assert_allclose(in_chunks(Denoiser(path), waveform, []), expected, atol=1e-4, rtol=0)
