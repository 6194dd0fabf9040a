"""Linear attention: a kernel of features instead of softmax, at a cost linear in the number of tokens.

out_i = phi(q_i) sum_j phi(k_j) v_j^T / phi(q_i) sum_j phi(k_j)

Focused features keep a vector's length and push its direction to the dominant axes:
phi_g(z) = z+^g |z+| / |z+^g|, with z+ = relu(z); g = 1 is relu.

Sources: Katharopoulos et al., "Transformers are RNNs" (2020); Han et al., "FLatten Transformer" (2023).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Features = Callable[[Tensor], Tensor]
TINY = 1e-6


def elu_features(x: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h n d"]:
    """elu(x) + 1, above zero."""
    return F.elu(x) + 1


def relu_features(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """relu(x), a little above zero."""
    return F.relu(x) + TINY


def focused_features(x: Float[Tensor, "*n d"], exponent: Float[Tensor, "*n 1"] | float) -> Float[Tensor, "*n d"]:
    """phi_g of relu(x), in single precision at least; `exponent`: g, from 1 up, one or one for each vector."""
    fine = relu_features(x.to(torch.promote_types(x.dtype, torch.float32)))
    top = fine.amax(-1, keepdim=True)  # powers of shares of the largest: they neither overflow nor all vanish
    share = fine / top
    power = share**exponent
    return (top * power * (share.norm(dim=-1, keepdim=True) / power.norm(dim=-1, keepdim=True))).to(x.dtype)


def linear(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b hk m d"],
    v: Float[Tensor, "b hk m e"],
    features: Features = elu_features,
) -> Float[Tensor, "b h n e"]:
    """Every query over every key; `features` must give values of at least 0, not all of them 0."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (features(k), v))
    q = features(q)
    return q @ (k.mT @ v) / (q @ k.sum(2)[..., None])


def normalised(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b h m d"],
    v: Float[Tensor, "b h m e"],
    *,
    below: tuple[Tensor, Tensor] | None = None,
    count: Float[Tensor, "b 1 1 1"] | None = None,
) -> Float[Tensor, "b h n e"]:
    """q (k^T v / m) over a row's mean weight, plus 1e-6; the map of all pairs is never made.

    `below`: other features (q, k) whose mean weights divide. `count`: how many of the m keys are there; the k of the
    others must be zero.
    """
    number = k.shape[2] if count is None else count
    over_q, over_k = below or (q, k)
    return q @ (k.mT @ v / number) / (over_q @ (over_k.sum(2, keepdim=True) / number).mT + TINY)
