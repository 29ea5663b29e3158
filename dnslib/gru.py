"""P disconnected GRUs side by side, as one batched recurrence with its own backward pass.

Shapes: input and output are (B, T, P H); group g owns features [g H, (g + 1) H). Weights carry the group in front:
(P, 3 H, H), gates stacked as in `torch.nn.GRU`: reset, update, new.

Why not ``torch.nn.GRU``: on a CPU its backward pass multiplies one small outer product per frame for the gradient of
the weights. Here the frames' gate gradients are kept and multiplied once at the end, all groups in one batched
product, in bfloat16 where autocast asks for it. Results are the same to rounding (tested against ``torch.nn.GRU``).
On a GPU cuDNN does it.
"""

import math

import torch
from torch import nn


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
        return hidden.permute(2, 0, 1, 3).reshape(batch, frames, self.groups * self.size)


def library_recurrence(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """The same by the library's GRU, one call a group: x (P, T, B, H) -> hidden (T, P, B, H), in x's type.

    On a GPU that call is cuDNN's, which runs all frames in one kernel; a loop over frames would launch thousands.
    """
    with torch.autocast(x.device.type, enabled=False):
        start = x.new_zeros(1, x.shape[2], x.shape[3])
        outputs = []
        for group, frames in enumerate(x):
            weights = [part[group].to(x.dtype) for part in (weight_ih, weight_hh, bias_ih, bias_hh)]
            # has biases, one layer, no dropout, training, one direction, frames first
            outputs.append(torch._VF.gru(frames, start, weights, True, 1, 0.0, True, False, False)[0])
        return torch.stack(outputs, dim=1)


class _Recurrence(torch.autograd.Function):
    """x (P, T, B, H) -> hidden (T, P, B, H), from a zero state. Products in x's type, the state in float32."""

    @staticmethod
    def forward(ctx, x, weight_ih, weight_hh, bias_ih, bias_hh):
        groups, frames, batch, size = x.shape
        with torch.autocast(x.device.type, enabled=False):
            w_ih, w_hh, b_ih, b_hh = (w.to(x.dtype) for w in (weight_ih, weight_hh, bias_ih, bias_hh))
            bias = torch.cat((b_ih[:, : 2 * size] + b_hh[:, : 2 * size], b_ih[:, 2 * size :]), dim=1)
            from_input = torch.baddbmm(bias[:, None], x.flatten(1, 2), w_ih.transpose(1, 2))
            from_input = from_input.view(groups, frames, batch, 3 * size)
            gates = x.new_empty(frames, groups, batch, 3 * size)  # reset, update, the state's part of new
            new = x.new_empty(frames, groups, batch, size)
            hidden = x.new_empty((frames + 1, groups, batch, size), dtype=torch.float32)
            rounded = hidden if x.dtype == torch.float32 else x.new_empty(hidden.shape)  # the state as products see it
            hidden[0], rounded[0] = 0, 0
            to_gates, b_new = w_hh.transpose(1, 2), b_hh[:, None, 2 * size :]
            for t in range(frames):
                gate = torch.bmm(rounded[t], to_gates, out=gates[t])  # (P, B, 3 H)
                gate[..., : 2 * size].add_(from_input[:, t, :, : 2 * size]).sigmoid_()
                r, z, from_state = gate.chunk(3, dim=-1)
                from_state.add_(b_new)
                n = torch.addcmul(from_input[:, t, :, 2 * size :], r, from_state, out=new[t]).tanh_()
                torch.addcmul(n, z, hidden[t] - n, out=hidden[t + 1])
                if rounded is not hidden:
                    rounded[t + 1] = hidden[t + 1]
            ctx.save_for_backward(x, w_ih, w_hh, gates, new, hidden, rounded)
        return rounded[1:]

    @staticmethod
    def backward(ctx, grad_output):
        x, w_ih, w_hh, gates, new, hidden, rounded = ctx.saved_tensors
        frames, size = x.shape[1], x.shape[3]
        with torch.autocast(x.device.type, enabled=False):
            # d gate / d state of each frame, all frames at once: one product a frame is left for the loop
            r, z, from_state = gates.chunk(3, dim=-1)
            slopes = x.new_empty(frames, x.shape[0], x.shape[2], 3, size)  # (T, P, B, 3, H)
            slope_r, slope_z, slope_n_state = slopes.unbind(3)
            slope_n = (1 - z) * (1 - new * new)  # of n before its tanh
            torch.mul(slope_n, r, out=slope_n_state)
            torch.mul(slope_n_state * from_state, 1 - r, out=slope_r)
            torch.mul((rounded[:-1] - new) * z, 1 - z, out=slope_z)
            grads = torch.empty_like(new)  # of the state after each frame
            by_gate = torch.empty_like(slopes)
            carried = torch.zeros_like(hidden[0])  # gradient that reaches a state from later frames
            for t in reversed(range(frames)):
                grad = carried.add_(grad_output[t])
                grads[t] = grad
                torch.mul(slopes[t], grads[t].unsqueeze(2), out=by_gate[t])
                through_gates = torch.bmm(by_gate[t].flatten(2), w_hh)
                carried = grad.mul_(z[t]).add_(through_gates)
            flat = by_gate.flatten(3).transpose(0, 1).flatten(1, 2)  # (P, T B, 3 H)
            past = rounded[:-1].transpose(0, 1).flatten(1, 2)  # (P, T B, H)
            grad_w_hh = torch.bmm(flat.transpose(1, 2), past)
            grad_b_hh = flat.sum(1)
            flat[..., 2 * size :] = grads.mul_(slope_n).transpose(0, 1).flatten(1, 2)
            grad_w_ih = torch.bmm(flat.transpose(1, 2), x.flatten(1, 2))
            grad_b_ih = flat.sum(1)
            grad_x = torch.bmm(flat, w_ih).view_as(x)
        return grad_x, grad_w_ih.float(), grad_w_hh.float(), grad_b_ih.float(), grad_b_hh.float()
