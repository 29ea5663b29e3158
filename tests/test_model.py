"""CRUSE: published sizes, an independent network in numpy, causality, alignment, errors."""

import numpy as np
import pytest
import torch
from conftest import biased
from safetensors.torch import save_file
from torch.nn import functional

from dnslib.errors import MisuseError
from dnslib.model import (
    Cruse,
    apply_gain,
    enhance,
    enhance_many,
    frequency_sizes,
    load_weights,
    lost_bins,
    parameter_count,
)
from dnslib.paper import CONFIGURATIONS
from dnslib.stft import BINS, istft, log_power, stft

PUBLISHED_MILLIONS = {
    "P.125": 6.649, "P.250": 4.967, "P.375": 3.536, "P.5625": 1.823, "P.625": 1.359, "P.750": 0.638, "P.875": 0.168,
    "CRUSE16": 2.149,
}  # fmt: skip
DEPTHS = [(4,), (3, 8), (4, 5, 8), (3, 4, 6, 8), (3, 4, 5, 6, 8), (2, 3, 4, 5, 6, 8)]


def network(widths=(3, 4, 6, 8), groups=4, seed=0) -> Cruse:
    torch.manual_seed(seed)
    return biased(Cruse(widths, groups)).eval()


def parameters_of(name: str) -> int:
    with torch.device("meta"):  # no memory, no random numbers
        return parameter_count(Cruse(CONFIGURATIONS[name]))


@pytest.fixture
def noisy() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=0.1, size=4000).astype(np.float32)


# --- size -----------------------------------------------------------------------------------------------------------


def test_parameters_of_the_two_known_to_the_last_digit():
    assert parameters_of("CRUSE32") == 8_581_153
    assert parameters_of("P.500") == 2_356_257
    assert round(parameters_of("CRUSE32") / parameters_of("P.500"), 2) == 3.64  # as printed in the paper


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_parameters_of_the_others_to_the_digits_known(name):
    assert round(parameters_of(name) / 1e6, 3) == PUBLISHED_MILLIONS[name]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_parameters_in_closed_form(name):
    """Convolutions have 2 x 3 weights a pair of channels, skips one; a GRU 6 H² + 6 H with H = 9 c4 / 4."""
    widths = CONFIGURATIONS[name]
    pairs = [(outer, inner) for outer, inner in zip((1, *widths), widths, strict=False)]
    encoders = sum(6 * outer * inner + inner for outer, inner in pairs)
    decoders = sum(6 * outer * inner + outer for outer, inner in pairs)
    skips = sum(width * width + width for width in widths)
    hidden = 9 * widths[-1] // 4
    assert parameters_of(name) == encoders + decoders + skips + 4 * (6 * hidden**2 + 6 * hidden)


def test_bins_before_and_after_each_encoder():
    assert frequency_sizes(4) == (161, 80, 39, 19, 9)
    assert lost_bins((161, 80, 39, 19, 9)) == (0, 1, 0, 0)  # 2 · 39 + 1 = 79 of 80


