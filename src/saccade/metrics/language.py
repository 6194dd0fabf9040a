"""How likely a mask predictor finds a finished text, and how far two texts agree. Everything is in nats a token."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

Predictor = Callable[..., Any]


@torch.no_grad()
def pseudo_nll(
    model: Predictor, ids: Int[Tensor, "b n"], *, mask_id: int, after: int = 0, rows: int = 64
) -> Float[Tensor, " b"]:
    """Mean of -log p(token | all others) over tokens from `after` on, each masked alone; `exp` is pseudo-perplexity.

    Cost: n - `after` sequences through the model for each row, `rows` of them at a time. Text that repeats itself
    scores well; read it beside `masked_bound`.
    Source: Salazar et al., "Masked language model scoring" (2020).
    """
    _check_after(after, ids)
    _check_count(rows=rows)
    wanted = torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)[after:]
    return torch.stack([_summed(model, row, wanted, mask_id, rows).mean() for row in ids])


@torch.no_grad()
def masked_bound(
    model: Predictor,
    ids: Int[Tensor, "b n"],
    *,
    mask_id: int,
    after: int = 0,
    draws: int = 32,
    rows: int = 64,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " b"]:
    """Upper bound of -log p(tokens from `after` on | those before) / their number, what training minimises.

    A mean over `draws` random sets of k masked tokens of -log p at those, k spread evenly over 1 .. n - `after`.
    Source: Nie et al., "Large language diffusion models" (2025), Eq. 6.
    """
    _check_after(after, ids)
    _check_count(rows=rows, draws=draws)
    openings = torch.full((draws,), after)
    found = []
    for row in ids:
        masked = draw_masked(ids.shape[1], openings, generator).to(ids.device)
        found.append((_summed(model, row, masked, mask_id, rows) / masked.sum(1)).mean())
    return torch.stack(found)


def draw_masked(
    length: int, openings: Int[Tensor, " b"], generator: torch.Generator | None = None
) -> Bool[Tensor, "b {length}"]:
    """Which tokens are masked: in each row k of those behind its opening, k uniform and spread evenly over the rows."""
    rows = len(openings)
    shares = (torch.randperm(rows, generator=generator) + torch.rand(rows, generator=generator)) / rows
    counts = (shares * (length - openings)).long() + 1
    keys = torch.rand(rows, length, generator=generator).masked_fill(torch.arange(length) < openings[:, None], 2)
    return keys.argsort(1).argsort(1) < torch.minimum(counts, length - openings)[:, None]


def agreement(ids: Int[Tensor, "b n"], reference: Int[Tensor, "b n"], *, after: int = 0) -> Float[Tensor, " b"]:
    """Share of tokens from `after` on that are the same.

    Raises ValueError where the shapes differ.
    """
    if ids.shape != reference.shape:
        raise ValueError(f"ids {tuple(ids.shape)} and reference {tuple(reference.shape)} must have one shape")
    _check_after(after, ids)
    return (ids == reference)[:, after:].float().mean(1)


def _summed(
    model: Predictor, row: Int[Tensor, " n"], masked: Bool[Tensor, "m n"], mask_id: int, rows: int
) -> Float[Tensor, " m"]:
    """Sum of -log p over the masked tokens, for each way of masking one sequence."""
    found = []
    for part in masked.split(rows):
        made = model(input_ids=row.masked_fill(part, mask_id))
        logits: Tensor = getattr(made, "logits", made)
        nll = F.cross_entropy(logits.float().transpose(1, 2), row.expand(len(part), -1), reduction="none")
        found.append((nll * part).sum(1))
    return torch.cat(found)


def _check_after(after: int, ids: Tensor) -> None:
    if not 0 <= after < ids.shape[1]:
        raise ValueError(f"after={after} must leave some of the {ids.shape[1]} tokens")


def _check_count(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
