"""Attention split over key groups, by any kernel: one softmax, its output and mass separated by group."""

import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.partial import Parts, whole
from saccade.ops.dispatch import attend


def attend_parts(call: AttentionCall, want_lse: bool = False, kernel: str | None = None) -> Parts:
    """Run the call; with groups, two launches per group: v with other groups' rows zeroed, and the group's indicator.

    All launches share q, k, mask and bias, hence one softmax: sum_g mass_g out_g is the plain output, with gradients.
    A group that got no mass has out 0. Cost: 2 groups + 1 launches.
    """
    partial = attend(call, kernel=kernel, want_lse=want_lse)
    if call.groups is None:
        return whole(partial)
    chosen = _one_hot(call)  # (g b 1 m 1)
    mass = torch.stack([_mass(call, c, kernel) for c in chosen])
    outs = torch.stack([attend(call.replace(v=call.v * c), kernel=kernel).out for c in chosen])
    return Parts(outs / mass.clamp(min=torch.finfo(mass.dtype).tiny)[..., None], mass, lse=partial.lse)


def _one_hot(call: AttentionCall) -> Tensor:
    assert call.groups is not None
    label, count = call.groups.label, call.groups.count
    one_hot = label[None] == torch.arange(count, device=label.device)[:, None, None]
    return one_hot[:, :, None, :, None].to(call.v.dtype)


def _mass(call: AttentionCall, chosen: Tensor, kernel: str | None) -> Tensor:
    return attend(call.replace(v=chosen.expand_as(call.v).contiguous()), kernel=kernel).out[..., 0]
