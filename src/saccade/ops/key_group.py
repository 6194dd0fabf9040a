"""Attention of some queries over some keys alone, with the lse by which it is weighed within a whole softmax.

The whole output is sum_g exp(lse_g - lse) out_g over groups g that cover the keys, so a group's own part is read off
without a map: one fused launch of r x c pairs, or, under masks and biases, scores held a run of queries at a time.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.partial import Partial
from saccade.ops.columns import HELD, key_scores
from saccade.ops.dispatch import attend
from saccade.ops.split_mask import conjuncts, key_padding

Places = slice | Int[Tensor, " _"]  # tokens of a sequence


def over_keys(call: AttentionCall, queries: Places, keys: Places) -> Partial:
    """`out` (b h r dv) of r queries normalised over c keys alone, and the log of their summed exp scores.

    Mask and bias of the call hold. A query that sees none of these keys gets out 0 and lse -inf.
    Cost: 2 b h r c (d + dv) FLOPs; under a mask or bias, at most `columns.HELD` scores at once.
    """
    padded_alone = all(isinstance(mask, KeyPadding) for mask in conjuncts(call.mask))
    return _fused(call, queries, keys) if call.bias is None and padded_alone else _in_runs(call, queries, keys)


def share(part: Partial, lse: Float[Tensor, "b h r"]) -> Float[Tensor, "b h r"]:
    """The share of the whole softmax, whose lse is given, that fell on a group; 0 where nothing is seen.

    Raises ValueError for a partial without lse.
    """
    if part.lse is None:
        raise ValueError("a group's share needs its lse; ask the kernel with want_lse=True")
    return torch.where(part.lse == -torch.inf, 0.0, torch.exp(part.lse - lse))


def put_rows(x: Float[Tensor, "b h n d"], rows: Places, new: Float[Tensor, "b h r d"]) -> Float[Tensor, "b h n d"]:
    """x with these rows replaced; the others to the bit."""
    if isinstance(rows, slice):
        return torch.cat((x[:, :, : rows.start], new, x[:, :, rows.stop :]), dim=2)
    return x.index_copy(2, rows, new)


def _fused(call: AttentionCall, queries: Places, keys: Places) -> Partial:
    q, k, v = call.q[:, :, queries], call.k[:, :, keys], call.v[:, :, keys]
    keep = key_padding(call.mask, call.k.shape[2])
    part = call.replace(
        q=q, k=k, v=v, layout_q=Layout.plain(q.shape[2]), layout_k=Layout.plain(k.shape[2]), groups=None,
        mask=None if keep is None else KeyPadding(keep[:, keys]),
    )  # fmt: skip
    found = attend(part, want_lse=True)
    if keep is None or found.lse is None:
        return found
    return Partial(found.out.masked_fill((found.lse == -torch.inf)[..., None], 0.0), found.lse)


def _in_runs(call: AttentionCall, queries: Places, keys: Places) -> Partial:
    """Scores written out: for masks and biases that have no part for these tokens alone."""
    rows, columns = _numbers(queries, call.q), _numbers(keys, call.q)[None]
    v = call.v[:, :, keys].repeat_interleave(call.q.shape[1] // call.v.shape[1], dim=1)
    step = max(HELD // (call.q.shape[0] * call.q.shape[1] * columns.shape[1]), 1)
    outs, lses = [], []
    for run in rows.split(step):
        scores = key_scores(call, columns, run[None])
        lse = torch.logsumexp(scores, dim=-1)
        shares = torch.exp(scores - lse[..., None]).masked_fill(lse[..., None] == -torch.inf, 0.0)
        outs.append(shares.to(v.dtype) @ v)
        lses.append(lse)
    return Partial(torch.cat(outs, dim=2), torch.cat(lses, dim=2))


def _numbers(places: Places, like: Tensor) -> Int[Tensor, " c"]:
    return torch.arange(places.start, places.stop, device=like.device) if isinstance(places, slice) else places
