"""Which keys a query keeps, as a map: the w of the highest scores among those it may see, or those above zero.

The choice is made after causal order and padding, so it never depends on tokens that come later. Equal scores go to
the more recent key. No gradient passes through it.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.checks import check_whole, check_word

Select = Literal["topk", "relu"]
Compat = Literal["official"]


def choose_keys(
    bias: Float[Tensor, "#b #h #n m"],
    visible: Tensor | None = None,
    *,
    window: int = 2048,
    select: Select = "topk",
    block_size: int = 1,
    grows: bool = False,
    compat: Compat | None = None,
) -> Bool[Tensor, "#b #h #n m"]:
    """The keys kept of those visible; as many rows, heads and queries as bias and `visible` distinguish.

    bias        scores by key (n = 1), or by query and key
    visible     what may be seen at all, as `as_map` takes it; None for all
    window      w: a query keeps exactly w keys, or all where it sees no more
    select      "topk", or "relu": scores above zero, however many; it takes no window
    block_size  runs of this many keys, the last one shorter, are then kept whole where more than half is, else dropped
    grows       whether keys will follow: the last run then needs as many as a whole one, so that a text written token
                by token keeps what it keeps at once
    compat      "official": such a run is kept whole beyond causal order and padding too
    Raises ValueError for options out of range and for a map that does not fit.
    """
    check_choice(window, select, block_size)
    with torch.no_grad():
        seen = None if visible is None else as_map(visible, *_sizes(bias, visible))
        scores = bias.detach() if seen is None else bias.detach().masked_fill(~seen, -torch.inf)
        kept = scores > 0 if select == "relu" else top_w(scores, window)
        kept = kept if seen is None else kept & seen
        if block_size == 1:
            return kept
        smooth = by_majority(kept, block_size, grows)
        return smooth if seen is None or compat == "official" else smooth & seen


def top_w(scores: Float[Tensor, "*r m"], window: int) -> Bool[Tensor, "*r m"]:
    """Flags of the `window` highest of each row, of equal ones the last."""
    if scores.shape[-1] <= window:
        return torch.ones_like(scores, dtype=torch.bool)
    least = scores.topk(window, dim=-1).values[..., -1:]
    above, level = scores > least, scores == least
    later = level.flip(-1).cumsum(-1).flip(-1)  # how many equal ones from here to the end
    return above | (level & (later <= window - above.sum(-1, keepdim=True)))


def by_majority(kept: Bool[Tensor, "*r m"], size: int, grows: bool = False) -> Bool[Tensor, "*r m"]:
    """Runs of `size` keys, all set where more than half of a run is, and cleared elsewhere.

    grows   the last run, if shorter, needs more than half of `size` too
    """
    m = kept.shape[-1]
    runs = torch.nn.functional.pad(kept, (0, -m % size)).unflatten(-1, (-1, size)).sum(-1)
    sizes = runs.new_full((runs.shape[-1],), size)
    sizes[-1] -= 0 if grows else -m % size
    return (2 * runs > sizes).repeat_interleave(size, dim=-1)[..., :m]


def as_map(mask: Tensor, n: int, m: int) -> Bool[Tensor, "#b #h #n m"]:
    """A mask in any form as pairs that may be seen.

    mask   (b m) flags of keys; (b n) of the last n of them, those cached before being seen; or a map that broadcasts
           to (b h n m): boolean, or additive with 0 where a key is seen and the type's lowest number elsewhere
    Raises ValueError for another type or shape.
    """
    flags = _flags(mask)
    if flags.ndim == 2:
        if flags.shape[1] not in (n, m):
            raise ValueError(
                f"mask {tuple(mask.shape)} must be (batch, {m}), a flag for each key, or (batch, {n}), for each of "
                "the queries' own"
            )
        return torch.nn.functional.pad(flags, (m - flags.shape[1], 0), value=True)[:, None, None]
    if flags.ndim != 4 or flags.shape[2] not in (1, n) or flags.shape[3] != m:
        raise ValueError(
            f"mask {tuple(mask.shape)} must be (batch, {m}), (batch, {n}) or a map (batch or 1, heads or 1, {n} or 1, "
            f"{m})"
        )
    return flags


def check_choice(window: int, select: str, block_size: int) -> None:
    """ValueError for options out of range."""
    check_word(get_args(Select), select=select)
    check_whole(1, window=window, block_size=block_size)


def _flags(mask: Tensor) -> Bool[Tensor, "*s"]:
    if mask.dtype == torch.bool:
        return mask
    if not mask.is_floating_point():
        raise ValueError(f"mask has dtype {mask.dtype}; it must be boolean, or floating with 0 where a key is seen")
    seen = mask == 0
    if bool((~seen & (mask > torch.finfo(mask.dtype).min / 2)).any()):
        raise ValueError(
            "mask has numbers other than 0 and the lowest of its type; give a boolean one, and what is to be added to "
            "the scores as bias"
        )
    return seen


def _sizes(bias: Tensor, visible: Tensor) -> tuple[int, int]:
    """Queries and keys; scores by key leave the queries to the map."""
    return visible.shape[2] if visible.ndim == 4 and bias.shape[2] == 1 else bias.shape[2], bias.shape[3]
