"""Which blocks are kept, against the published counts and a choice made one row at a time."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.ops.block_scores import BlockScores
from saccade.ops.remembered import constant
from saccade.papers.sparsed.block_choice import (
    Rule,
    at_least_one_more,
    choose_blocks,
    generated_blocks,
    generated_tokens,
    rounded_up,
)

RULES: tuple[Rule, ...] = ("official", "paper", "joint")
LM = Layout((Segment("prompt", "text", 10), Segment("generation", "text", 6)))
VIDEO = Layout((Segment("image", "image", 12, (3, 2, 2)), Segment("text", "text", 5)))


def scored(blocks: int, *, open_: Tensor | None = None, seed: int = 0) -> BlockScores:
    """Random scores with many ties."""
    g = torch.Generator().manual_seed(seed)
    whole, apart = (torch.randint(0, 5, (2, 3, blocks, blocks), generator=g).double() for _ in range(2))
    return BlockScores(whole, apart, torch.ones(1, blocks, dtype=torch.bool) if open_ is None else open_)


def one_row(
    whole: list[float], apart: list[float], generated: tuple[bool, ...], open_: list[bool], keep: float, rule: str
) -> set[int]:
    """Sorting by hand: best score first, then the earlier block."""
    blocks = [j for j in range(len(whole)) if open_[j]]
    ours, prompt = [j for j in blocks if generated[j]], [j for j in blocks if not generated[j]]

    def best(group: list[int], scores: list[float], count: int) -> set[int]:
        return set(sorted(group, key=lambda j: (-scores[j], j))[: min(count, len(group))])

    if rule == "joint":
        return best(blocks, whole, math.ceil(round(keep * len(blocks), 9)))
    if rule == "paper":
        counts = [math.ceil(round(keep * len(group), 9)) for group in (prompt, ours)]
        return best(prompt, whole, counts[0]) | best(ours, whole, counts[1])
    chosen = best(blocks, whole, max(1, int(len(blocks) * keep) + 1)) - set(ours)
    return chosen | best(ours, apart, max(1, int(len(ours) * keep) + 1))


@pytest.mark.parametrize("rule", RULES)
@given(blocks=st.integers(1, 12), g=st.integers(0, 12), keep=st.floats(0.01, 1), padded=st.booleans())
def test_equals_a_choice_made_by_sorting(rule: Rule, blocks: int, g: int, keep: float, padded: bool) -> None:
    generated = tuple(j >= min(g, blocks - 1) for j in range(blocks))
    open_ = torch.arange(blocks) >= torch.tensor([[min(2, blocks - 1)], [0]]) if padded else None
    scores = scored(blocks, open_=open_, seed=blocks)
    chosen = choose_blocks(scores, generated, keep, rule)
    for b, h, i in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(blocks)).tolist():
        row = (scores.whole[b, h, i].tolist(), scores.apart[b, h, i].tolist())
        mine = scores.open[b % len(scores.open)].tolist()
        assert set(chosen[b, h, i].nonzero()[:, 0].tolist()) == one_row(*row, generated, mine, keep, rule)


@pytest.mark.parametrize("rule", RULES)
@given(blocks=st.integers(2, 12), g=st.integers(1, 11), keep=st.floats(0.001, 1))
def test_every_row_keeps_a_block_of_each_group_it_must(rule: Rule, blocks: int, g: int, keep: float) -> None:
    generated = tuple(j >= min(g, blocks - 1) for j in range(blocks))
    chosen = choose_blocks(scored(blocks, seed=g), generated, keep, rule)
    ours = torch.tensor(generated)
    assert chosen.any(-1).all()
    if rule != "joint":
        assert (chosen & ours).any(-1).all()
    if rule == "paper":
        assert (chosen & ~ours).any(-1).all()
    if rule == "official":
        nb, count = int(ours.sum()), (chosen & ours).sum(-1)
        assert (count == min(int(nb * keep) + 1, nb)).all()
        assert ((chosen & ~ours).sum(-1) <= min(int(blocks * keep) + 1, blocks)).all()


def test_the_official_rule_may_leave_a_row_without_prompt_blocks() -> None:
    whole = torch.tensor([0.1, 0.2, 0.9, 0.8]).expand(1, 1, 4, 4)
    scores = BlockScores(whole, whole, torch.ones(1, 4, dtype=torch.bool))
    generated = (False, False, True, True)
    assert choose_blocks(scores, generated, 0.3, "official")[0, 0, 0].tolist() == [False, False, True, False]
    assert choose_blocks(scores, generated, 0.3, "paper")[0, 0, 0].tolist() == [False, True, True, False]


@pytest.mark.parametrize("rule", RULES)
def test_all_is_kept_at_a_share_of_one(rule: Rule) -> None:
    assert choose_blocks(scored(7), (False,) * 4 + (True,) * 3, 1.0, rule).all()


def test_the_published_counts() -> None:
    generated = generated_blocks(LM, None, 4)
    assert generated == (False, False, False, True)  # block 2 straddles the border and counts as prompt
    assert (at_least_one_more(4, 0.3), at_least_one_more(1, 0.3)) == (2, 1)
    long = generated_blocks(Layout.plain(65536 + 128), 128, 128)
    assert (len(long), sum(long), at_least_one_more(513, 0.3)) == (513, 1, 154)
    assert round((at_least_one_more(513, 0.3) + 1) / 513, 3) == 0.302  # at most 154 of the prompt, one generated
    assert [rounded_up(n, 0.7) for n in (10, 1, 3)] == [7, 1, 3] and rounded_up(10, 0.71) == 8


@pytest.mark.parametrize(
    ("layout", "generation", "block", "expected"),
    [
        (LM, 6, 4, (False, False, False, True)),
        (LM, None, 2, (False,) * 5 + (True,) * 3),
        (LM, None, 16, (True,)),  # no block is all generated: the one with most
        (Layout.plain(11), 1, 4, (False, False, True)),
        (Layout.plain(9), 9, 4, (True, True, True)),
        (VIDEO, None, 4, (True, True, True, False, False)),  # text last; a short block may be all prompt
        (VIDEO, None, 5, (True, True, False, False)),
        (VIDEO, None, 30, (True,)),
        (Layout.image_only((1, 3, 3)), None, 4, (True, True, True)),
    ],
)
def test_blocks_are_generated_where_all_their_tokens_are(
    layout: Layout, generation: int | None, block: int, expected: tuple[bool, ...]
) -> None:
    assert generated_blocks(layout, generation, block) == expected


@given(prompt=st.integers(0, 40), generation=st.integers(1, 20), block=st.integers(1, 9))
def test_the_first_generated_block_starts_at_or_after_the_prompt(prompt: int, generation: int, block: int) -> None:
    n = prompt + generation
    blocks = -(-n // block)
    first = next((g for g in range(blocks) if n - g * block <= generation), blocks - 1)
    expected = tuple(j >= first for j in range(blocks))
    assert generated_blocks(Layout.plain(n), generation, block) == expected


@pytest.mark.bad_input
def test_a_border_nobody_tells_is_refused() -> None:
    with pytest.raises(ValueError, match=r"generation=17 exceeds the 16 tokens of the sequence; give the number"):
        generated_tokens(LM, 17)
    with pytest.raises(
        ValueError, match=r"generation=None and the tokens are text 9: nothing says .* give generation=, or a"
    ):
        generated_tokens(Layout.plain(9), None)


def test_flags_and_counts_that_are_equal_are_kept_apart() -> None:
    counts, flags = (constant(values, torch.device("cpu")) for values in ((0, 1), (False, True)))
    assert (counts.dtype, flags.dtype) == (torch.int64, torch.bool)
