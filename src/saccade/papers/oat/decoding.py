"""Scanpaths from a model, object by object: the likeliest next one each time, or sampled."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from saccade.nn.eval_mode import eval_mode
from saccade.papers.oat.model import OAT, there
from saccade.papers.oat.search import Search, special


@torch.no_grad()
def scanpaths(
    model: OAT, search: Search, *, longest: int, sample: bool = False, generator: torch.Generator | None = None
) -> list[Int64[np.ndarray, " n"]]:
    """The objects fixated in each layout, until the search ends or has `longest` fixations, the most trained on.

    sample      draw the next object by its probability; otherwise the likeliest; `Search.repeated` gives several each
    generator   of what is sampled
    The first fixation is always on an object. Raises ValueError for `longest` below 1.
    """
    if longest < 1:
        raise ValueError(f"longest={longest} must be at least 1")
    end, pad, begin = special(search.count)
    sequence = torch.full((len(search.objects), 1), begin, device=search.objects.device)
    with eval_mode(model):
        looks = model.looks(search, decoding=True)
        encoded = model.encode(model.object_tokens(search, looks), search.keep).out
        while sequence.shape[1] <= longest and bool((sequence[:, -1] != pad).any()):
            logits = _next(model, search, sequence, looks, encoded)
            chosen = _sampled(logits, generator) if sample else logits.argmax(-1)
            over = (sequence[:, -1] == end) | (sequence[:, -1] == pad)
            sequence = torch.cat((sequence, torch.where(over, pad, chosen)[:, None]), dim=1)
    return [row[row < end].cpu().numpy() for row in sequence]


def _next(
    model: OAT,
    search: Search,
    sequence: Int64[Tensor, "b t"],
    looks: Float[Tensor, "b n e"],
    encoded: Float[Tensor, "b m d"],
) -> Float[Tensor, "b m"]:
    """Logits of objects and end; at the first step end is not to be had."""
    tokens = model.fixation_tokens(search, sequence, looks)
    keep = sequence != special(search.count).pad
    decoded = model.decode(tokens, encoded, keep, search.keep).out
    logits = model.pointer(decoded[:, -1:], encoded, there(search.keep))[:, 0, : search.count + 1]
    return (
        logits.index_fill(1, logits.new_tensor([search.count]).long(), -torch.inf) if sequence.shape[1] == 1 else logits
    )


def _sampled(logits: Float[Tensor, "b m"], generator: torch.Generator | None) -> Int64[Tensor, " b"]:
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
