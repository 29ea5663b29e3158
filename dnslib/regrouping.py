"""Another number of disconnected GRUs for a trained network: fewer exactly, more by cutting the weakest couplings.

P parallel GRUs are one GRU whose weights are zero outside P diagonal blocks. Fewer groups therefore compute the same
function with those zeros written out, and training may then fill them. More groups cannot: what couples channels of
different new groups is lost. As the order of the channels inside a group is free, the half that each channel goes to is
chosen to lose as little as possible: the cut of least squared weight between two halves, by spectral bisection (Fiedler
1973) and exchanges of pairs (Kernighan and Lin 1970).
"""

from collections.abc import Sequence

import numpy as np
import torch

from dnslib.errors import MisuseError
from dnslib.model import Cruse
from dnslib.pruning import gru_weights, prune


def shrink(model: Cruse, widths: Sequence[int], groups: int) -> Cruse:
    """A dense network of ``widths`` with ``groups`` GRUs, its weights from ``model``; `prune` where groups stay.

    What restricts the choice of channels most comes last: fewer groups are made before the pruning, which then chooses
    channels over all that were joined, and more groups after it, among the channels that are left.
    """
    if groups <= model.groups:
        return prune(regroup(model, groups), widths)
    return regroup(prune(model, widths), groups)


def regroup(model: Cruse, groups: int) -> Cruse:
    """``model`` with another number of GRUs; the same function when there are fewer, close to it when there are more.

    Raises MisuseError unless ``groups`` divides the model's, or is twice, four times ... as many and its groups'
    channels can be halved that often.
    """
    if groups < 1 or not (model.groups % groups == 0 or _doublings(model, groups)):
        raise MisuseError(
            f"{model.groups} groups of {model.widths[-1] // model.groups} channels cannot be made into {groups} groups."
        )
    if groups < model.groups:
        return _merged(model, groups)
    while model.groups < groups:
        model = _halved(model)
    return prune(model, model.widths)  # a copy


def coupling(model: Cruse) -> np.ndarray:
    """Squared GRU weights between channels of a group, both ways, ``(P, c, c)``: what a cut between them loses."""
    channels = model.widths[-1] // model.groups
    total = np.zeros((model.groups, channels, channels))
    for weight in gru_weights(model):
        by_channel = weight.detach().cpu().unflatten(2, (channels, -1)).unflatten(1, (3, channels, -1))
        total += by_channel.square().sum((1, 3, 5)).numpy()  # over gates and bins of (P, 3, channel, bin, channel, bin)
    return total + total.transpose(0, 2, 1)


def bisect(weights: np.ndarray) -> np.ndarray:
    """Indices ``(n,)`` whose halves are two sides of the symmetric ``weights (n, n)`` with little weight between them.

    No exchange of one index of each side leaves less between them. ``n`` is even.
    """
    n = len(weights)
    between = weights * (1 - np.eye(n))
    laplacian = np.diag(between.sum(1)) - between
    # the constant vector, always an eigenvector with value 0, is moved out of the way of the second smallest
    vectors = np.linalg.eigh(laplacian + np.trace(laplacian) / n * np.ones((n, n)))[1]
    first = np.zeros(n, dtype=bool)
    first[np.argsort(vectors[:, 0], kind="stable")[: n // 2]] = True
    while True:
        outward = between @ ~first - between @ first  # towards the second side, minus towards the first
        gain = outward[first][:, None] - outward[~first][None, :] - 2 * between[first][:, ~first]
        a, b = np.unravel_index(gain.argmax(), gain.shape)
        if gain[a, b] <= 1e-12 * between.sum():
            return np.concatenate([np.flatnonzero(first), np.flatnonzero(~first)])
        a, b = np.flatnonzero(first)[a], np.flatnonzero(~first)[b]
        first[a], first[b] = False, True


def _doublings(model: Cruse, groups: int) -> bool:
    factor, rest = divmod(groups, model.groups)
    return rest == 0 and factor & (factor - 1) == 0 and model.widths[-1] % groups == 0


@torch.no_grad()
def _merged(model: Cruse, groups: int) -> Cruse:
    merged = Cruse(model.widths, groups, model.look_ahead)
    joined, size = model.groups // groups, model.gru.size
    _copy_convolutions(model, merged)
    for name, parameter in merged.gru.named_parameters():
        parts = getattr(model.gru, name).unflatten(1, (3, size)).unflatten(0, (groups, joined))  # (P', k, 3, H[, H])
        if name.startswith("bias"):
            parameter.copy_(parts.transpose(1, 2).flatten(1))
            continue
        parameter.zero_()
        blocks = parameter.view(groups, 3, joined, size, joined, size)
        for part in range(joined):
            blocks[:, :, part, :, part] = parts[:, part]
    return merged.train(model.training)


@torch.no_grad()
def _halved(model: Cruse) -> Cruse:
    """Twice as many groups: channels reordered inside each group, then the two diagonal blocks of each."""
    channels = model.widths[-1] // model.groups
    order = np.concatenate([bisect(weights) + g * channels for g, weights in enumerate(coupling(model))])
    keep = [torch.arange(width) for width in model.widths[:-1]] + [torch.from_numpy(order)]
    reordered = prune(model, model.widths, keep)  # keeping all in another order changes nothing
    halved = Cruse(model.widths, 2 * model.groups, model.look_ahead)
    half = model.gru.size // 2
    _copy_convolutions(reordered, halved)
    for name, parameter in halved.gru.named_parameters():
        whole = getattr(reordered.gru, name).unflatten(1, (3, 2, half))  # (P, 3, 2, H'[, H])
        if name.startswith("bias"):
            sides = [whole[:, :, side] for side in range(2)]
        else:
            sides = [whole[:, :, side, :, side * half : (side + 1) * half] for side in range(2)]
        parameter.copy_(torch.stack(sides, dim=1).flatten(0, 1).flatten(1, 2))
    return halved.train(model.training)


def _copy_convolutions(source: Cruse, target: Cruse) -> None:
    kept = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("gru.")}
    target.load_state_dict(kept, strict=False)