# --- what it computes -----------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def reference(model: Cruse, x: np.ndarray) -> np.ndarray:
    """The network from its description, one tap of a kernel at a time, in float64: (T, 161) -> (T, 161)."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    x, skipped = x[None].astype(np.float64), []  # (C, T, F)
    levels = range(len(model.widths))
    for level in levels:
        x = leaky(encode(x, weights[f"encoders.{level}.weight"], weights[f"encoders.{level}.bias"]))
        mixing, bias = weights[f"skips.{level}.weight"][:, :, 0, 0], weights[f"skips.{level}.bias"]
        skipped.append(np.einsum("oi,itf->otf", mixing, x) + bias[:, None, None])
    x = np.concatenate([
        recur(part, *(weights[f"gru.{name}"][g] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))
        for g, part in enumerate(np.split(x, model.groups))
    ])  # fmt: skip
    for level in reversed(levels):
        bins = frequency_sizes(len(levels))[level]
        x = decode(x + skipped[level], weights[f"decoders.{level}.weight"], weights[f"decoders.{level}.bias"], bins)
        x = leaky(x) if level else sigmoid(x)
    return x[0]


def encode(x, weight, bias):
    """Frames t - 1 and t, bins 2 f, 2 f + 1, 2 f + 2."""
    _, frames, bins = x.shape
    y = np.zeros((len(bias), frames, (bins - 1) // 2)) + bias[:, None, None]
    past = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
    for tap_t, seen in enumerate((past, x)):
        for tap_f in range(3):
            y += np.einsum("oi,itf->otf", weight[:, :, tap_t, tap_f], seen[:, :, tap_f : tap_f + 2 * y.shape[2] : 2])
    return y


def decode(x, weight, bias, bins):
    """Frame t is spread to t and t + 1, bin f to 2 f, 2 f + 1, 2 f + 2."""
    _, frames, narrow = x.shape
    y = np.zeros((len(bias), frames + 1, bins)) + bias[:, None, None]
    for tap_t in range(2):
        for tap_f in range(3):
            spread = np.einsum("io,itf->otf", weight[:, :, tap_t, tap_f], x)
            y[:, tap_t : tap_t + frames, tap_f : tap_f + 2 * narrow : 2] += spread
    return y[:, :frames]


def recur(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """One GRU over the channels of a group, the bins of a channel side by side."""
    channels, frames, bins = x.shape
    state, states = np.zeros(channels * bins), []
    for t in range(frames):
        r_in, z_in, n_in = np.split(weight_ih @ x[:, t].ravel() + bias_ih, 3)
        r_h, z_h, n_h = np.split(weight_hh @ state + bias_hh, 3)
        z = sigmoid(z_in + z_h)
        state = z * state + (1 - z) * np.tanh(n_in + sigmoid(r_in + r_h) * n_h)
        states.append(state.reshape(channels, bins))
    return np.stack(states, axis=1)


@pytest.mark.parametrize("widths", DEPTHS)
@pytest.mark.parametrize("groups", [1, 4])
def test_equals_a_network_written_from_its_description(widths, groups):
    model = network(widths, groups)
    x = np.random.default_rng(1).normal(size=(5, BINS))
    with torch.inference_mode():
        gain = model(torch.tensor(x, dtype=torch.float32)[None, None])[0, 0].numpy()
    expected = reference(model, x)
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(gain, expected, atol=1e-5)


def test_a_skip_is_added():
    """Twice the skip of a level moves its decoder's input by one skip: bias b to 2 b is a constant b more."""
    model = network((4, 8))
    seen = []
    model.decoders[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 1, 3, BINS)
    with torch.inference_mode():
        model(x)
        model.skips[0].bias.mul_(2)
        model(x)
    expected = (model.skips[0].bias / 2)[None, :, None, None].expand_as(seen[0])
    torch.testing.assert_close(seen[1] - seen[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("widths", DEPTHS)
def test_one_gain_between_0_and_1_for_every_bin(widths):
    with torch.inference_mode():
        gain = network(widths)(3 * torch.randn(2, 1, 7, BINS))
    assert gain.shape == (2, 1, 7, BINS)
    assert 0 < gain.min() < gain.max() < 1


@pytest.mark.parametrize("widths", [(4,), (4, 5, 8), (3, 4, 6, 8)])
@pytest.mark.parametrize("t", [0, 3, 7])
def test_the_gain_up_to_frame_t_does_not_know_frame_t_plus_1(widths, t):
    model, x = network(widths), torch.randn(1, 1, 9, BINS)
    moved = x.clone()
    moved[:, :, t + 1] += 1
    with torch.inference_mode():
        change = (model(moved) - model(x)).abs().amax(dim=(0, 1, 3))  # per frame
    assert change[: t + 1].max() == 0
    assert change[t + 1] > 1e-4


def test_each_example_of_a_batch_is_its_own():
    model, x = network(), torch.randn(3, 1, 4, BINS)
    with torch.inference_mode():
        alone = torch.cat([model(one[None]) for one in x])
        torch.testing.assert_close(model(x), alone, atol=1e-6, rtol=0)


def test_first_weights_keep_the_size_of_a_signal_through_every_layer():
    """He et al. (arXiv 1502.01852): of white noise in, the mean square after leaky ReLU is what it was before."""
    torch.manual_seed(0)
    model = Cruse((64, 64, 64), 4)
    for layer in (*model.encoders[1:], *model.skips, *model.decoders[1:]):
        with torch.inference_mode():
            y = functional.leaky_relu(layer(torch.randn(4, 64, 30, 41)), 0.2)[..., 1:, 2:-2]  # without edges
        assert y.square().mean().item() == pytest.approx(1, rel=0.1)


# --- whole waveforms ------------------------------------------------------------------------------------------------


def constant_gain(logit: float) -> Cruse:
    """A network whose gain is sigmoid(logit) everywhere."""
    model = network()
    with torch.no_grad():
        model.decoders[0].weight.zero_()
        model.decoders[0].bias.fill_(logit)
    return model


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 4000])
def test_a_gain_of_one_gives_the_input_back(noisy, samples):
    enhanced = enhance(constant_gain(100.0), noisy[:samples])
    assert (enhanced.dtype, enhanced.shape) == (np.float32, (samples,))
    np.testing.assert_allclose(enhanced, noisy[:samples], atol=1e-6)


