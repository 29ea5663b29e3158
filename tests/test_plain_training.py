"""The plain network and loop against the study's: the same function, gradients and loss curves, written twice."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from dnslib.model import Cruse
from dnslib.plain_training import LOOPS, PlainCruse, compare, summarise
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
    model = Cruse(widths)
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


def test_both_loops_learn_alike_from_the_same_batches():
    """bfloat16 keeps eight bits, so a loss may differ by a percent or so, and the curves fall together."""
    table = compare((4, 4, 8, 8), Tones, Recipe(steps=30, learning_rate=0.01), seeds=(0, 1))
    curves = table[table["loop"].isin(LOOPS)].pivot(index=["seed", "step"], columns="loop", values="loss")
    assert len(curves) == 60
    assert ((curves["study"] / curves["plain"] - 1).abs() < 0.05).all()
    for seed in (0, 1):
        assert curves.loc[seed, "plain"].tail(5).mean() < 0.8 * curves.loc[seed, "plain"].head(5).mean()


def test_seconds_are_those_of_the_clock_per_step_and_the_first_loop_alternates():
    ticks = iter(range(0, 10_000, 6))  # every reading is 6 s after the one before
    table = compare((4, 4, 8, 8), Tones, Recipe(steps=3), seeds=(5, 6), clock=lambda: next(ticks))
    assert set(table["seconds"]) == {2.0}
    order = table[table["step"] == 0][["seed", "loop"]].to_records(index=False).tolist()
    assert order == [(5, "plain"), (5, "study"), (5, "mixing"), (6, "study"), (6, "plain"), (6, "mixing")]


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
