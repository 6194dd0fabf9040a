"""Inside a host's call: the bias of every key from its values, and a mask of the keys that each query keeps."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.core.biases import PerKey
from saccade.core.call import AttentionCall
from saccade.core.masks import KeyPadding
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.places import Causal
from saccade.core.state import Memory
from saccade.ops.split_mask import conjuncts, key_padding, split_mask, token_map
from saccade.papers.dma.attention import Choice
from saccade.papers.dma.kept_keys import KeptKeys
from saccade.papers.dma.lifetimes import key_lifetimes
from saccade.seam.host_mask import HostMask


@dataclass(frozen=True, eq=False)
class BestKeys(Mechanism):
    """Keeps the `window` best keys of those the call lets a query see, its mask and all other systems' included.

    scores   from values (b g m d) to a bias (b g m); None: all keys alike, the latest ones are kept
    """

    window: int
    scores: nn.Module | None = None

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        b, g, m, _ = call.v.shape
        ratio = call.q.shape[1] // g
        bias = call.v.new_zeros(b, g, m) if self.scores is None else self.scores(call.v)
        added = None if self.scores is None else PerKey(bias.repeat_interleave(ratio, dim=1))
        if m <= self.window:
            return Pairs(bias=added)
        if _plain(call):
            keep = key_padding(call.mask, m)
            n, keep = call.q.shape[2], None if keep is None else keep[:, None]
            return Pairs(
                mask=KeptKeys(key_lifetimes(bias.detach(), self.window, queries=n, keep=keep), ratio), bias=added
            )
        kept = _map(call, bias, self.window)
        return Pairs(
            mask=HostMask(kept.repeat_interleave(ratio, dim=1).expand(-1, -1, call.q.shape[2], -1)), bias=added
        )


def _plain(call: AttentionCall) -> bool:
    """Whether the call's mask is causal order up to the last key, and padding, and no more."""
    if torch.compiler.is_compiling():
        return False
    n, m = call.q.shape[2], call.k.shape[2]
    orders = [mask for mask in conjuncts(call.mask) if not isinstance(mask, KeyPadding)]
    ends = all(isinstance(mask, Causal) and mask.keys in (None, m) and mask.ahead in (None, m - n) for mask in orders)
    return ends and (n == 1 or bool(orders))


def _map(call: AttentionCall, bias: Float[Tensor, "b g m"], window: int) -> Bool[Tensor, "b g #n m"]:
    """The keys kept of those the mask lets pass; all for a query that would have none, which the mask closes."""
    m, seen = call.k.shape[2], split_mask(call)
    visible, keep = token_map(call, seen), key_padding(call.mask, m)
    if keep is not None:
        visible = keep[:, None, None] if visible is None else visible & keep[:, None, None]
    if visible is not None and visible.shape[1] > 1:
        visible = visible.unflatten(1, (bias.shape[1], -1)).any(2)  # keys that some query head of the group may see
    kept = Choice(window=window, causal=False).map(bias.detach()[:, :, None], call.q.shape[2], visible)
    return (kept | ~kept.any(-1, keepdim=True)).expand(*bias.shape[:2], -1, -1)
