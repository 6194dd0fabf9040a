"""Linear attention: a kernel of features instead of softmax, at a cost linear in the number of tokens.

out_i = phi(q_i) sum_j phi(k_j) v_j^T / phi(q_i) sum_j phi(k_j)

Source: Katharopoulos et al., "Transformers are RNNs" (2020).
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Features = Callable[[Tensor], Tensor]


def elu_features(x: Float[Tensor, "b h n d"]) -> Float[Tensor, "b h n d"]:
    """elu(x) + 1, above zero."""
    return F.elu(x) + 1


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
