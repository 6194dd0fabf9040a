"""Image queries attend by features instead of softmax: what a trained model loses where its softmax is taken away."""

from dataclasses import dataclass

import torch

from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Partial, Parts, whole
from saccade.core.state import Memory
from saccade.ops.linear import linear


@dataclass(frozen=True, kw_only=True)
class LinearAttention(Mechanism):
    """Linear attention (elu + 1) of image queries over every key; all other queries keep softmax.

    The softmax of the image queries is computed and dropped: this measures a formulation, it saves no time.
    Calls with a mask or a bias are refused, since features know neither.
    """

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        """Replace the output; raises ValueError for a call with a bias or groups."""
        for name in ("mask", "bias"):
            if getattr(call, name) is not None:
                raise ValueError(
                    f"{name}={getattr(call, name)} at site '{call.site.name}' has no meaning in linear attention; "
                    f"leave out what brings the {name}"
                )
        span = call.layout_q.span(call.layout_q.image.name)
        out = linear(call.q[:, :, span], call.k, call.v)
        rest = parts.total
        return whole(Partial(torch.cat((rest[:, :, : span.start], out, rest[:, :, span.stop :]), dim=2)))
