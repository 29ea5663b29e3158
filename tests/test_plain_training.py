"""The plain network and loop against the study's: the same function, gradients and loss curves, written twice."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import biased
from scipy import stats

import dnslib
from dnslib import MisuseError
from dnslib.data import added
from dnslib.data.splits import SPLITS
from dnslib.loss import compressed_spectral_loss
from dnslib.model import Cruse, apply_gain
from dnslib.plain_training import LOOPS, PlainCruse, Race, compare, summarise, timed
from dnslib.training import Recipe


class Tones:
    """Toy batches: a tone a clip in noise, (2, 3200) each, decided by seed and step."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.seed + step)
        frequency = torch.rand(2, 1, generator=generator) * 0.3 + 0.02
        target = 0.3 * torch.sin(2 * math.pi * frequency * torch.arange(3200))
        return target + 0.1 * torch.randn(2, 3200, generator=generator), target


@pytest.mark.parametrize("widths", [(4, 4, 8, 8), (2, 6, 4), (3, 4, 6, 8)])
def test_both_writings_of_the_network_give_the_same_gains_and_gradients(widths):
    torch.manual_seed(1)
    model = biased(Cruse(widths))
    plain = PlainCruse(model)
    x = torch.randn(2, 1, 9, 161)
    gains = [network(x) for network in (model, plain)]
    torch.testing.assert_close(*gains, atol=1e-5, rtol=1e-5)
    seen = torch.randn_like(gains[0])
    for gain in gains:
        (gain * seen).sum().backward()
    for ours, theirs in zip(model.encoders, plain.encoders, strict=True):
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-3)
    for ours, theirs in zip(model.decoders, plain.decoders, strict=True):
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-3)
    theirs = torch.stack([gru.weight_hh_l0.grad for gru in plain.grus])
    torch.testing.assert_close(model.gru.weight_hh.grad, theirs, atol=1e-4, rtol=1e-3)


def test_the_plain_network_has_its_own_weights():
    model = Cruse((4, 4, 8, 8))
    plain = PlainCruse(model)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in model.parameters())
    assert not {p.data_ptr() for p in plain.parameters()} & {p.data_ptr() for p in model.parameters()}


def run(recipe: Recipe, **more):
    """What `compare` needs: tiny networks on toy batches, in this process."""
    return lambda loop, seed: timed(loop, (4, 4, 8, 8), Tones(seed), recipe, seed, **more)


def test_both_loops_learn_alike_from_the_same_batches():
    """bfloat16 keeps eight bits, so a loss may differ by a percent or so, and the curves fall together."""
    table = compare(run(Recipe(steps=30, learning_rate=0.01)), seeds=(0, 1))
    curves = table[table["loop"].isin(LOOPS)].pivot(index=["seed", "step"], columns="loop", values="loss")
    assert len(curves) == 60
    assert ((curves["study"] / curves["plain"] - 1).abs() < 0.05).all()
    for seed in (0, 1):
        assert curves.loc[seed, "plain"].tail(5).mean() < 0.8 * curves.loc[seed, "plain"].head(5).mean()


def test_seconds_are_those_of_the_clock_per_step_and_the_first_loop_alternates():
    ticks = iter(range(0, 10_000, 6))  # every reading is 6 s after the one before
    table = compare(run(Recipe(steps=3), clock=lambda: next(ticks)), seeds=(5, 6))
    assert set(table["seconds"]) == {2.0}
    order = table[table["step"] == 0][["seed", "loop"]].to_records(index=False).tolist()
    assert order == [(5, "plain"), (5, "study"), (5, "mixing"), (6, "study"), (6, "plain"), (6, "mixing")]


def test_the_steps_that_warm_up_leave_the_network_alone():
    """Hence the first loss is that of the weights a seed gives, computed here by the plain network."""
    torch.manual_seed(3)
    noisy, target = Tones(3).batch(0)
    expected = float(compressed_spectral_loss(apply_gain(PlainCruse(Cruse((4, 4, 8, 8))), noisy), target).detach())
    result = run(Recipe(steps=2, learning_rate=0.1))("plain", 3)
    assert result["losses"][0] == pytest.approx(expected, rel=1e-5)
    assert len(result["losses"]) == 2


@pytest.fixture(scope="module")
def race(tmp_path_factory):
    """On the embedded data, with few rooms."""
    settings = dnslib.Settings(outputs=str(tmp_path_factory.mktemp("data")), speech_minutes=0.5, noise_minutes=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(added, "ROOMS", dict.fromkeys(SPLITS, 2))
        folder = str(dnslib.data.prepare(settings).folder)
    return Race((4, 4, 8, 8), folder, 2, 1.0, Recipe(steps=2))


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_of_its_own_process_learns_what_it_learns_here(race, loop):
    assert race.apart(loop, 1)["losses"] == pytest.approx(race.here(loop, 1)["losses"], rel=1e-4)


@pytest.mark.slow
def test_mixing_alone_takes_time_too(race):
    assert race.apart("mixing", 1)["seconds"] > 0


def test_a_loop_that_fails_in_its_process_says_why(tmp_path):
    with pytest.raises(MisuseError, match=r"index\.csv is missing"):
        Race((4, 4, 8, 8), str(tmp_path), 2, 1.0, Recipe(steps=2)).apart("study", 0)


def test_the_summary_of_made_up_times():
    """Plain 8 s and 2 s, ours 2 s and 1 s: speedups 4 and 2, geometric mean √8, and one degree of freedom."""
    times = {"plain": (8.0, 2.0), "study": (2.0, 1.0), "mixing": (0.5, 0.5)}
    table = pd.DataFrame(
        [
            {"seed": seed, "loop": loop, "step": step, "loss": 1.0, "seconds": times[loop][seed]}
            for seed in (0, 1)
            for loop in times
            for step in range(2)
        ]
    )
    summary = summarise(table, audio_seconds=32.0).set_index("loop")
    assert summary.loc["study", "seconds"] == 1.5
    assert summary.loc["plain", "audio_seconds_per_second"] == pytest.approx(32 / 5)
    assert summary.loc["study", "speedup"] == pytest.approx(math.sqrt(8))
    half = stats.t.ppf(0.975, 1) * np.std(np.log([4, 2]), ddof=1) / math.sqrt(2)
    assert summary.loc["study", "speedup_ci_high"] == pytest.approx(math.sqrt(8) * math.exp(half))
    assert summary.loc["plain", ["speedup", "speedup_ci_low", "speedup_ci_high"]].tolist() == [1, 1, 1]
