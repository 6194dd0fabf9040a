"""Part of a call: some of its batch rows and heads, with the masks and biases these have.

Everything is taken by plain numbers, so that a graph needs no index tensors and a device is not waited for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import Bias, BiasSum, DenseBias, LowRank, PerKey
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import Device, KeyPadding, Mask, Predicate, Rule
from saccade.ops.operands import terms
from saccade.ops.split_mask import conjuncts

Heads = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Part(Mask):
    """A mask as rows from `first` on, and these heads, have it."""

    mask: Mask
    first: int
    heads: Heads

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        names, permits = self.mask.rule(layout_q, layout_k, device)
        return self._moved(names), self._moved(permits)

    def _moved(self, of: Predicate) -> Predicate:
        def rule(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            own = sum(((h == place) * head for place, head in enumerate(self.heads)), start=torch.zeros_like(h))
            return of(b + self.first, own, q, k)

        return rule


def subset(call: AttentionCall, first: int, heads: Heads) -> AttentionCall:
    """The call of the batch rows from `first` on and these query heads; shared heads of k and v are repeated."""
    shared = tuple(head * call.k.shape[1] // call.q.shape[1] for head in heads)
    return call.replace(
        q=take_heads(call.q[first:], heads),
        k=take_heads(call.k[first:], shared),
        v=take_heads(call.v[first:], shared),
        mask=_some_mask(call.mask, first, heads),
        bias=None if call.bias is None else _some_bias(call.bias, first, heads),
        rows=None,
        host=None,
        groups=None,
    )


def take_heads(x: Float[Tensor, "b h *s"], heads: Heads) -> Float[Tensor, "b c *s"]:
    """These heads, in order."""
    if heads == tuple(range(x.shape[1])):
        return x
    return torch.stack([x[:, head] for head in heads], dim=1)


def put_heads(x: Float[Tensor, "b h *s"], heads: Heads, new: Float[Tensor, "b c *s"]) -> Float[Tensor, "b h *s"]:
    """x with these heads replaced; the others to the bit."""
    columns = list(x.unbind(1))
    for place, head in enumerate(heads):
        columns[head] = new[:, place]
    return torch.stack(columns, dim=1)


def _some_mask(mask: Mask | None, first: int, heads: Heads) -> Mask | None:
    """Padding stays padding, which needs no map."""
    whole: Mask | None = None
    for one in conjuncts(mask):
        padding = isinstance(one, KeyPadding)
        part = KeyPadding(_rows(one.keep, first)) if padding else Part(one, first, heads)
        whole = part if whole is None else whole & part
    return whole


def _some_bias(bias: Bias, first: int, heads: Heads) -> Bias:
    some: Callable[[Tensor], Tensor] = lambda x: _some(x, first, heads)  # noqa: E731
    found: list[Bias] = []
    for term in terms(bias):
        if isinstance(term, LowRank):
            found.append(LowRank(some(term.phi_q), some(term.phi_k)))
        elif isinstance(term, PerKey | DenseBias):
            found.append(replace(term, values=some(term.values)))
        else:
            found.append(term)
    return found[0] if len(found) == 1 else BiasSum(tuple(found))


def _some(x: Tensor, first: int, heads: Heads) -> Tensor:
    x = _rows(x, first)
    return x if x.shape[1] == 1 else take_heads(x, heads)


def _rows(x: Tensor, first: int) -> Tensor:
    return x if x.shape[0] == 1 else x[first:]
