"""KL divergence of two predictions by their logits, never below 0 and exact for near ones.

    KL = sum_c p (e^x - 1 - x),   x = log q - log p

which equals sum_c p log(p / q), since p and q both sum to one; here no large terms cancel, and none is negative.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.nn.classification import Logits, log_probabilities

NEAR = 1.0  # x up to which e^x - 1 - x is taken as it stands


def divergence(p: Logits, q: Logits) -> Float[Tensor, " b"]:
    """KL(p || q) of every row, by logits; classes that neither can be (minus infinity) count nothing.

    Raises ValueError for logits of other shapes than (b), (b 1) or (b c), and for two that differ.
    """
    check_logits(p)
    if p.shape != q.shape:
        raise ValueError(
            f"logits {tuple(p.shape)} and {tuple(q.shape)} are of two shapes; give both for the same classes"
        )
    log_p, log_q = log_probabilities(p), log_probabilities(q)
    possible = ~((log_p == -torch.inf) & (log_q == -torch.inf))
    log_p, log_q = (torch.where(possible, x, 0) for x in (log_p, log_q))
    x, here = log_q - log_p, log_p.exp()
    near = here * (torch.expm1(x.clamp(max=NEAR)) - x)
    return torch.where(possible, torch.where(x <= NEAR, near, log_q.exp() - here * (1 + x)), 0).sum(-1)


def entropy_of(logits: Logits) -> Float[Tensor, " b"]:
    """Of every row's prediction, in nats."""
    log_p = log_probabilities(logits)
    return -(log_p.exp() * torch.where(log_p == -torch.inf, 0, log_p)).sum(-1)


def check_logits(logits: Tensor) -> None:
    """Raise ValueError unless there is one logit a row, or one for each class."""
    if logits.ndim not in (1, 2):
        raise ValueError(f"logits {tuple(logits.shape)} must be (b), (b, 1) or (b, classes); pool tokens before")
