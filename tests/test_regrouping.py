"""Fewer groups compute the same; more groups lose as little as any halves do, and nothing where nothing is coupled."""

from itertools import combinations

import numpy as np
import pytest
import torch

from dnslib.errors import MisuseError
from dnslib.model import Cruse
from dnslib.pruning import keep_sets, mask, prune
from dnslib.regrouping import bisect, coupling, regroup, shrink

WIDTHS = (2, 3, 4, 16)
GRU = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@pytest.fixture
def model() -> Cruse:
    torch.manual_seed(0)
    model = Cruse(WIDTHS, groups=4)
    for layer in (*model.encoders, *model.skips, *model.decoders):
        torch.nn.init.normal_(layer.bias, std=0.1)
    return model.eval()


@pytest.fixture
def heard() -> torch.Tensor:
    return torch.randn(2, 1, 12, 161, generator=torch.Generator().manual_seed(1))


def distance(a: Cruse, b: Cruse, heard: torch.Tensor) -> float:
    with torch.inference_mode():
        return float((a(heard) - b(heard)).abs().max())


def reordered(model: Cruse, seed: int) -> Cruse:
    """The channels of each group in another order: the same function."""
    rng, channels = np.random.default_rng(seed), model.widths[-1] // model.groups
    order = np.concatenate([rng.permutation(channels) + g * channels for g in range(model.groups)])
    return prune(model, model.widths, [*map(torch.arange, model.widths[:-1]), torch.from_numpy(order)])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_fewer_groups_compute_the_same(model, heard, groups):
    merged = regroup(model, groups)
    assert (merged.groups, merged.widths, merged.gru.size) == (groups, WIDTHS, 16 * 9 // groups)
    assert distance(model, merged, heard) < 1e-6


def test_a_merged_recurrence_is_that_of_torch(model):
    """One group of all is `torch.nn.GRU` with the four GRUs' weights on its diagonal."""
    merged = regroup(model, 1).gru
    reference = torch.nn.GRU(merged.size, merged.size, batch_first=True)
    with torch.no_grad():
        for name in GRU:
            getattr(reference, f"{name}_l0").copy_(getattr(merged, name)[0])
    x = torch.randn(2, 7, merged.size)
    torch.testing.assert_close(reference(x)[0], model.gru(x), atol=1e-6, rtol=0)


def test_merging_writes_out_the_zeros_and_training_can_fill_them(model, heard):
    merged = regroup(model, 2)
    zeros = merged.gru.weight_hh == 0
    assert zeros.float().mean() == 0.5  # of each two by two blocks, the two off the diagonal
    merged.train()(heard).sum().backward()
    assert (merged.gru.weight_hh.grad[zeros] != 0).all()


def test_halving_what_is_coupled_in_halves_only_changes_nothing(model, heard):
    """Merged, and its channels shuffled inside the groups: cutting finds the groups again."""
    shuffled = reordered(regroup(model, 2), seed=3)
    assert distance(shuffled, model, heard) < 1e-6
    contiguous = coupling(shuffled)[:, :4, 4:].sum()
    assert contiguous > 0  # the first and the second half of the channels would not do
    found = regroup(shuffled, 4)
    assert found.groups == 4
    assert distance(found, model, heard) < 1e-6


def test_from_one_group_to_four_over_two(model, heard):
    assert distance(regroup(reordered(regroup(model, 1), seed=4), 4), model, heard) < 1e-6


def test_more_groups_keep_the_two_diagonal_blocks(model, heard):
    """The same as setting the weights between the halves to zero, group by group."""
    halved = regroup(model, 8)
    assert halved.gru.size == 2 * 9
    assert distance(regroup(halved, 4), halved, heard) < 1e-6  # and so nothing but blocks is left
    kept = sum(coupling(halved).sum(axis=(1, 2)))
    whole = coupling(model)
    best = sum(max(within(weights, half) for half in combinations(range(4), 2)) for weights in whole)
    assert kept == pytest.approx(best, rel=1e-6)
    assert kept < whole.sum()


def within(weights: np.ndarray, half: tuple[int, ...]) -> float:
    other = [index for index in range(len(weights)) if index not in half]
    return weights[np.ix_(half, half)].sum() + weights[np.ix_(other, other)].sum()


@pytest.mark.parametrize("seed", range(5))
def test_bisection_of_planted_halves(seed):
    rng = np.random.default_rng(seed)
    side = rng.permutation(np.repeat([0, 1], 8))
    weights = rng.uniform(0, 1, (16, 16)) * np.where(side[:, None] == side, 1.0, 0.05)
    order = bisect(weights + weights.T)
    assert sorted(order) == list(range(16))
    assert set(side[order[:8]]) != set(side[order[8:]])
    assert len(set(side[order[:8]])) == 1


def test_no_exchange_of_two_indices_would_leave_less_between_the_halves():
    weights = np.random.default_rng(0).uniform(0, 1, (12, 12))
    weights += weights.T
    order = bisect(weights)
    cut = weights[np.ix_(order[:6], order[6:])].sum()
    for a in range(6):
        for b in range(6, 12):
            swapped = order.copy()
            swapped[[a, b]] = order[[b, a]]
            assert weights[np.ix_(swapped[:6], swapped[6:])].sum() >= cut - 1e-9


def test_nothing_coupled_is_halved_all_the_same():
    assert sorted(bisect(np.zeros((6, 6)))) == list(range(6))


def test_with_as_many_groups_shrinking_is_pruning(model):
    narrow = (2, 2, 4, 8)
    expected = prune(model, narrow).state_dict()
    for name, tensor in shrink(model, narrow, 4).state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=0, rtol=0)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_a_regrouped_network_looks_as_far_ahead(groups):
    assert shrink(Cruse((4, 8, 16), 4, look_ahead=2), (4, 8, 16), groups).look_ahead == 2


def test_joined_groups_lose_different_numbers_of_channels(model, heard):
    """The channels of one of four groups are made faint: pruning after joining removes just them."""
    with torch.no_grad():
        for tensor in (model.encoders[3].weight, model.skips[3].weight, model.decoders[3].weight):
            tensor[4:8] *= 1e-3
        model.skips[3].weight[:, 4:8] *= 1e-3
        model.gru.weight_ih[1] *= 1e-3
        model.gru.weight_hh[1] *= 1e-3
    small = shrink(model, (2, 3, 4, 12), 1)
    assert (small.widths, small.groups) == ((2, 3, 4, 12), 1)
    kept = [*range(4), *range(8, 16)]
    assert keep_sets(regroup(model, 1), (2, 3, 4, 12))[-1].tolist() == kept
    keep = [*map(torch.arange, WIDTHS[:-1]), torch.tensor(kept)]
    assert distance(small, mask(regroup(model, 1), (2, 3, 4, 12), keep), heard) < 1e-6


def test_more_groups_come_after_the_pruning(model):
    small = shrink(model, (2, 3, 4, 8), 8)
    assert (small.widths, small.groups, small.gru.size) == ((2, 3, 4, 8), 8, 9)
    kept = keep_sets(model, (2, 3, 4, 8))[-1]
    torch.testing.assert_close(small.encoders[3].bias.sort().values, model.encoders[3].bias[kept].sort().values)


def test_the_given_network_stays_as_it_is(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for groups in (1, 4, 8):
        with torch.no_grad():
            for parameter in regroup(model, groups).parameters():
                parameter.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("groups", [0, 3, 12, 32])
def test_impossible_numbers_of_groups_give_one_line(model, groups):
    with pytest.raises(MisuseError, match=f"4 groups of 4 channels .* {groups} groups"):
        regroup(model, groups)
