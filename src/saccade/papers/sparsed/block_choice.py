"""Choose blocks of keys by the attention they get, the prompt's and the generated ones apart.

A block of keys belongs to what is generated if all its tokens do; if there is no such block, the one with most does.
k of n are chosen by rank, the earlier block first where scores tie, so the same operands give the same choice.
"""

import math
from collections.abc import Callable
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.layout import Layout
from saccade.ops.block_scores import BlockScores
from saccade.ops.ranks import ranks
from saccade.ops.remembered import constant

Rule = Literal["official", "paper", "joint"]
GENERATION = "generation"  # the name of a language model's segment of tokens to be generated
Spans = tuple[tuple[int, int], ...]


def choose_blocks(scores: BlockScores, generated: tuple[bool, ...], keep: float, rule: Rule) -> Bool[Tensor, "b h Q K"]:
    """The blocks kept for each block of queries; blocks that are all padding never are, and count for nothing.

    official   the best int(keep n) + 1 of all n blocks, those of the prompt among them; and as large a share of the
               generated ones, ranked by a softmax of their own
    paper      the best ceil(keep n) of either group, both ranked by the one softmax
    joint      the best ceil(keep n) of all
    """
    open_, ours = scores.open, constant(generated, scores.open.device)
    match rule:
        case "official":
            prompt = _best(scores.whole, open_, keep, at_least_one_more) & ~ours
            return prompt | _best(scores.apart, open_ & ours, keep, at_least_one_more)
        case "paper":
            return _best(scores.whole, open_ & ~ours, keep, rounded_up) | _best(
                scores.whole, open_ & ours, keep, rounded_up
            )
        case "joint":
            return _best(scores.whole, open_, keep, rounded_up)


def at_least_one_more(n: int, keep: float) -> int:
    """int(keep n) + 1, at most n."""
    return min(int(n * keep) + 1, n)


def rounded_up(n: int, keep: float) -> int:
    """ceil(keep n), for products that are whole up to rounding too."""
    return min(math.ceil(n * keep - 1e-9), n)


def generated_blocks(layout: Layout, generation: int | None, block: int) -> tuple[bool, ...]:
    """Which blocks of keys are generated. Raises ValueError where the layout does not tell and nobody does."""
    spans, edges = generated_tokens(layout, generation), range(0, layout.n, block)
    counts = [sum(max(min(stop, at + block) - max(start, at), 0) for start, stop in spans) for at in edges]
    whole = [count == min(block, layout.n - at) for count, at in zip(counts, edges, strict=True)]
    if not any(whole):
        most = max(counts)
        whole[len(counts) - 1 - counts[::-1].index(most)] = True
    return tuple(whole)


def generated_tokens(layout: Layout, generation: int | None) -> Spans:
    """From where to where: the last `generation` tokens, or the segment of that name, or the image's.

    Raises ValueError where the layout does not say what is generated, or holds less.
    """
    if generation is not None:
        if generation > layout.n:
            raise ValueError(
                f"generation={generation} exceeds the {layout.n} tokens of the sequence; give the number of tokens to "
                "be generated, at its end"
            )
        return ((layout.n - generation, layout.n),)
    named = [s for s in layout.segments if s.name == GENERATION] or list(layout.of("image"))
    spans = [layout.span(s.name) for s in named if s.n]
    if not spans:
        raise ValueError(
            f"generation=None and the tokens are {layout.describe()}: nothing says what is prompt and what is "
            f"generated; give generation=, or a layout with an image or a segment '{GENERATION}'"
        )
    return tuple((span.start, span.stop) for span in spans)


def _best(
    scores: Float[Tensor, "b h Q K"],
    among: Bool[Tensor, "#b K"],
    keep: float,
    count: Callable[[int, float], int],
) -> Bool[Tensor, "b h Q K"]:
    """The best of the blocks `among`, as many as `count` says of their number, row by row of the batch."""
    counts = constant(tuple(count(n, keep) for n in range(scores.shape[3] + 1)), scores.device)
    wanted = counts[among.sum(-1)]  # (b|1)
    return ranks(scores.masked_fill(~among[:, None, None], -1.0)) < wanted[:, None, None, None]
