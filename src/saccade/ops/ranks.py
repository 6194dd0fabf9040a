"""Places in an order, the earlier entry first where values tie, so the same operands give the same choice."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def ranks(values: Float[Tensor, "*b n"]) -> Int[Tensor, "*b n"]:
    """0 for the largest of each row, 1 for the next; the earlier one first where they tie."""
    order = values.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(values.shape[-1], device=values.device).expand(order.shape)
    return torch.empty_like(order).scatter_(-1, order, places)
