"""Parallel GRUs against `torch.nn.GRU`, one a group: outputs and every gradient."""

import math

import pytest
import torch
from torch import nn

from dnslib import gru
from dnslib.gru import ParallelGru, _Recurrence, library_recurrence

PARAMETERS = {
    "weight_ih": "weight_ih_l0",
    "weight_hh": "weight_hh_l0",
    "bias_ih": "bias_ih_l0",
    "bias_hh": "bias_hh_l0",
}


def references(parallel: ParallelGru) -> list[nn.GRU]:
    """One public GRU a group, with the group's weights."""
    grus = [nn.GRU(parallel.size, parallel.size, batch_first=True) for _ in range(parallel.groups)]
    with torch.no_grad():
        for g, gru in enumerate(grus):
            for ours, theirs in PARAMETERS.items():
                getattr(gru, theirs).copy_(getattr(parallel, ours)[g])
    return grus


def through_references(grus: list[nn.GRU], x: torch.Tensor) -> torch.Tensor:
    parts = x.chunk(len(grus), dim=-1)
    return torch.cat([gru(part)[0] for gru, part in zip(grus, parts, strict=True)], dim=-1)


def both(groups: int, size: int, batch: int, frames: int, autocast: bool = False):
    """Outputs, input gradients and parameter gradients, ours and the public ones', for the same random problem."""
    torch.manual_seed(groups + size)
    parallel = ParallelGru(groups, size)
    grus = references(parallel)
    x, seen = (torch.randn(batch, frames, groups * size), torch.randn(batch, frames, groups * size))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = parallel(ours)
    expected = through_references(grus, theirs)
    (output.float() * seen).sum().backward()
    (expected * seen).sum().backward()
    pairs = {"output": (output.detach(), expected.detach()), "input": (ours.grad, theirs.grad)}
    for name, public in PARAMETERS.items():
        pairs[name] = (getattr(parallel, name).grad, torch.stack([getattr(gru, public).grad for gru in grus]))
    return pairs


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("groups", "size", "batch", "frames"), [(4, 6, 3, 7), (1, 5, 2, 9), (2, 3, 1, 1), (3, 1, 4, 2), (4, 18, 2, 40)]
)
def test_outputs_and_gradients_are_those_of_public_grus(groups, size, batch, frames, packed, monkeypatch):
    monkeypatch.setattr(gru, "PACKED_TYPES", gru.PACKED_TYPES if packed else ())
    for name, (ours, theirs) in both(groups, size, batch, frames).items():
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1, scale), rtol=1e-5, msg=f"{name} differs")


def test_bfloat16_stays_close_to_float32():
    """bfloat16 keeps 8 bits of a number, 0.4 %; a recurrence of 40 frames may lose a few times that."""
    for name, (ours, theirs) in both(4, 18, 2, 40, autocast=True).items():
        assert ours.dtype == (torch.bfloat16 if name == "output" else torch.float32)
        error = (ours.float() - theirs).norm() / theirs.norm()
        assert 0 < error < 0.03, f"{name} differs by {error:.2%}"


def test_a_slow_state_is_not_lost_in_bfloat16():
    """z = 255/256, so h goes to n (1 - z^t). With 8 bits, a state at 1/2 is too coarse for steps of n / 1000."""
    parallel = ParallelGru(1, 1)
    with torch.no_grad():
        for parameter in parallel.parameters():
            parameter.zero_()
        parallel.bias_ih[0, 1:] = torch.tensor([math.log(255), 1.0])
        with torch.autocast("cpu", torch.bfloat16):
            last = parallel(torch.zeros(1, 900, 1))[0, -1].item()
    assert last == pytest.approx(math.tanh(1) * (1 - (255 / 256) ** 900), rel=0.01)


def test_groups_are_disconnected_in_values_and_in_gradients():
    groups, size = 3, 4
    parallel = ParallelGru(groups, size)
    x = torch.randn(2, 5, groups * size)
    moved = x.clone()
    moved[..., size : 2 * size] += 1  # the inputs of group 1
    changed = (parallel(moved) != parallel(x)).unflatten(-1, (groups, size)).any(dim=(0, 1))
    assert changed.tolist() == [[False] * size, [True] * size, [False] * size]
    parallel(x)[..., :size].sum().backward()  # the outputs of group 0
    for parameter in parallel.parameters():
        assert parameter.grad[0].abs().max() > 0
        assert parameter.grad[1:].abs().max() == 0


