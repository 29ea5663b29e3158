"""The loss against closed forms and an independent computation in numpy."""

import math

import numpy as np
import pytest
import torch

from dnslib.loss import PAPER, LossWeights, active_level, compressed_spectral_loss

C, LAMBDA = 0.3, 0.3  # CRUSE paper
QUIET = LossWeights(pauses=0.2)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def impulse(samples: int = 1600, amplitude: float = 0.2) -> torch.Tensor:
    """One impulse amid a hop: two of the frames see it with sin(π/4) in all bins, and one hop is active."""
    waveform = torch.zeros(1, samples)
    waveform[0, 480 + 80] = amplitude
    return waveform


# The impulse's level is a/√160, so |S|² = 160/2 in two of the 11 frames: mean |S|^2c = 2/11 · 80^c.
IMPULSE_MEAN = 2 / 11 * 80**C


def reference(estimate: np.ndarray, target: np.ndarray) -> float:
    """One example, from the formula: no floor, and phases by angle."""
    level = math.sqrt(np.mean(target**2))  # of steady noise: all hops are active
    spectra = []
    for waveform in (target / level, estimate / level):
        padded = np.pad(waveform, (160, 160))
        frames = np.stack([padded[start : start + 320] for start in range(0, len(padded) - 319, 160)])
        spectra.append(np.fft.rfft(frames * np.sin(np.pi * np.arange(320) / 320)))
    (a, b) = (np.abs(spectrum) ** C for spectrum in spectra)
    phased = [magnitude * np.exp(1j * np.angle(s)) for magnitude, s in zip((a, b), spectra, strict=True)]
    by_magnitude, by_phase = np.mean((a - b) ** 2), np.mean(np.abs(phased[0] - phased[1]) ** 2)
    return (1 - LAMBDA) * by_magnitude + LAMBDA * by_phase


def test_a_perfect_estimate_costs_nothing():
    assert compressed_spectral_loss(noise(2, 1600), noise(2, 1600)) == 0


@pytest.mark.parametrize("gain", [0.5, 0.8, 2.0])
def test_a_scaled_estimate_in_closed_form(gain):
    """Both terms are (1 - g^c)² mean |S|^2c."""
    loss = compressed_spectral_loss(gain * impulse(), impulse())
    assert loss.item() == pytest.approx((1 - gain**C) ** 2 * IMPULSE_MEAN, rel=1e-4)


def test_the_wrong_sign_costs_phase_only():
    loss = compressed_spectral_loss(-impulse(), impulse())
    assert loss.item() == pytest.approx(LAMBDA * 4 * IMPULSE_MEAN, rel=1e-4)


def test_the_share_of_the_phase_aware_term():
    loss = compressed_spectral_loss(-impulse(), impulse(), LossWeights(complex_share=0.5))
    assert loss.item() == pytest.approx(0.5 * 4 * IMPULSE_MEAN, rel=1e-4)


@pytest.mark.parametrize(("gain", "factor"), [(0.5, 3.0), (2.0, 1.0)], ids=["too little", "too much"])
def test_over_suppression_weighs_too_little_in_the_first_term(gain, factor):
    loss = compressed_spectral_loss(gain * impulse(), impulse(), LossWeights(over_suppression=3.0))
    expected = ((1 - LAMBDA) * factor + LAMBDA) * (1 - gain**C) ** 2 * IMPULSE_MEAN
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_equals_the_formula_in_numpy():
    target, estimate = noise(3, 3200), noise(3, 3200, seed=1) * torch.tensor([[0.1], [1.0], [3.0]]) + noise(3, 3200)
    expected = [reference(b.double().numpy(), a.double().numpy()) for a, b in zip(target, estimate, strict=True)]
    for i in range(3):
        loss = compressed_spectral_loss(estimate[i : i + 1], target[i : i + 1])
        assert loss.item() == pytest.approx(expected[i], rel=2e-3)
    assert compressed_spectral_loss(estimate, target).item() == pytest.approx(np.mean(expected), rel=2e-3)


def test_quiet_examples_count_as_loud_ones():
    estimate, target = noise(2, 1600, seed=1), noise(2, 1600)
    both = torch.tensor([[1e-3], [10.0]])
    loss = compressed_spectral_loss(estimate, target).item()
    assert compressed_spectral_loss(both * estimate, both * target).item() == pytest.approx(loss, rel=1e-4)
    assert compressed_spectral_loss(0.5 * estimate, target).item() != pytest.approx(loss, rel=1e-2)


def test_pauses_do_not_lower_the_level():
    """A tone of amplitude a has level a/√2, however long the silence after it; 30 dB below it still counts, 50 not."""
    tone = 0.3 * torch.sin(2 * math.pi * torch.arange(1600) / 16)[None]
    parts = [torch.cat([tone, factor * tone], dim=1) for factor in (0.0, 10 ** (-50 / 20), 10 ** (-30 / 20), 1.0)]
    full, with_quiet_half = 0.3 / math.sqrt(2), 0.3 / math.sqrt(2) * math.sqrt((1 + 1e-3) / 2)
    assert active_level(torch.cat(parts)).tolist() == pytest.approx([full, full, with_quiet_half, full], rel=1e-5)


