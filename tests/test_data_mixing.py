"""Mixtures: SNR and level as asked, rooms and targets against hand-made responses, filters against scipy."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import signal

from dnslib.data import added, mixing, rooms
from dnslib.data.splits import SPLITS

B, SAMPLES = 3, 4001


@pytest.fixture
def waves():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, SAMPLES, generator=generator) * scale for scale in (0.3, 0.2, 0.01)]


def decibels(ratio):
    return 10 * torch.log10(ratio)


def test_snr_and_level_are_those_asked(waves):
    heard, target, noise = waves
    snr_db, level_dbfs = torch.tensor([-10.0, 0.0, 25.0]), torch.tensor([-45.0, -28.0, -20.0])
    noisy, scaled_target, gain = mixing.mix(heard, target, noise, snr_db, level_dbfs)
    speech = heard * gain[:, None]
    measured = decibels(speech.double().square().sum(-1) / (noisy - speech).double().square().sum(-1))
    assert torch.allclose(measured, snr_db.double(), atol=1e-3)
    assert torch.allclose(decibels(noisy.double().square().mean(-1)), level_dbfs.double(), atol=1e-3)
    assert torch.allclose(scaled_target, target * gain[:, None])


def test_too_loud_a_mixture_is_attenuated_as_a_whole(waves):
    heard, target, noise = waves
    noisy, _, gain = mixing.mix(heard, target, noise, torch.full((B,), 5.0), torch.zeros(B))
    speech = heard * gain[:, None]
    assert torch.allclose(noisy.abs().amax(-1), torch.tensor(0.99))
    louder = 10 * heard  # as where the early part of a room is louder than the whole
    _, scaled, _ = mixing.mix(heard, louder, noise, torch.full((B,), 5.0), torch.zeros(B))
    assert torch.allclose(scaled.abs().amax(-1), torch.tensor(0.99))
    measured = decibels(speech.double().square().sum(-1) / (noisy - speech).double().square().sum(-1))
    assert torch.allclose(measured, torch.full((B,), 5.0, dtype=torch.double), atol=1e-3)


def test_dirac_room_leaves_speech_unchanged(waves):
    dirac = torch.from_numpy(rooms.align(np.eye(1, 900)[0])).expand(B, -1)
    for heard in mixing.in_room(waves[0], dirac):
        assert torch.allclose(heard, waves[0], atol=1e-5)


def test_target_keeps_the_echo_within_50_ms_and_drops_the_later_one(waves):
    response = np.zeros(2000)
    response[[7, 7 + 800, 7 + 801]] = 2.0, 1.0, -0.5  # direct sound, 50 ms later, one sample after that
    speech = waves[0]
    heard, target = mixing.in_room(speech, torch.from_numpy(rooms.align(response)).expand(B, -1))
    echo = torch.nn.functional.pad(speech, (800, 0))[:, :SAMPLES]
    late = torch.nn.functional.pad(speech, (801, 0))[:, :SAMPLES]
    assert torch.allclose(target, speech + 0.5 * echo, atol=1e-5)
    assert torch.allclose(heard, speech + 0.5 * echo - 0.25 * late, atol=1e-5)


def test_shaping_is_the_recursive_filter(waves):
    coefficients = np.random.default_rng(1).uniform(-3 / 8, 3 / 8, (B, 4))
    shaped = mixing.shape(waves[0], torch.from_numpy(coefficients).float()).numpy()
    for row, wave, (r1, r2, r3, r4) in zip(shaped, waves[0].numpy(), coefficients, strict=True):
        assert np.allclose(row, signal.lfilter([1, r1, r2], [1, r3, r4], wave), atol=1e-4)


def test_what_rings_at_the_end_is_not_heard_at_the_beginning():
    """The slowest filter of all, a pole at 0.83, after an impulse in the last of 4096 samples, a fast length."""
    wave = torch.zeros(1, 4096)
    wave[0, -1] = 1
    shaped = mixing.shape(wave, torch.tensor([[0.0, 0.0, -3 / 8, -3 / 8]]))
    torch.testing.assert_close(shaped, wave, atol=1e-6, rtol=0)


def test_a_fast_length_is_even_and_no_shorter():
    for least in range(1, 600):
        size = mixing.fast_size(least)
        assert size >= least
        assert size % 2 == 0


def test_microphone_and_talker_stand_where_they_may():
    rng = np.random.default_rng(0)
    for _ in range(300):
        size = rng.uniform([3.0, 2.5, 2.3], [9.0, 7.0, 3.5])
        both = np.array(rooms.place(rng, size))
        assert (both >= 0.4).all()
        assert (both <= size - 0.4).all()
        assert 0.4 <= np.linalg.norm(both[0] - both[1]) <= 3.0


def test_rooms_echo_from_0_12_to_0_7_s_and_walls_absorb_no_more_than_all(monkeypatch):
    """Sabine: RT60 = 24 ln 10 / 343 V / (S a), with a of 1 at most."""
    asked = []

    def note(rt60, size):
        asked.append((rt60, *size))
        raise InterruptedError

    monkeypatch.setattr("pyroomacoustics.inverse_sabine", note)
    for seed in range(200):
        with pytest.raises(InterruptedError):
            rooms.simulate(seed)
    rt60, x, y, z = np.array(asked).T
    assert (rt60 > 24 * np.log(10) / 343 * x * y * z / (2 * (x * y + y * z + x * z))).all()
    assert 0.12 <= rt60.min() < 0.15
    assert 0.65 < rt60.max() <= 0.7
    assert abs(rt60.mean() - 0.41) < 0.04  # even between them


def test_simulated_room_is_aligned_and_repeats():
    response = rooms.simulate(3)
    assert np.abs(response).argmax() == rooms.LEAD
    assert response[rooms.LEAD] == 1
    assert np.array_equal(response, rooms.simulate(3))
    assert np.abs(response[: rooms.LEAD]).max() < 0.9  # nothing but the filter's ringing before the direct sound


def test_simulated_rooms_decay_as_asked(monkeypatch):
    """Schroeder: the time from -5 to -25 dB of the backward integral, times 3; Sabine's law is rough in dry rooms."""
    import pyroomacoustics

    asked, inverse = [], pyroomacoustics.inverse_sabine
    monkeypatch.setattr(pyroomacoustics, "inverse_sabine", lambda rt60, size: asked.append(rt60) or inverse(rt60, size))
    for seed in range(6):
        left = np.cumsum(np.square(rooms.simulate(seed), dtype=np.float64)[::-1])[::-1]
        start, end = (np.argmax(left < left[0] * 10**bel) for bel in (-0.5, -2.5))
        assert 0.6 < 3 * (end - start) / 16_000 / asked[-1] < 1.3


def test_a_response_of_the_other_polarity_is_the_same_room():
    response = np.random.default_rng(0).uniform(-0.5, 0.5, 900)
    response[300] = 2.0
    np.testing.assert_array_equal(rooms.align(-response), rooms.align(response))
    assert rooms.align(-response)[rooms.LEAD] == 1


def test_no_two_rooms_of_a_run_are_the_same():
    """Seed, split, 4, index: each of them makes another room."""
    made = [rooms.named(*seed)[1][0] for seed in ((0, 0, 4, 0), (1, 0, 4, 0), (0, 1, 4, 0), (0, 0, 4, 1))]
    assert len({response.tobytes() for response in made}) == 4


def test_silence_is_no_impulse_response():
    with pytest.raises(ValueError, match="silence"):
        rooms.align(np.zeros(10))


def test_as_many_rooms_are_simulated_as_the_readme_says():
    asked = []
    workers = SimpleNamespace(map=lambda kind, jobs: asked.extend(map(tuple, jobs)) or [("", [None])] * len(jobs))
    assert [len(added.simulated_rooms(workers, 0, split)) for split in SPLITS] == [160, 16, 40]
    assert len(set(asked)) == 216  # no two alike
