"""How steady a routing is: choices that change between two checkpoints, and how sure they are.

Sources: the measures of "Improving Routing in Sparse Mixture of Experts with Graph of Tokens" (2025).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.nn.routing import Routing


def fluctuation(a: Routing, b: Routing, *, top: int | None = None) -> Float[Tensor, ""]:
    """Share of tokens whose set of choices differs between two checkpoints; `top=1`: whose first choice does.

    Raises ValueError where the two chose among another number, chose another number, or saw other tokens.
    """
    if a.index.shape != b.index.shape or a.probs.shape != b.probs.shape:
        shapes = f"{tuple(a.index.shape)} of {a.probs.shape[-1]} and {tuple(b.index.shape)} of {b.probs.shape[-1]}"
        raise ValueError(f"routings of shapes {shapes} cannot be compared; route the same tokens by like routers")
    sets = (each.index[..., :top].sort(-1).values for each in (a, b))
    return torch.ne(*sets).any(-1).double().mean()


def decision_entropy(routing: Routing) -> Float[Tensor, ""]:
    """Mean entropy of the final probabilities, in nats."""
    return torch.special.entr(routing.probs.double()).sum(-1).mean()


def load_shares(routing: Routing) -> Float[Tensor, " e"]:
    """Share of the choices that fell on each expert."""
    return routing.index.flatten().bincount(minlength=routing.probs.shape[-1]) / routing.index.numel()


def diversity(routing: Routing) -> Float[Tensor, ""]:
    """Experts that a sequence uses, a mean over sequences (b n k): low where one choice is made for all its tokens."""
    used = torch.zeros(len(routing.index), routing.probs.shape[-1], device=routing.index.device)
    return used.scatter(1, routing.index.flatten(1), 1.0).sum(1).mean()