def spoken_then_silent(residue_db: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A tone that stops half way, exactly a bin wide, and the same with a softer one left over in the pause."""
    tone = 0.1 * torch.sin(2 * math.pi * torch.arange(3200) / 16)[None]
    spoken = torch.cat([tone, 0 * tone], dim=1)
    return spoken + 10 ** (residue_db / 20) * torch.cat([0 * tone, tone], dim=1), spoken


def test_what_is_left_in_a_pause_counts_by_its_level():
    """In bel above -90 dB, by numpy: of 41 frames the tone is in 0 to 20, the two after them count as speech too."""
    softer, spoken = spoken_then_silent(-50.0)
    louder, _ = spoken_then_silent(-40.0)
    bels = []
    for waveform in (softer, louder):
        padded = np.pad(waveform[0].double().numpy() / (0.1 / math.sqrt(2)), (160, 160))
        frames = np.stack([padded[160 * t : 160 * t + 320] for t in range(23, 41)])
        power = np.abs(np.fft.rfft(frames * np.sin(np.pi * np.arange(320) / 320))) ** 2
        bels.append(np.log10(1 + power / 1e-7).sum() / (41 * 161))
    weights = LossWeights(pauses=0.2), LossWeights(pauses=0.3)
    losses = [
        compressed_spectral_loss(waveform, spoken, one).item() for waveform in (softer, louder) for one in weights
    ]
    # the error in the two frames after the tone does not depend on the weight
    assert [10 * (b - a) for a, b in (losses[:2], losses[2:])] == pytest.approx(bels, rel=1e-3)


def test_a_loud_frame_in_a_pause_costs_the_error_to_a_pause_40_db_softer():
    """A network in doubt is not driven to silence: without a floor in the target both losses are the same there."""
    loud, spoken = spoken_then_silent(-20.0)
    assert compressed_spectral_loss(loud, spoken, QUIET).item() == compressed_spectral_loss(loud, spoken).item()
    quiet, _ = spoken_then_silent(-32.0)  # 30 dB below the speech it is no doubt
    assert compressed_spectral_loss(quiet, spoken, QUIET).item() > 1.5 * compressed_spectral_loss(quiet, spoken).item()


@pytest.mark.parametrize("floor_db", [-45.0, -60.0])
def test_a_floor_in_a_pause_counts_40_db_softer_where_the_estimate_is_loud(floor_db):
    """As the paper's loss of a target whose floor is a hundredth as large; it starts where no frame has both."""
    tone = 0.1 * torch.sin(2 * math.pi * torch.arange(3200) / 16)[None]
    spoken, later = torch.cat([tone, 0 * tone], dim=1), torch.cat([0 * tone, tone], dim=1)
    later[:, : 3200 + 480] = 0  # frame 23 is the first pause and starts 160 samples earlier
    floor = 10 ** (floor_db / 20) * later
    loud = spoken + 0.1 * later
    expected = compressed_spectral_loss(loud, spoken + 0.01 * floor).item()
    assert compressed_spectral_loss(loud, spoken + floor, QUIET).item() == pytest.approx(expected, rel=1e-5)
    assert compressed_spectral_loss(loud, spoken + floor).item() != pytest.approx(expected, rel=1e-3)


def test_pauses_are_found_in_each_example_by_itself():
    """A burst 26 dB above the rest of its example does not make quieter what another leaves in its pause."""
    left, spoken = spoken_then_silent(-20.0)
    burst = 0.05 * noise(1, 6400)
    burst[:, 3200:3360] *= 20
    alone = [compressed_spectral_loss(a, b, QUIET).item() for a, b in ((left, spoken), (0.5 * burst, burst))]
    both = compressed_spectral_loss(torch.cat([left, 0.5 * burst]), torch.cat([spoken, burst]), QUIET).item()
    assert both == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_the_noise_floor_of_a_recording_is_not_worth_keeping():
    """With a weight of pauses silence is better there than the floor itself, without one it is worse."""
    floor = 3e-4 * noise(1, 6400)  # 47 dB below the tone
    spoken = spoken_then_silent(-200.0)[1]
    target = spoken + floor
    kept, silent = target, torch.cat([target[:, :3200], 0 * target[:, 3200:]], dim=1)
    assert compressed_spectral_loss(silent, target, QUIET) < compressed_spectral_loss(kept, target, QUIET)
    assert compressed_spectral_loss(silent, target) > compressed_spectral_loss(kept, target)


def test_speech_is_compared_as_ever():
    """Where no frame is a pause, a weight of pauses changes nothing."""
    estimate, target = noise(2, 3200, seed=1), noise(2, 3200)
    assert compressed_spectral_loss(estimate, target, QUIET) == compressed_spectral_loss(estimate, target)


@pytest.mark.parametrize("target", [torch.zeros(1, 800), noise(1, 800)], ids=["silence", "noise"])
@pytest.mark.parametrize("same", [True, False], ids=["perfect", "silent estimate"])
@pytest.mark.parametrize("weights", [PAPER, LossWeights(0.15, 2.0, 0.2)], ids=["paper", "weighted"])
def test_loss_and_gradient_are_finite_at_silence(target, same, weights):
    estimate = (target.clone() if same else torch.zeros_like(target)).requires_grad_()
    loss = compressed_spectral_loss(estimate, target, weights)
    loss.backward()
    assert loss.isfinite()
    assert estimate.grad.isfinite().all()
    if same:
        assert estimate.grad.abs().max() < 1e-6  # the minimum


def test_a_step_against_the_gradient_comes_nearer():
    target, estimate = noise(2, 1600), noise(2, 1600, seed=1).requires_grad_()
    loss = compressed_spectral_loss(estimate, target)
    loss.backward()
    step = 1e-2 * loss / estimate.grad.square().sum()  # a first-order step towards 1 % less
    nearer = compressed_spectral_loss(estimate.detach() - step * estimate.grad, target)
    assert nearer.item() == pytest.approx(0.99 * loss.item(), rel=2e-3)