def test_a_constant_gain_scales_the_input(noisy):
    np.testing.assert_allclose(enhance(constant_gain(-np.log(3.0)), noisy), noisy / 4, atol=1e-6)


def test_a_waveform_waits_for_two_hops_and_no_more(noisy):
    """Sample n is finished by frame n // 160 + 1, which ends before 160 (n // 160 + 2)."""
    model, moved = network(), noisy.copy()
    moved[1600:] += 0.1
    change = np.abs(enhance(model, moved) - enhance(model, noisy))
    assert change[: 1600 - 160].max() < 1e-7
    assert change[1600 - 160 : 1600].max() > 1e-5


@pytest.mark.parametrize("ahead", [1, 2])
@pytest.mark.parametrize("samples", [4000, 3999, 100])
def test_looking_ahead_is_hearing_the_gains_on_delayed_sound(noisy, ahead, samples):
    """The same network, its gains for the sound as it is, but multiplied with the sound some hops later."""
    noisy, model, delay = torch.from_numpy(noisy[None, :samples]), network(), 160 * ahead
    with torch.inference_mode():
        gains = model(log_power(stft(functional.pad(noisy, (0, delay))))[:, None])[:, 0]
        expected = istft(stft(functional.pad(noisy, (delay, 0))) * gains, samples + delay)[:, delay:]
        model.look_ahead = ahead
        got = apply_gain(model, noisy)
    assert got.shape == noisy.shape
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    assert (got - apply_gain(network(), noisy)).abs().max() > 1e-4


@pytest.mark.parametrize("ahead", [1, 2])
def test_a_network_that_looks_ahead_waits_a_hop_longer_for_each_frame(noisy, ahead):
    model, moved = network(), noisy.copy()
    model.look_ahead = ahead
    moved[1600:] += 0.1
    change, first = np.abs(enhance(model, moved) - enhance(model, noisy)), 1600 - 160 * (1 + ahead)
    assert change[:first].max() < 1e-7
    assert change[first : first + 160].max() > 1e-6


def test_enhancing_is_applying_the_gain_and_leaves_the_mode(noisy):
    model = network().train()
    with torch.no_grad():
        expected = apply_gain(model, torch.from_numpy(noisy)[None])[0].numpy()
    np.testing.assert_allclose(enhance(model, noisy), expected, atol=1e-6)
    assert model.training
    assert not np.allclose(expected, noisy, atol=1e-3)


