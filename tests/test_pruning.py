"""Pruning: the rule on published widths, channels chosen as by brute force, masked = sliced, sparsity counted."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import biased

from dnslib.errors import MisuseError
from dnslib.model import Cruse, parameter_count
from dnslib.paper import CONFIGURATIONS, PRUNED
from dnslib.pruning import configure, gru_weights, importance, keep_sets, mask, prune, sparsify, sparsity
from dnslib.stft import BINS

FULL = CONFIGURATIONS["CRUSE32"]


def network(widths=(3, 4, 6, 8), groups=2, seed=0) -> Cruse:
    torch.manual_seed(seed)
    return biased(Cruse(widths, groups)).eval()


def silent(widths, groups) -> Cruse:
    """All parameters zero."""
    model = Cruse(widths, groups)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def same_parameters(a: Cruse, b: Cruse) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def full() -> Cruse:
    return network(FULL, groups=4)


@pytest.fixture(scope="module")
def full_output(full) -> torch.Tensor:
    return output_of(full)


# --- the configuration rule -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRUNED)
def test_the_rule_gives_the_published_configurations(name):
    assert configure(FULL, float(name.removeprefix("P"))) == CONFIGURATIONS[name]


@pytest.mark.parametrize(
    ("widths", "p", "expected"),
    [
        ((10, 20), 0.25, (10, 15)),
        ((10, 20), 0.75, (5, 5)),
        ((8, 16, 24), 0.5, (8, 12, 12)),
        ((8, 16, 24, 32, 40), 0.7, (8, 12, 12, 12, 12)),
        ((64,), 0.125, (56,)),
        ((50,), 0.9, (5,)),  # (1 - 0.9) * 50 is 4.999… in floating point
        ((30, 20, 10), 0.0, (10, 10, 10)),  # monotony alone
        ((5, 9, 7, 100), 0.5, (5, 7, 7, 50)),
    ],
)
def test_the_rule_by_hand_for_other_depths(widths, p, expected):
    assert configure(widths, p) == expected


def test_the_rule_never_narrows_inwards_never_widens_and_more_pruning_leaves_less():
    rng = np.random.default_rng(0)
    for _ in range(200):
        widths = tuple(rng.integers(20, 300, size=rng.integers(1, 7)).tolist())
        little, much = (configure(widths, p) for p in sorted(rng.uniform(0, 0.9, 2)))
        for pruned in (little, much):
            assert list(pruned) == sorted(pruned)
            assert all(new <= old for new, old in zip(pruned, widths, strict=True))
            assert configure(pruned, 0) == pruned
        assert all(less <= more for less, more in zip(much, little, strict=True))


@pytest.mark.parametrize(
    ("widths", "p", "words"),
    [((8, 8), 1.0, "1.0"), ((8, 8), -0.1, "-0.1"), ((8, 8), math.nan, "nan"), ((2,), 0.9, "2")],
)
def test_a_ratio_out_of_range_is_refused(widths, p, words):
    with pytest.raises(MisuseError) as caught:
        configure(widths, p)
    assert words in str(caught.value)


# --- which channels are kept ----------------------------------------------------------------------------------------


def test_importance_of_one_tensor_at_a_time_by_mental_arithmetic():
    """Weights of channel j equal j: a slice of n of them has the norm j √n."""
    ramp = torch.arange(4.0)
    for place, expected in {
        "encoders.0.weight": [math.sqrt(6), 0],  # (4, 1, 2, 3): six weights a channel, of level 0
        "encoders.0.bias": [0, 0],  # a bias is no weight tensor of the criterion
        "skips.0.bias": [0, 0],
        "decoders.0.weight": [math.sqrt(6), 0],
        "encoders.1.weight": [None, math.sqrt(24)],
        "encoders.1.bias": [0, 0],
        "skips.1.bias": [0, 0],
        "decoders.1.weight": [None, math.sqrt(24)],
        "decoders.1.bias": [0, 0],
    }.items():
        model = silent((4, 4), groups=2)
        parameter = model.get_parameter(place)
        with torch.no_grad():
            parameter.copy_(ramp.view(-1, *[1] * (parameter.dim() - 1)).expand_as(parameter))
        scores = importance(model)
        for level, factor in enumerate(expected):
            if factor is not None:
                torch.testing.assert_close(scores[level], factor * ramp, msg=f"{place}, level {level}")
        if expected[0] is None:  # the other side of the tensor: every outer channel sees 0, 1, 2, 3, six times each
            torch.testing.assert_close(scores[0], torch.full((4,), math.sqrt(6 * (0 + 1 + 4 + 9))))


def test_importance_of_single_weights_of_skips_and_gru():
    """A single weight v between two channels counts v for each; within one channel twice."""
    model = silent((4, 4), groups=2)  # a GRU a group, of 2 channels x 39 bins
    bins, size = 39, 78
    with torch.no_grad():
        model.skips[0].weight[1, 2] = 3
        model.skips[0].weight[3, 3] = 5
        model.gru.weight_ih[0, 0 * size + 4, bins + 7] = 2  # reset gate: channel 0 hears channel 1, in group 0
        model.gru.weight_hh[1, 2 * size + bins, bins + 38] = -7  # new gate: channel 3 hears itself, in group 1
    first, last = importance(model)
    assert first.tolist() == [0, 3, 3, 10]
    assert last.tolist() == [2, 2, 0, 14]


def slices_of(model: Cruse, level: int) -> list[np.ndarray]:
    """Every weight that channels of a level run through, written down from the paper: channels first."""
    tensors = {name: value.double().numpy() for name, value in model.state_dict().items()}
    encoder, skip, decoder = (tensors[f"{kind}.{level}.weight"] for kind in ("encoders", "skips", "decoders"))
    slices = [encoder, skip, skip.swapaxes(0, 1), decoder]  # a transposed convolution has its inputs first
    if level + 1 < len(model.widths):
        return slices + [tensors[f"{kind}.{level + 1}.weight"].swapaxes(0, 1) for kind in ("encoders", "decoders")]
    for name in ("weight_ih", "weight_hh"):  # a channel of a group: its units in three gates, and its columns
        channels = model.widths[level] // model.groups
        by_channel = tensors[f"gru.{name}"].reshape(model.groups, 3, channels, -1, channels, model.gru.size // channels)
        slices.append(by_channel.transpose(0, 2, 1, 3, 4, 5).reshape(model.groups * channels, -1))
        slices.append(by_channel.transpose(0, 4, 1, 2, 3, 5).reshape(model.groups * channels, -1))
    return slices


def norms_of(model: Cruse, level: int) -> np.ndarray:
    """‖W_i^j‖ of §4, (tensors, channels)."""
    return np.array([[np.linalg.norm(part.ravel()) for part in tensor] for tensor in slices_of(model, level)])


@pytest.mark.parametrize(
    ("widths", "groups", "left"), [((4, 6), 2, (2, 4)), ((3, 5, 6), 3, (1, 4, 3)), ((6,), 1, (4,))]
)
def test_no_other_choice_of_channels_has_larger_norms(widths, groups, left):
    """Brute force over all subsets; in the last level over all that take the same number from every group."""
    model = network(widths, groups, seed=3)
    kept = keep_sets(model, left)
    for level in range(len(widths) - 1):
        norms = norms_of(model, level)
        best = max(itertools.combinations(range(widths[level]), left[level]), key=lambda js: norms[:, js].sum())
        assert tuple(kept[level].tolist()) == best
    norms, size = norms_of(model, len(widths) - 1), widths[-1] // groups
    choices = [itertools.combinations(range(g * size, (g + 1) * size), left[-1] // groups) for g in range(groups)]
    best = max((sum(parts, ()) for parts in itertools.product(*choices)), key=lambda js: norms[:, js].sum())
    assert tuple(kept[-1].tolist()) == best


def test_kept_channels_are_nested_and_groups_stay_equal(full):
    larger = [range(width) for width in FULL]
    for name in PRUNED:
        widths = CONFIGURATIONS[name]
        kept = keep_sets(full, widths)
        assert [len(channels) for channels in kept] == list(widths)
        assert all(set(less.tolist()) <= set(more) for less, more in zip(kept, larger, strict=True))
        assert torch.bincount(kept[-1] // 64).tolist() == [widths[-1] // 4] * 4  # 256 channels in four groups
        larger = [channels.tolist() for channels in kept]


# --- masked = sliced ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PRUNED, "CRUSE16"])
def test_the_sliced_network_computes_what_the_masked_one_does(full, full_output, name):
    widths = CONFIGURATIONS[name]
    keep = keep_sets(full, widths)
    small, masked = prune(full, widths, keep), mask(full, widths, keep)
    assert (small.widths, masked.widths) == (widths, FULL)
    assert parameter_count(small) < parameter_count(masked)
    assert_same_output(small, masked, full_output)


@pytest.mark.parametrize(
    ("widths", "groups", "left"),
    [
        ((8,), 4, (4,)),
        ((5, 6), 1, (2, 3)),
        ((3, 5, 6), 3, (3, 2, 3)),
        ((3, 4, 6, 8), 2, (1, 1, 1, 2)),
        ((4, 4, 6, 6, 9), 3, (2, 3, 3, 6, 6)),
        ((2, 3, 4, 5, 6, 8), 8, (1, 2, 3, 4, 5, 8)),
    ],
)
def test_masked_and_sliced_agree_at_other_depths_and_groups(widths, groups, left):
    model = network(widths, groups, seed=1)
    assert_same_output(prune(model, left), mask(model, left), output_of(model))


def test_masked_and_sliced_agree_for_channels_chosen_otherwise():
    model = network()
    keep = [torch.tensor([2]), torch.tensor([0, 3]), torch.tensor([1, 2, 5]), torch.tensor([0, 1, 6, 7])]
    assert_same_output(prune(model, (1, 2, 3, 4), keep), mask(model, (1, 2, 3, 4), keep), output_of(model))


def output_of(model: Cruse) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.randn(1, 1, 4, BINS, generator=torch.Generator().manual_seed(2)))


def assert_same_output(small: Cruse, masked: Cruse, whole: torch.Tensor) -> None:
    expected = output_of(masked)
    torch.testing.assert_close(output_of(small), expected, atol=1e-5, rtol=0)
    assert (whole - expected).abs().max() > 1e-4  # something was removed


# --- slicing --------------------------------------------------------------------------------------------------------


def test_pruning_to_its_own_widths_changes_nothing():
    model = network()
    assert same_parameters(prune(model, model.widths), model)


def test_a_pruned_network_looks_as_far_ahead():
    model = Cruse((4, 8), 2, look_ahead=3)
    assert prune(model, (2, 4)).look_ahead == 3


def test_pruning_twice_is_pruning_once_where_the_same_channels_are_chosen():
    model = network((4, 6), 2)
    once = keep_sets(model, (2, 4))
    twice = prune(prune(model, (4, 6)), (2, 4), once)
    assert same_parameters(twice, prune(model, (2, 4)))


def test_sliced_weights_are_those_of_the_kept_channels():
    """One level of two channels in one group; the second is stronger and stays. Its GRU units are the upper 80."""
    model = network((2,), groups=1)
    with torch.no_grad():
        model.encoders[0].weight[1] += 10
    small = prune(model, (1,))
    assert torch.equal(small.encoders[0].weight, model.encoders[0].weight[1:])
    assert torch.equal(small.skips[0].weight, model.skips[0].weight[1:, 1:])
    assert torch.equal(small.decoders[0].weight, model.decoders[0].weight[1:])
    assert torch.equal(small.encoders[0].bias, model.encoders[0].bias[1:])
    assert torch.equal(small.skips[0].bias, model.skips[0].bias[1:])
    assert torch.equal(small.decoders[0].bias, model.decoders[0].bias)  # of the network's output
    rows = torch.cat([gate * 160 + torch.arange(80, 160) for gate in range(3)])
    assert torch.equal(small.gru.weight_hh[0], model.gru.weight_hh[0, rows, 80:])
    assert torch.equal(small.gru.bias_ih[0], model.gru.bias_ih[0, rows])


def test_the_network_that_is_pruned_stays_as_it_is():
    model, before = network(), network()
    small, masked, sparse = prune(model, (1, 2, 3, 4)), mask(model, (1, 2, 3, 4)), sparsify(model, 0.5)
    with torch.no_grad():
        for changed in (small, masked, sparse):
            for parameter in changed.parameters():
                parameter.add_(1)  # no memory is shared either
    assert same_parameters(model, before)


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ((3, 4, 6), "3 levels"),
        ((3, 4, 6, 10), "narrower"),
        ((0, 4, 6, 8), "narrower"),
        ((3, 4, 6, 7), "2 equal groups; 6 can"),
        ((3, 4, 6, 1), "2 equal groups; 2 can"),
        ("P.500", "a channel count a level"),
        (0.3, "a channel count a level"),
    ],
)
def test_widths_that_do_not_fit_are_refused(widths, words):
    with pytest.raises(MisuseError, match=words):
        prune(network(), widths)


# --- single weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.75, 0.9, 0.999])
def test_exactly_this_share_of_the_gru_weights_is_zero_and_a_threshold_separates_them(fraction):
    model = network()
    sparse = sparsify(model, fraction)
    before, after = (torch.cat([weight.detach().flatten() for weight in gru_weights(m)]) for m in (model, sparse))
    zero = after == 0
    assert len(before) == 2 * 2 * 3 * 36 * 36  # two tensors, two groups of 4 channels x 9 bins, three gates
    assert zero.sum() == round(fraction * len(before))
    assert sparsity(sparse) == zero.sum() / len(before)
    assert torch.equal(after[~zero], before[~zero])
    if fraction:
        assert before[zero].abs().max() <= before[~zero].abs().min()


def test_sparser_networks_have_the_zeros_of_denser_ones():
    model = network()
    zeros = [[weight == 0 for weight in gru_weights(sparsify(model, fraction))] for fraction in (0.2, 0.5, 0.8)]
    for less, more in itertools.pairwise(zeros):
        assert all((a <= b).all() for a, b in zip(less, more, strict=True))
    again = sparsify(sparsify(model, 0.5), 0.5)
    assert same_parameters(again, sparsify(model, 0.5))


def test_sparsity_touches_neither_biases_nor_convolutions():
    model = network()
    before, after = model.state_dict(), sparsify(model, 0.6).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"gru.weight_ih", "gru.weight_hh"}
    assert [value.shape for value in before.values()] == [value.shape for value in after.values()]


def test_one_threshold_serves_all_gru_weights_together():
    model = network()
    with torch.no_grad():
        model.gru.weight_hh.fill_(1.0)  # larger than any first weight
    sparse = sparsify(model, 0.5)
    assert sparse.gru.weight_ih.abs().max() == 0
    assert sparse.gru.weight_hh.min() == 1
    assert sparsity(sparsify(sparse, 0.75)) == 0.75  # exact also among equal weights


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_among_equal_weights_the_first_go_as_a_stable_sort_has_them(fraction):
    model = network()
    with torch.no_grad():
        for weight in gru_weights(model):
            weight.copy_((20 * weight).round())  # a few different values
    magnitudes = np.concatenate([weight.detach().abs().flatten().numpy() for weight in gru_weights(model)])
    first = np.argsort(magnitudes, kind="stable")[: round(fraction * magnitudes.size)]
    after = np.concatenate(
        [weight.detach().abs().flatten().numpy() for weight in gru_weights(sparsify(model, fraction))]
    )
    expected = magnitudes.copy()
    expected[first] = 0
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, math.nan])
def test_a_sparsity_out_of_range_is_refused(fraction):
    with pytest.raises(MisuseError, match="sparsity"):
        sparsify(network(), fraction)
