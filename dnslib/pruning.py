"""Which network is left: the configuration rule, structured magnitude pruning by slicing, unstructured sparsity.

Source: §3 and §4 of arXiv 2110.04378. ``widths`` are channels per level, first to last.

One keep-set per level ties every tensor that the level's channels run through: encoder l's output, skip l on both
sides, decoder l's input, the next encoder's input and the next decoder's output. The paper does not spell out how the
GRUs follow. Here the last level's keep-set carries over to them: skip 4 adds channel j of the encoder onto channel j
of the GRUs' output, so what the GRUs write for a removed channel would be added to nothing, and no decoder would read
it (the GRU itself would, one frame later: that memory is what this choice gives up). The GRUs therefore lose the same
channels on both sides, each channel being as many consecutive units as the level has bins (9 in CRUSE32), and each
unit three rows (reset, update, new), one recurrent column and two times three biases. Every group loses as many
channels as the next, chosen within the group: the groups stay equal in size, keep whole channels and never exchange
them.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from dnslib.errors import MisuseError
from dnslib.model import Cruse

KeepSets = list[torch.Tensor]  # per level, the kept channels in ascending order


def configure(widths: Sequence[int], p: float) -> tuple[int, ...]:
    """The configuration rule (§4) for pruning ratio ``p`` of the last level, for any number of levels.

    The last width shrinks to (1 - p) times itself; then, from the right, a width larger than its right neighbour is
    lowered to it: ``configure((32, 64, 128, 256), 0.625) == (32, 64, 96, 96)``.
    """
    if not 0 <= p < 1:
        raise MisuseError(f"The pruning ratio must lie in [0, 1), not {p}.")
    shrunk = [*widths[:-1], round((1 - p) * widths[-1])]
    if shrunk[-1] < 1:
        raise MisuseError(f"A pruning ratio of {p} leaves no channel of {widths[-1]}.")
    for level in reversed(range(len(shrunk) - 1)):
        shrunk[level] = min(shrunk[level], shrunk[level + 1])
    return tuple(shrunk)


def importance(model: Cruse) -> list[torch.Tensor]:
    """Per level, the magnitude of each channel, ``(c_l,)``: the summed L2 norms of its slices in all tied tensors.

    The sum over tensors makes one keep-set maximise the criterion of §4 for all of them together.
    """
    scores = []
    for level in range(len(model.widths)):
        total = torch.zeros(model.widths[level])
        for tensor, dimension in _tied(model, level):
            if tensor.dim() == 1:
                continue  # a bias goes with its channel but is no weight tensor of the criterion
            total += tensor.detach().transpose(0, dimension).reshape(len(total), -1).norm(dim=1).cpu()
        scores.append(total)
    scores[-1] += _gru_importance(model)
    return scores


def keep_sets(model: Cruse, widths: Sequence[int]) -> KeepSets:
    """The channels that `prune` keeps at each level: the most important ones, in the last level group by group."""
    _check_fits(model, widths)
    scores = importance(model)
    sets = [_top(score, width) for score, width in zip(scores[:-1], widths, strict=False)]
    by_group = scores[-1].view(model.groups, -1)
    group_width = by_group.shape[1]
    kept = [_top(score, widths[-1] // model.groups) + g * group_width for g, score in enumerate(by_group)]
    return [*sets, torch.cat(kept)]


def prune(model: Cruse, widths: Sequence[int], keep: KeepSets | None = None) -> Cruse:
    """A dense, smaller Cruse of ``widths``, its weights sliced from ``model`` (which is left as it is).

    Raises MisuseError where ``widths`` is not a narrower version of the model's. ``keep`` overrides the channels.
    """
    keep = keep_sets(model, widths) if keep is None else keep
    small = Cruse(widths, model.groups, model.look_ahead)
    units, gates = _gru_units(model, keep[-1])
    none = torch.tensor([0])  # the single input and output channel of the whole network
    with torch.no_grad():
        for level in range(len(keep)):
            outer, inner = keep[level - 1] if level else none, keep[level]
            _slice(small.encoders[level], model.encoders[level], inner, outer)
            _slice(small.skips[level], model.skips[level], inner, inner)
            # a transposed convolution stores (inputs, outputs): its inputs are this level, its outputs the outer one
            _slice(small.decoders[level], model.decoders[level], inner, outer, bias_of=outer)
        for g in range(model.groups):
            for name in ("weight_ih", "weight_hh"):
                getattr(small.gru, name)[g] = getattr(model.gru, name)[g][gates[g]][:, units[g]]
            for name in ("bias_ih", "bias_hh"):
                getattr(small.gru, name)[g] = getattr(model.gru, name)[g][gates[g]]
    return small.to(next(model.parameters()).device)


def mask(model: Cruse, widths: Sequence[int], keep: KeepSets | None = None) -> Cruse:
    """The full-size network with the same channels set to zero: it computes what `prune`'s small one computes.

    A zeroed channel stays zero through leaky ReLU, and a hidden unit with zero weights and biases stays at its
    initial zero: n = tanh(0) = 0 and h' = (1 - z) 0 + z 0.
    """
    keep = keep_sets(model, widths) if keep is None else keep
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for level, kept in enumerate(keep):
            removed = torch.ones(model.widths[level], dtype=torch.bool)
            removed[kept] = False
            for tensor, dimension in _tied(masked, level):
                tensor.transpose(0, dimension)[removed] = 0
        units, gates = _gru_units(model, keep[-1])
        for name, parameter in masked.gru.named_parameters():
            kept_entries = torch.zeros_like(parameter)
            for g in range(model.groups):
                rows = kept_entries[g]
                if name.startswith("weight"):
                    rows[gates[g][:, None], units[g]] = 1
                else:
                    rows[gates[g]] = 1
            parameter *= kept_entries
    return masked


def sparsify(model: Cruse, fraction: float) -> Cruse:
    """A copy whose smallest individual GRU weights are zero, ``fraction`` of them, over all GRUs together (§5.2).

    Shapes stay; biases and convolutions are not touched ("Frac GRU" of Tables 7 and 8).
    """
    if not 0 <= fraction < 1:
        raise MisuseError(f"The sparsity must lie in [0, 1), not {fraction}.")
    sparse = copy.deepcopy(model)
    weights = gru_weights(sparse)
    magnitudes = torch.cat([weight.detach().abs().flatten().cpu() for weight in weights])
    drop = torch.from_numpy(_smallest(magnitudes.numpy(), round(fraction * magnitudes.numel())))
    with torch.no_grad():
        for weight, dropped in zip(weights, drop.split([weight.numel() for weight in weights]), strict=True):
            weight[dropped.view_as(weight)] = 0
    return sparse


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Which values are the ``count`` smallest, (N,) of bool; among equal ones the first. Faster than sorting all."""
    if count == 0:
        return np.zeros(values.size, bool)
    largest = np.partition(values, count - 1)[count - 1]
    chosen = values < largest
    chosen[np.flatnonzero(values == largest)[: count - np.count_nonzero(chosen)]] = True
    return chosen


