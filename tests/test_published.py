"""Weights that come with the project: they denoise, in every form; what goes in comes out to half precision."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dnslib import Denoiser, MisuseError, published
from dnslib.data import noise, speech
from dnslib.experiments import enhance_streaming
from dnslib.export import FORMS, export_streaming
from dnslib.model import Cruse, enhance
from dnslib.paper import CONFIGURATIONS
from dnslib.published import SHORT, about, available, configuration, pretrained
from dnslib.quality import si_sdr_db
from dnslib.study.publish import NAMES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "WEIGHTS", tmp_path)
    return tmp_path


def test_weights_come_back_to_half_precision(folder):
    torch.manual_seed(2)
    model = Cruse(CONFIGURATIONS["P.875"])
    save_file({name: value.half() for name, value in model.state_dict().items()}, folder / "P.875.safetensors")
    again = pretrained("P.875")
    assert not again.training
    for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert theirs.dtype == torch.float32
        assert torch.equal(theirs, ours.half().float())


def test_a_file_says_what_it_was_trained_on(folder):
    weights = Cruse(CONFIGURATIONS["P.875"]).state_dict()
    save_file(weights, folder / "P.875.safetensors", metadata={"steps": "12", "data": "abc"})
    assert about("P.875") == {"steps": "12", "data": "abc"}
    assert pretrained("P.875").look_ahead == 0
    save_file(weights, folder / "P.875.safetensors")
    assert about("P.875") == {}
    assert pretrained("P.875").look_ahead == 0
    with pytest.raises(MisuseError, match=r"No weights of P\.125 come with the project; there are P\.875\."):
        about("P.125")


def test_weights_of_both_delays_stand_side_by_side(folder):
    weights = Cruse(CONFIGURATIONS["P.875"]).state_dict()
    save_file(weights, folder / "P.875-20ms.safetensors", metadata={"look_ahead": "0"})
    assert available() == ["P.875-20ms"]
    save_file(weights, folder / "P.875.safetensors", metadata={"look_ahead": "2"})
    assert available() == ["P.875", "P.875-20ms"]
    assert [pretrained(name).look_ahead for name in available()] == [2, 0]


def test_names_without_weights_and_unknown_ones_get_one_line(folder):
    with pytest.raises(MisuseError, match=r"No weights of P\.125 come with the project; there are none\."):
        pretrained("P.125")
    with pytest.raises(MisuseError, match=r"unknown configuration P\.5: did you mean P\.5"):
        pretrained("P.5")
    with pytest.raises(MisuseError, match=r"unknown configuration P\.5-20ms: did you mean"):
        pretrained("P.5-20ms")
    assert available() == []


def test_the_weights_of_every_published_name_are_there_and_take_30_mb_at_most():
    files = list(published.WEIGHTS.glob("*.safetensors"))
    assert {file.stem for file in files} == set(available())
    assert {configuration(name) for name in available()} == set(NAMES)
    assert sum(file.stat().st_size for file in files) <= 30e6


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Eight seconds of a voice that no training heard, in pink noise at 5 dB, and the voice alone."""
    _, sentences = speech.recite("test", 1, 0, 8.0)
    clean = np.concatenate(sentences)[: 8 * 16_000].astype(np.float32)
    disturbance = noise.coloured_noise(np.random.default_rng(0), clean.size, 1.0)
    disturbance *= np.sqrt(np.square(clean).sum() / np.square(disturbance).sum()) * 10 ** (-5 / 20)
    return (clean + disturbance).astype(np.float32), clean


@pytest.mark.parametrize("name", available())
def test_the_name_tells_the_delay(name):
    samples = 320 if name.endswith(SHORT) else 480  # 20 ms, 30 ms
    assert Denoiser(name).latency_samples == samples
    assert pretrained(name).look_ahead == (samples - 320) / 160
    assert configuration(name) in NAMES


@pytest.mark.parametrize("name", available())
def test_published_weights_denoise_in_every_form(name, clip, tmp_path):
    (noisy, clean), model = clip, pretrained(name)
    assert si_sdr_db(noisy, clean) == pytest.approx(5, abs=0.1)
    assert si_sdr_db(enhance(model, noisy), clean) > 8
    noisy = noisy[:16_000]
    enhanced = enhance(model, noisy)
    for form in FORMS:
        streamed = enhance_streaming(export_streaming(model, tmp_path / f"{form}.onnx", form), noisy)
        if form == "int8":
            assert si_sdr_db(streamed, enhanced) > 40
        else:
            np.testing.assert_allclose(streamed, enhanced, atol=1e-5)
