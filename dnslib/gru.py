"""P disconnected GRUs side by side, as one batched recurrence with its own backward pass.

Shapes: input and output are (B, T, P H); group g owns features [g H, (g + 1) H). Weights carry the group in front:
(P, 3 H, H), gates stacked as in `torch.nn.GRU`: reset, update, new.

Why not ``torch.nn.GRU``: on a CPU its backward pass multiplies one small outer product per frame for the gradient of
the weights. Here the frames' gate gradients are kept and multiplied once at the end, all groups in one batched
product, in bfloat16 where autocast asks for it. Each core takes whole groups through all frames, with weights that
oneDNN has packed once. Results are the same to rounding (tested against ``torch.nn.GRU``). On a GPU cuDNN does it.
"""

import math
import platform
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor, nn

PACKED_TYPES = (torch.float32, torch.bfloat16)  # oneDNN has no products of doubles


class ParallelGru(nn.Module):
    """``groups`` GRUs of ``size`` inputs and ``size`` hidden units: ``(B, T, groups * size)`` in and out."""

    def __init__(self, groups: int, size: int):
        super().__init__()
        self.groups, self.size = groups, size
        self.weight_ih = nn.Parameter(torch.empty(groups, 3 * size, size))
        self.weight_hh = nn.Parameter(torch.empty(groups, 3 * size, size))
        self.bias_ih = nn.Parameter(torch.empty(groups, 3 * size))
        self.bias_hh = nn.Parameter(torch.empty(groups, 3 * size))
        for parameter in self.parameters():  # as torch.nn.GRU starts
            nn.init.uniform_(parameter, -1 / math.sqrt(size), 1 / math.sqrt(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, frames, _ = x.shape
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        by_group = x.reshape(batch, frames, self.groups, self.size).permute(2, 1, 0, 3)  # (P, T, B, H)
        by_group = by_group.to(dtype).contiguous()
        recurrence = library_recurrence if x.is_cuda else _Recurrence.apply
        hidden = recurrence(by_group, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return hidden.permute(2, 1, 0, 3).reshape(batch, frames, self.groups * self.size)


def library_recurrence(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """The same recurrence by PyTorch's GRU, one call a group: x (P, T, B, H) -> hidden (P, T, B, H), in x's type.

    On a GPU that call is cuDNN's, which runs all frames in one kernel; a loop over frames would launch thousands.
    """
    with torch.autocast(x.device.type, enabled=False):
        start = x.new_zeros(1, x.shape[2], x.shape[3])
        outputs = []
        for group, frames in enumerate(x):
            weights = [part[group].to(x.dtype) for part in (weight_ih, weight_hh, bias_ih, bias_hh)]
            # has biases, one layer, no dropout, training, one direction, frames first
            outputs.append(torch._VF.gru(frames, start, weights, True, 1, 0.0, True, False, False)[0])
        return torch.stack(outputs)


class _Recurrence(torch.autograd.Function):
    """x (P, T, B, H) -> hidden (P, T, B, H), from a zero state. Products in x's type, the state in float32."""

    @staticmethod
    def forward(ctx, x, weight_ih, weight_hh, bias_ih, bias_hh):
        groups, frames, batch, size = x.shape
        with torch.autocast(x.device.type, enabled=False):
            w_ih, w_hh, b_ih, b_hh = (w.to(x.dtype) for w in (weight_ih, weight_hh, bias_ih, bias_hh))
            bias = torch.cat((b_ih[:, : 2 * size] + b_hh[:, : 2 * size], b_ih[:, 2 * size :]), dim=1)
            gates = torch.baddbmm(bias[:, None], x.flatten(1, 2), w_ih.transpose(1, 2))
            gates = gates.view(groups, frames, batch, 3 * size)  # reset, update, new; what the input gives to them
            new = gates[..., 2 * size :].clone()
            gates[..., 2 * size :] = b_hh[:, None, None, 2 * size :]  # from here on the state's part of new
            hidden = torch.cat((x.new_zeros(groups, 1, batch, size), torch.empty_like(x)), dim=1)
            _by_threads(forward_frames, w_hh, gates, new, hidden)
            ctx.save_for_backward(x, w_ih, w_hh, gates, new, hidden)
        return hidden[:, 1:]

    @staticmethod
    def backward(ctx, grad_output):
        x, w_ih, w_hh, gates, new, hidden = ctx.saved_tensors
        size = x.shape[3]
        past = hidden[:, :-1]
        with torch.autocast(x.device.type, enabled=False):
            # d gate / d state of each frame, all frames at once: one product per frame is left for the loop
            r, z, from_state = gates.chunk(3, dim=-1)
            slopes = x.new_empty(*x.shape[:3], 3, size)  # (P, T, B, 3, H)
            slope_r, slope_z, slope_n_state = slopes.unbind(3)
            slope_n = (1 - z) * (1 - new * new)  # of n before its tanh
            torch.mul(slope_n, r, out=slope_n_state)
            torch.mul(slope_n_state * from_state, 1 - r, out=slope_r)
            torch.mul((past - new) * z, 1 - z, out=slope_z)
            grads = torch.empty_like(new)  # of the state after each frame
            by_gate = torch.empty_like(slopes)
            _by_threads(backward_frames, w_hh.transpose(1, 2), grad_output, z, slopes, grads, by_gate)
            flat, past = by_gate.flatten(3).flatten(1, 2), past.flatten(1, 2)  # (P, T B, 3 H), (P, T B, H)
            grad_w_hh = torch.bmm(flat.transpose(1, 2), past)
            grad_b_hh = flat.sum(1)
            flat[..., 2 * size :] = grads.mul_(slope_n).flatten(1, 2)
            grad_w_ih = torch.bmm(flat.transpose(1, 2), x.flatten(1, 2))
            grad_b_ih = flat.sum(1)
            grad_x = torch.bmm(flat, w_ih).view_as(x)
        return grad_x, grad_w_ih.float(), grad_w_hh.float(), grad_b_ih.float(), grad_b_hh.float()


def forward_frames(weights: list[Tensor], packed: bool, gates: Tensor, new: Tensor, hidden: Tensor) -> None:
    """Fill ``gates (G, T, B, 3 H)``, ``new (G, T, B, H)`` and ``hidden (G, T + 1, B, H)`` of G groups frame by frame.

    ``gates`` and ``new`` hold what the inputs and the biases contribute to them; the first frame of ``hidden`` is zero.
    """
    size = new.size(3)
    state = torch.zeros_like(hidden[:, 0], dtype=torch.float32)
    reset_update = gates[..., : 2 * size]
    r, z, from_state = gates.split(size, dim=3)
    for t in range(new.size(1)):
        for g, weight in enumerate(weights):
            gates[g, t].add_(multiply(hidden[g, t], weight, packed))
        reset_update[:, t].sigmoid_()
        n = new[:, t].addcmul_(r[:, t], from_state[:, t]).tanh_()
        torch.addcmul(n, z[:, t], state - n, out=state)
        hidden[:, t + 1] = state


def backward_frames(
    weights: list[Tensor],
    packed: bool,
    grad_output: Tensor,
    z: Tensor,
    slopes: Tensor,
    grads: Tensor,
    by_gate: Tensor,
) -> None:
    """Fill ``grads (G, T, B, H)`` and ``by_gate (G, T, B, 3, H)``, of states and gates, from the last frame on."""
    frames = slopes.size(1)
    grad = torch.zeros_like(grads[:, 0], dtype=torch.float32)  # of a state, from all later frames
    for back in range(frames):
        t = frames - 1 - back
        grad.add_(grad_output[:, t])
        grads[:, t] = grad
        torch.mul(slopes[:, t], grads[:, t].unsqueeze(2), out=by_gate[:, t])
        grad.mul_(z[:, t])
        for g, weight in enumerate(weights):
            grad[g].add_(multiply(by_gate[g, t].flatten(1), weight, packed))


def multiply(rows: Tensor, weight: Tensor, packed: bool) -> Tensor:
    """``rows (B, in)`` by ``weight (out, in)``, which oneDNN may have packed: ``(B, out)``."""
    if packed:
        return torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
    return torch.mm(rows, weight.t())


def _by_threads(frames: Callable, weights: Tensor, *by_group: Tensor) -> None:
    """Call ``frames`` with ``weights (P, out, in)`` and the other arguments, the groups shared out to the threads."""
    compiled = _compiled(frames)
    threads = torch.get_num_threads()
    workers = min(threads, len(weights)) if compiled is not frames else 1
    packed = _packs(weights.dtype)
    matrices = _packed(weights, rows=by_group[0].shape[2]) if packed else list(weights)

    def work(first: int, last: int) -> None:
        torch.set_num_threads(threads // workers)  # of this thread, and of those that start later
        with torch.inference_mode():  # a thread does not inherit that gradients are off
            compiled(matrices[first:last], packed, *(argument[first:last] for argument in by_group))

    bounds = [len(weights) * worker // workers for worker in range(workers + 1)]
    if workers == 1:
        return work(*bounds)
    try:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, bounds[:-1], bounds[1:]))
    finally:
        torch.set_num_threads(threads)


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN takes packed weights of this type here; on processors other than x86 that was not tried."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return x86 and dtype in PACKED_TYPES and torch.backends.mkldnn.is_available()


def _packed(weights: Tensor, rows: int) -> list[Tensor]:
    """Each group's matrix as oneDNN wants it for products of ``rows`` rows, or it would rearrange it every frame."""
    return [torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows) for weight in weights]


@cache
def _compiled(frames: Callable) -> Callable:
    """``frames`` in TorchScript, which runs without Python's lock; unchanged where PyTorch no longer has that."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of being deprecated; torch.compile would need a C++ compiler
            return torch.jit.script(frames)
    except (AttributeError, RuntimeError):
        return frames