def gru_weights(model: Cruse) -> list[torch.nn.Parameter]:
    """The two weight tensors of the parallel GRUs, without biases."""
    return [model.gru.weight_ih, model.gru.weight_hh]


def sparsity(model: Cruse) -> float:
    """Share of zeros among the GRU weights."""
    weights = gru_weights(model)
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def _tied(model: Cruse, level: int) -> list[tuple[torch.Tensor, int]]:
    """Every convolution tensor that has the channels of ``level``, with the dimension they lie on."""
    encoder, skip, decoder = model.encoders[level], model.skips[level], model.decoders[level]
    tied = [(encoder.weight, 0), (encoder.bias, 0), (skip.weight, 0), (skip.weight, 1), (skip.bias, 0)]
    tied.append((decoder.weight, 0))
    if level + 1 < len(model.widths):
        inner_encoder, inner_decoder = model.encoders[level + 1], model.decoders[level + 1]
        tied += [(inner_encoder.weight, 1), (inner_decoder.weight, 1), (inner_decoder.bias, 0)]
    return tied


def _gru_importance(model: Cruse) -> torch.Tensor:
    """Summed slice norms of the last level's channels in the GRUs: rows and columns of both weights, ``(c_last,)``."""
    total = torch.zeros(model.widths[-1])
    channels = model.widths[-1] // model.groups
    for weight in gru_weights(model):
        by_channel = weight.detach().unflatten(2, (channels, -1)).unflatten(1, (3, channels, -1))
        # (P, 3 gates, channel, bin, channel, bin)
        squares = by_channel.square().cpu()
        total += squares.sum((1, 3, 4, 5)).sqrt().flatten()  # hidden units of the channel
        total += squares.sum((1, 2, 3, 5)).sqrt().flatten()  # inputs, or recurrent inputs, of the channel
    return total


def _gru_units(model: Cruse, kept: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Per group, the units of the kept channels, and the same units as rows of the three stacked gates."""
    channels = model.widths[-1] // model.groups
    bins = model.gru.size // channels
    units, gates = [], []
    for g in range(model.groups):
        own = kept[(kept >= g * channels) & (kept < (g + 1) * channels)] - g * channels
        unit = (own[:, None] * bins + torch.arange(bins)).flatten()
        units.append(unit)
        gates.append(torch.cat([gate * model.gru.size + unit for gate in range(3)]))
    return units, gates


def _slice(small, large, first: torch.Tensor, second: torch.Tensor, bias_of: torch.Tensor | None = None) -> None:
    """Copy the coordinates (first, second) of the weight's two channel dimensions, and the bias of the outputs."""
    small.weight.copy_(large.weight[first][:, second])
    small.bias.copy_(large.bias[first if bias_of is None else bias_of])


def _top(scores: torch.Tensor, count: int) -> torch.Tensor:
    return scores.topk(count).indices.sort().values


def _check_fits(model: Cruse, widths: Sequence[int]) -> None:
    if np.ndim(widths) != 1:
        raise MisuseError(
            f"Widths are a channel count a level, as in CONFIGURATIONS or by `configure`, not {widths!r}."
        )
    if len(widths) != len(model.widths):
        raise MisuseError(f"{tuple(widths)} has {len(widths)} levels, the network {len(model.widths)}.")
    if any(not 1 <= new <= old for new, old in zip(widths, model.widths, strict=True)):
        raise MisuseError(f"{tuple(widths)} is not a narrower version of the network's {model.widths}.")
    if widths[-1] % model.groups:
        below = widths[-1] - widths[-1] % model.groups
        raise MisuseError(
            f"The last width, {widths[-1]}, cannot be split into {model.groups} equal groups; "
            f"{below or below + model.groups} can."
        )
