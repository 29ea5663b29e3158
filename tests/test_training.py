"""Training: the schedule, what one step does, resuming to the last bit, zeros that stay, batches in order."""

import itertools
import math
import threading

import pytest
import torch

from dnslib import training
from dnslib.loss import compressed_spectral_loss
from dnslib.model import Cruse, apply_gain
from dnslib.pruning import gru_weights, sparsify
from dnslib.training import CHECKPOINT, Recipe, learning_rate_at, prefetched, train, validate

STEPS = 8


class Tones:
    """Toy batches: a tone a clip in noise, (2, 1600) each, decided by the step alone."""

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(step)
        frequency = torch.rand(2, 1, generator=generator) * 0.3 + 0.02
        target = 0.3 * torch.sin(2 * math.pi * frequency * torch.arange(1600))
        return target + 0.1 * torch.randn(2, 1600, generator=generator), target


class Interrupted(Tones):
    """The same batches, but the power goes at a step."""

    def __init__(self, at: int):
        self.at = at

    def batch(self, step: int):
        if step == self.at:
            raise KeyboardInterrupt
        return super().batch(step)


def network(seed: int = 0) -> Cruse:
    torch.manual_seed(seed)
    return Cruse((4, 4, 8, 8))


def same_weights(a: Cruse, b: Cruse) -> bool:
    return all(torch.equal(ours, theirs) for ours, theirs in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[Cruse, list[dict]]:
    model = network()
    return model, train(model, Tones(), Recipe(STEPS), tmp_path_factory.mktemp("run"))


# --- the schedule ---------------------------------------------------------------------------------------------------


def test_learning_rate_climbs_in_a_twentieth_of_the_steps_and_follows_half_a_cosine():
    recipe = Recipe(steps=100, learning_rate=0.5)
    rates = [learning_rate_at(step, recipe) for step in range(100)]
    assert rates[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    assert rates[24] == pytest.approx(0.25 * (1 + math.cos(math.pi / 5)))  # a fifth of the 95 steps that are left
    assert rates[62] == pytest.approx(0.25 * (1 + math.cos(math.pi * 3 / 5)))
    assert 0 < rates[-1] < 0.5 * 3e-4  # (π / 2 / 95)² of the peak
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[5:]))


@pytest.mark.parametrize("steps", [1, 2, 3, 60, 200])
def test_learning_rate_peaks_at_the_one_asked_for_and_is_never_zero(steps):
    rates = [learning_rate_at(step, Recipe(steps, 1e-3)) for step in range(steps)]
    assert max(rates) == 1e-3
    assert min(rates) > 0


# --- a training -----------------------------------------------------------------------------------------------------


def test_the_history_has_a_row_a_step(uninterrupted):
    _, history = uninterrupted
    assert [row["step"] for row in history] == list(range(STEPS))
    assert [row["learning_rate"] for row in history] == [learning_rate_at(step, Recipe(STEPS)) for step in range(STEPS)]
    assert all(row["loss"] > 0 and row["gradient_norm"] > 0 for row in history)


def test_training_learns_the_toy_problem(tmp_path):
    model, held_out = network(), Tones()
    before = validate(model, held_out)
    history = train(model, held_out, Recipe(40, 1e-2), tmp_path)
    assert not model.training
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert validate(model, held_out) < 0.7 * before


def test_the_first_step_of_adamw_by_hand(tmp_path):
    """w (1 - lr decay) - lr g / (|g| + 1e-8): a weight with a clear gradient moves by lr, after shrinking."""
    rate, decay = 1e-3, 0.5
    model, start = network(), network()
    train(model, Tones(), Recipe(1, rate, decay), tmp_path)
    noisy, target = Tones().batch(0)
    compressed_spectral_loss(apply_gain(start, noisy), target).backward()
    norm = math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in start.parameters()))
    moves = []
    for before, after in zip(start.parameters(), model.parameters(), strict=True):
        gradient = before.grad / max(1.0, norm)  # clipped to length 1
        expected = before * (1 - rate * decay) - rate * gradient / (gradient.abs() + 1e-8)
        moves.append(((after - expected) / rate)[gradient.abs() > 1e-6])  # well above the rounding of bfloat16
    moves = torch.cat([move.flatten() for move in moves])
    assert len(moves) > 1000
    assert moves.abs().quantile(0.99) < 0.02


def test_a_gradient_is_clipped_to_length_1_and_noted_as_it_was(tmp_path, monkeypatch):
    """AdamW keeps a tenth of the first gradient as its mean; here the gradient is almost 2 long."""
    checkpoints_every(1, monkeypatch)
    model, start = network(), network()
    with torch.no_grad():
        for steep in (model, start):
            steep.decoders[0].weight *= 30
    history = train(model, Tones(), Recipe(1), tmp_path)
    noisy, target = Tones().batch(0)
    compressed_spectral_loss(apply_gain(start, noisy), target).backward()
    norm = math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in start.parameters()))
    assert norm > 1.5
    assert history[0]["gradient_norm"] == pytest.approx(norm, rel=0.1)  # the training may round to bfloat16
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)["optimiser"]["state"]
    used = math.sqrt(sum(float((kept["exp_avg"] / 0.1).square().sum()) for kept in state.values()))
    assert used == pytest.approx(1, rel=1e-3)


def test_validation_is_the_mean_loss_of_two_batches():
    """A gain of one leaves the noise as it is."""
    model = network()
    with torch.no_grad():
        model.decoders[0].weight.zero_()
        model.decoders[0].bias.fill_(100.0)
    expected = sum(float(compressed_spectral_loss(*Tones().batch(step))) for step in (0, 1)) / 2
    assert validate(model, Tones()) == pytest.approx(expected, rel=1e-4)