def test_starts_from_a_zero_state_and_stays_there_without_weights():
    """No weights and biases: n = tanh(0) = 0 and h' = h / 2 + n / 2 = 0."""
    parallel = ParallelGru(2, 3)
    with torch.no_grad():
        for parameter in parallel.parameters():
            parameter.zero_()
        assert parallel(torch.randn(1, 4, 6)).abs().max() == 0


def test_one_unit_by_hand():
    """Only the bias of `new` is set: z = 1/2, n = tanh(1), so h goes n/2, 3n/4, 7n/8, ..."""
    parallel = ParallelGru(1, 1)
    with torch.no_grad():
        for parameter in parallel.parameters():
            parameter.zero_()
        parallel.bias_ih[0, 2] = 1
        hidden = parallel(torch.zeros(1, 4, 1)).flatten()
    assert hidden.tolist() == pytest.approx([math.tanh(1) * share for share in (1 / 2, 3 / 4, 7 / 8, 15 / 16)])


def test_first_weights_are_spread_as_those_of_the_public_gru():
    """Uniform in ±1/√H: the largest is just inside, the mean square is a third of the limit's."""
    size = 64
    for parameter in ParallelGru(4, size).parameters():
        assert parameter.abs().max() <= 1 / math.sqrt(size)
        assert parameter.square().mean().item() * size == pytest.approx(1 / 3, abs=0.05)
        assert abs(parameter.mean().item()) < 4 / math.sqrt(3 * size * parameter.numel())  # 4 standard errors


def test_the_library_recurrence_of_gpus_is_the_same_function():
    torch.manual_seed(3)
    parallel = ParallelGru(4, 6)
    x = torch.randn(4, 7, 3, 6)  # (P, T, B, H)
    parameters = (parallel.weight_ih, parallel.weight_hh, parallel.bias_ih, parallel.bias_hh)
    ours, theirs = _Recurrence.apply(x, *parameters), library_recurrence(x, *parameters)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    seen = torch.randn_like(ours)
    gradients = [torch.autograd.grad((output * seen).sum(), parameters) for output in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def trained_once(parallel: ParallelGru, x: torch.Tensor, autocast: bool) -> list[torch.Tensor]:
    """The output and all gradients of one pass."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = parallel(x)
    gradients = torch.autograd.grad(output.float().square().sum(), [x, *parallel.parameters()])
    return [output.detach(), *gradients]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("groups", [1, 3, 4])
def test_threads_share_the_groups_and_change_no_bit(groups, autocast):
    torch.manual_seed(groups)
    parallel, x = ParallelGru(groups, 16), torch.randn(2, 9, groups * 16)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            results.append(trained_once(parallel, x, autocast))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            assert torch.equal(one, other)


def no_script(function):
    raise RuntimeError("no TorchScript")


def test_without_torchscript_the_results_are_the_same(monkeypatch):
    torch.manual_seed(0)
    parallel, x = ParallelGru(4, 8), torch.randn(2, 7, 32)
    compiled = trained_once(parallel, x, False)
    monkeypatch.setattr("torch.jit.script", no_script)
    gru._compiled.cache_clear()
    try:
        assert gru._compiled(gru.forward_frames) is gru.forward_frames
        plain = trained_once(parallel, x, False)
    finally:
        gru._compiled.cache_clear()
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_packed_weights_give_the_products_of_plain_ones(monkeypatch):
    torch.manual_seed(0)
    parallel, x = ParallelGru(4, 40), torch.randn(8, 5, 160)
    packed = trained_once(parallel, x, True)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    for one, other in zip(packed, trained_once(parallel, x, True), strict=True):
        torch.testing.assert_close(one.float(), other.float(), atol=0, rtol=2**-7 * 5)  # rounded once in five frames


def test_inference_needs_no_gradients_and_gives_the_same():
    torch.manual_seed(0)
    parallel, x = ParallelGru(4, 8), torch.randn(2, 7, 32)
    with torch.inference_mode():
        inferred = parallel(x)
    assert torch.equal(inferred, parallel(x))
    assert not inferred.requires_grad