def test_doubles_strided_views_and_silence_are_taken(noisy):
    model = network()
    np.testing.assert_allclose(enhance(model, noisy.astype(np.float64)), enhance(model, noisy), atol=1e-6)
    np.testing.assert_allclose(enhance(model, noisy[::2]), enhance(model, noisy[::2].copy()), atol=1e-6)
    assert np.abs(enhance(model, np.zeros(500))).max() == 0


# --- misuse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waveform", "words"),
    [
        (np.zeros((2, 100)), "(2, 100)"),
        (np.zeros(0), "(0,)"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.full(400, 1e19), "beyond 1e"),  # its power has no float32
        (np.full(400, 1000, np.int16), "floating-point samples, full scale 1, not int16"),
        (np.array([0.0, np.inf]), "infinite"),
        (np.array([0.0, np.inf], np.float16), "infinite"),  # any number is below the loudest there
    ],
)
def test_a_waveform_that_is_none_is_refused(waveform, words):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are looked for below
        enhance(network((4,)), waveform)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ((), "positive"),
        ((4, 0, 8), "positive"),
        ((4, 6), "4 equal groups"),
        ((4,) * 7, "levels"),
        ("P.500", "channel counts"),
    ],
)
def test_widths_that_give_no_network_are_refused(widths, words):
    with pytest.raises(ValueError, match=words):
        Cruse(widths)


def test_a_name_is_no_network():
    with pytest.raises(MisuseError, match=r"takes a network, such as dnslib\.pretrained\('P\.500'\), not str"):
        enhance("P.750", np.zeros(400, np.float32))


def test_looking_back_is_refused():
    with pytest.raises(ValueError, match="0 frames ahead or more, not -1"):
        Cruse((4, 8), look_ahead=-1)


def test_no_group_of_grus_is_refused():
    with pytest.raises(ValueError, match="0 equal groups"):
        Cruse((4, 8), groups=0)


# weights


def test_weights_of_another_size_a_pickle_a_torso_and_nothing_get_one_line(tmp_path):
    model, whole = Cruse((4, 4, 8, 8)), tmp_path / "whole.safetensors"
    save_file(model.state_dict(), whole)
    torch.save(model.state_dict(), tmp_path / "pickle.pt")
    (tmp_path / "torso").write_bytes(whole.read_bytes()[:-100])
    cases = {whole: "do not fit", tmp_path / "pickle.pt": "not a whole safetensors", tmp_path / "torso": "not a whole"}
    cases[tmp_path / "nothing"] = "There is no file"
    for name, spoil in {"whole numbers": torch.Tensor.int, "no numbers": torch.log}.items():  # log of what is below 0
        save_file({key: spoil(weight) for key, weight in model.state_dict().items()}, tmp_path / name)
        cases[tmp_path / name] = "NaN, infinite or whole numbers"
    for path, words in cases.items():
        with pytest.raises(MisuseError, match=words) as caught:
            load_weights(Cruse((4, 4, 4, 4)), path)
        assert "\n" not in str(caught.value)


def test_clips_enhanced_together_are_as_clips_enhanced_alone(noisy):
    model = network()
    clips = [noisy, noisy[::-1].copy(), noisy[:1000], noisy * 0.5]
    together = enhance_many(model, clips)
    assert [len(clip) for clip in together] == [4000, 4000, 1000, 4000]
    for clip, enhanced in zip(clips, together, strict=True):
        np.testing.assert_allclose(enhanced, enhance(model, clip), atol=1e-6)
    assert enhance_many(model, []) == []


def test_a_network_in_training_stays_so_also_where_a_waveform_is_refused(noisy):
    model = network().train()
    enhance(model, noisy)
    with pytest.raises(MisuseError):
        enhance(model, noisy[:0])
    assert model.training