class LaterTones(Tones):
    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        return super().batch(step + 1)


@pytest.mark.parametrize(("seed", "batches"), [(1, Tones()), (0, LaterTones())])
def test_another_start_or_other_batches_end_elsewhere(uninterrupted, tmp_path, seed, batches):
    model, _ = uninterrupted
    other = network(seed=seed)
    train(other, batches, Recipe(STEPS), tmp_path)
    assert not same_weights(other, model)


def test_a_loss_that_is_not_finite_stops_with_one_sentence(tmp_path):
    class Broken(Tones):
        def batch(self, step):
            noisy, target = super().batch(step)
            return (noisy * math.nan if step == 2 else noisy), target

    with pytest.raises(RuntimeError, match=r"^training P\.500: the loss is nan at step 2\.$"):
        train(network(), Broken(), Recipe(STEPS), tmp_path, description="training P.500")


# --- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "every"), [(1, 1), (5, 1), (6, 4), (STEPS - 1, 3), (3, 100)])
def test_an_interrupted_training_ends_as_if_it_was_not(uninterrupted, tmp_path, monkeypatch, at, every):
    """Checkpoints of every step, of some steps, or none before the interruption: the same bits."""
    checkpoints_every(every, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(network(), Interrupted(at), Recipe(STEPS), tmp_path)
    assert (tmp_path / CHECKPOINT).exists() == (every <= at)
    resumed, asked = network(), []
    batches = Tones()
    batches.batch = lambda step: asked.append(step) or Tones.batch(batches, step)
    history = train(resumed, batches, Recipe(STEPS), tmp_path)
    assert asked == list(range(at // every * every, STEPS))  # goes on where the checkpoint is
    assert history == uninterrupted[1]
    assert same_weights(resumed, uninterrupted[0])


def test_interrupted_twice(uninterrupted, tmp_path, monkeypatch):
    checkpoints_every(1, monkeypatch)
    for at in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            train(network(), Interrupted(at), Recipe(STEPS), tmp_path)
    resumed = network()
    assert train(resumed, Tones(), Recipe(STEPS), tmp_path) == uninterrupted[1]
    assert same_weights(resumed, uninterrupted[0])


def checkpoints_every(steps: int, monkeypatch) -> None:
    save = training._save_checkpoint

    def sometimes(path, model, optimiser, history):
        if len(history) % steps == 0:
            save(path, model, optimiser, history)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    monkeypatch.setattr(training, "_save_checkpoint", sometimes)


# --- sparse fine-tuning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", [True, False])
def test_zeros_stay_zero_where_asked_and_only_there(tmp_path, freeze):
    model = sparsify(network(), 0.5)
    zeros = [weight == 0 for weight in gru_weights(model)]
    train(model, Tones(), Recipe(3, freeze_zeros=freeze), tmp_path)
    still = sum(int((weight[zero] == 0).sum()) for weight, zero in zip(gru_weights(model), zeros, strict=True))
    total = sum(int(zero.sum()) for zero in zeros)
    assert still == total if freeze else still < 0.1 * total
    alive = sum(int((weight[~zero] != 0).sum()) for weight, zero in zip(gru_weights(model), zeros, strict=True))
    assert alive == total  # the other half


def test_zeros_stay_zero_through_an_interruption(tmp_path, monkeypatch):
    checkpoints_every(1, monkeypatch)
    recipe = Recipe(4, freeze_zeros=True)
    whole, resumed = sparsify(network(), 0.5), sparsify(network(), 0.5)
    train(whole, Tones(), recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(sparsify(network(), 0.5), Interrupted(2), recipe, tmp_path / "resumed")
    train(resumed, Tones(), recipe, tmp_path / "resumed")
    assert same_weights(resumed, whole)


# --- batches ahead --------------------------------------------------------------------------------------------------


class Numbers:
    """Batches that are just the step, and who asked for them."""

    def __init__(self):
        self.asked = []

    def batch(self, step: int):
        self.asked.append((step, threading.current_thread()))
        return step, -step


@pytest.mark.parametrize("steps", [range(0), range(1), range(3, 20)])
def test_batches_come_once_each_in_order_from_another_thread(steps):
    batches, threads = Numbers(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(prefetched(batches, steps)) == [(step, -step) for step in steps]
        assert torch.get_num_threads() == 2  # mixing on one thread does not slow the training
    finally:
        torch.set_num_threads(threads)
    assert [step for step, _ in batches.asked] == list(steps)
    assert threading.current_thread() not in {thread for _, thread in batches.asked}


def test_only_a_few_batches_are_mixed_ahead_and_leaving_ends_the_thread():
    batches, before = Numbers(), set(threading.enumerate())
    stream = prefetched(batches, range(1000))
    next(stream)
    stream.close()
    assert set(threading.enumerate()) <= before
    assert len(batches.asked) <= 1 + training._PREFETCHED + 1  # taken, waiting, in the hand


def test_an_error_while_mixing_reaches_the_training():
    stream = prefetched(Interrupted(3), range(10))
    assert len(list(itertools.islice(stream, 3))) == 3
    with pytest.raises(KeyboardInterrupt):
        next(stream)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_what_the_cpu_does(tmp_path):
    losses = {}
    for device in ("cpu", "cuda"):
        history = train(network().to(device), Tones(), Recipe(20, 1e-2), tmp_path / device)
        losses[device] = [row["loss"] for row in history]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)
    assert losses["cuda"][-1] < 0.8 * losses["cuda"][0]
