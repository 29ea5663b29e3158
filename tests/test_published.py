"""Weights that come with the project: what goes in comes out to half precision, what is missing gets one line."""

import pytest
import torch
from safetensors.torch import save_file

from dnslib import MisuseError, published
from dnslib.model import Cruse
from dnslib.paper import CONFIGURATIONS
from dnslib.published import available, pretrained


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
        torch.testing.assert_close(theirs, ours, atol=2**-14, rtol=2**-11)


def test_names_without_weights_and_unknown_ones_get_one_line(folder):
    with pytest.raises(MisuseError, match=r"No weights of P\.125 come with the project; there are none\."):
        pretrained("P.125")
    with pytest.raises(MisuseError, match=r"unknown configuration P\.5: did you mean P\.5"):
        pretrained("P.5")
    assert available() == []


def test_all_shipped_weights_load_and_take_30_mb_at_most():
    files = list(published.WEIGHTS.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 30e6
    for name in available():
        gain = pretrained(name)(torch.zeros(1, 1, 3, 161))
        assert gain.shape == (1, 1, 3, 161)
        assert torch.isfinite(gain).all()
    assert {file.stem for file in files} == set(available())
