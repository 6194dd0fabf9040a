"""Text out of a causal language model, token by token."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@torch.no_grad()
def decode(
    model: Callable[..., Any],
    ids: Int[Tensor, "b n"],
    *,
    tokens: int,
    memories: list[Any] | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "b n+{tokens}"]:
    """`ids`, each row followed by `tokens` more.

    model         called as `model(ids)` or `model(new, memories)`; answers with logits as `.out`
    memories      of the model's `fresh_memories()`: every token goes through it once. None: all of them in every step
    temperature   0 takes the likeliest token, 1 draws from the prediction
    Raises ValueError for a number of tokens or a temperature below 0.
    """
    if tokens < 0 or temperature < 0:
        raise ValueError(f"tokens={tokens} and temperature={temperature} must be at least 0")
    new = ids
    for _ in range(tokens):
        logits = model(ids).out if memories is None else model(new, memories).out
        new = _chosen(logits[:, -1], temperature, generator)
        ids = torch.cat((ids, new), dim=1)
    return ids


def _chosen(logits: Float[Tensor, "b v"], temperature: float, generator: torch.Generator | None) -> Int[Tensor, "b 1"]:
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=generator)
