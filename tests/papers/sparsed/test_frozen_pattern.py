"""A grid of blocks is the mask it stands for, and a pattern found at one step is what later steps attend to."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.blocks import FULL
from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import StateError
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding, Mask
from saccade.core.partial import whole
from saccade.core.places import Causal, Disc
from saccade.core.state import Memory
from saccade.mechanisms.block_grid import BlockGrid
from saccade.mechanisms.frozen_pattern import FrozenPattern
from saccade.ops import reference
from saccade.papers.sparsed.find_pattern import FindPattern

LAYOUT = Layout.joint(text=4, grid=(1, 3, 5))
FIND, REUSE = FindPattern(keep=0.3, block=4), FrozenPattern(block=4)


def made(n: int, *, heads: int = 2, batch: int = 2, seed: int = 0, **fields: Any) -> AttentionCall:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, heads, n, 4, generator=g, dtype=torch.float64) for _ in range(3))
    return plain_call(q, k, v, **fields)


def found(call: AttentionCall, find: FindPattern = FIND) -> Memory:
    memory = Memory("'sparsed' at 'call' (main)")
    find.observe(call, whole(reference.run(call)), memory)
    memory.tick()
    return memory


def expanded(allow: Tensor, block: int, n: int) -> Tensor:
    return allow.repeat_interleave(block, -2).repeat_interleave(block, -1)[..., :n, :n]


@given(n=st.integers(1, 70), block=st.integers(1, 40), seed=st.integers(0, 99), more=st.integers(0, 9))
def test_a_grid_is_its_blocks_written_out_and_open_beyond(n: int, block: int, seed: int, more: int) -> None:
    blocks = -(-n // block)
    allow = torch.rand(2, 3, blocks, blocks, generator=torch.Generator().manual_seed(seed)) < 0.4
    layout = Layout.plain(n)
    bound = BlockGrid(allow, block, n).bind(layout, layout.append(Segment("memory", "extra", more)))
    expected = torch.nn.functional.pad(expanded(allow, block, n), (0, more), value=True)
    assert torch.equal(bound.token(), expected)
    assert bound.pairs() == int(expected.sum()) and bound.closed is not None
    lone = (expected.sum(-1) == 0).nonzero()
    assert bound.empty_row() == (tuple(lone[0].tolist()) if len(lone) else None)


def test_blocks_of_the_grid_are_judged_without_looking_at_pairs() -> None:
    allow = torch.eye(6, dtype=torch.bool)[None, None]
    layout, at = Layout.plain(6 * 128), torch.arange(6)
    bound = BlockGrid(allow, 128, layout.n).bind(layout, layout)
    seen = bound.coarse(*(torch.arange(layout.n).reshape(6, 128) for _ in range(2)))(at[:, None], at)
    assert torch.equal(seen.some, allow) and torch.equal(seen.every, allow)
    assert torch.equal(bound.block_map(128, 128) == FULL, allow)


def test_the_pattern_is_read_at_the_next_step_and_stays() -> None:
    call = made(LAYOUT.n, layout=LAYOUT)
    memory = found(call)
    mask = REUSE.pairs(made(LAYOUT.n, seed=5, layout=LAYOUT), memory).mask
    assert mask is not None
    blocks = memory.get("blocks")
    assert torch.equal(mask.materialize(LAYOUT, LAYOUT), expanded(blocks, 4, LAYOUT.n))
    memory.tick()
    assert REUSE.pairs(call, memory).mask is mask
    assert torch.equal(found(call).get("blocks"), blocks)  # the same operands choose the same blocks


def test_a_pattern_belongs_to_a_head_a_row_and_an_input() -> None:
    call = made(LAYOUT.n, layout=LAYOUT)
    blocks, other = found(call).get("blocks"), found(made(LAYOUT.n, seed=1, layout=LAYOUT)).get("blocks")
    assert not torch.equal(blocks[0, 0], blocks[0, 1]) and not torch.equal(blocks[0], blocks[1])
    assert not torch.equal(blocks, other)


def test_few_queries_choose_nearly_the_blocks_of_all() -> None:
    """Keys of one block in reach of each query: all of them choose it, and so does any one."""
    n, block = 64, 8
    shared = torch.randn(2, 1, n // block, 16, generator=torch.Generator().manual_seed(0)).repeat_interleave(block, 2)
    call = plain_call(shared * 4, shared * 4, shared, layout=Layout.image_only((1, 8, 8)))
    all_, one = (found(call, FindPattern(keep=0.2, block=block, queries=some)).get("blocks") for some in (None, 1))
    assert torch.equal(all_, one) and all_.float().mean() < 0.5


def test_one_pattern_for_all_heads_follows_their_mean() -> None:
    call = made(LAYOUT.n, layout=LAYOUT)
    shared = FindPattern(keep=0.3, block=4, per_head=False)
    blocks = found(call, shared).get("blocks")
    assert blocks.shape == (2, 1, 5, 5)
    twice = call.replace(q=call.q[:, :1].expand(-1, 2, -1, -1), k=call.k[:, :1].expand(-1, 2, -1, -1))
    assert torch.equal(found(twice, shared).get("blocks"), found(twice).get("blocks")[:, :1])


def test_the_official_temper_puts_heads_for_their_width() -> None:
    call = made(LAYOUT.n, heads=16, layout=LAYOUT)
    tempered = found(call, FindPattern(keep=0.3, block=4, score_scale="heads")).get("blocks")
    assert torch.equal(tempered, found(call.replace(scale=16**-0.5)).get("blocks"))
    assert not torch.equal(tempered, found(call).get("blocks"))


def test_another_mask_leaves_every_query_a_key() -> None:
    call = made(LAYOUT.n, layout=LAYOUT, mask=Disc(1.0))  # an image token sees itself and the text
    find = FindPattern(keep=0.01, block=4, rule="joint")
    memory = found(call, find)
    assert memory.get("blocks").diagonal(dim1=2, dim2=3).all()
    mask = REUSE.pairs(call, memory).mask
    assert mask is not None and (mask & Disc(1.0)).bind(LAYOUT, LAYOUT).empty_row() is None


def test_a_row_padded_by_whole_blocks_chooses_as_if_it_were_alone() -> None:
    layout = Layout((Segment("prompt", "text", 20), Segment("generation", "text", 8)))
    short = Layout((Segment("prompt", "text", 12), Segment("generation", "text", 8)))
    keep = torch.arange(28) >= torch.tensor([[8], [0]])
    call = made(28, layout=layout)
    padded = found(call.replace(mask=KeyPadding(keep))).get("blocks")
    alone = plain_call(*(x[:1, :, 8:] for x in (call.q, call.k, call.v)), layout=short)
    assert torch.equal(padded[:1, :, 2:, 2:], found(alone).get("blocks"))
    assert not padded[0, :, :, :2].any()
    assert torch.equal(padded[1:], found(call).get("blocks")[1:])


@pytest.mark.bad_input
def test_what_cannot_be_frozen_is_refused() -> None:
    call = made(LAYOUT.n, layout=LAYOUT)
    with pytest.raises(StateError, match=r"'sparsed' at 'call' \(main\) reads 'blocks' before any step put it"):
        REUSE.pairs(call, Memory("'sparsed' at 'call' (main)"))
    longer = made(20, layout=Layout.joint(text=5, grid=(1, 3, 5)))
    with pytest.raises(
        StateError, match=r"found its pattern on 2 x 19 tokens and 2 heads, this call has 2 x 20 and 2; begin a new"
    ):
        REUSE.pairs(longer, found(call))
    with pytest.raises(StateError, match=r"on 2 x 19 tokens and 2 heads, this call has 3 x 19"):
        REUSE.pairs(made(LAYOUT.n, batch=3, layout=LAYOUT), found(call))
    with pytest.raises(StateError, match=r"and 2 heads, this call has 2 x 19 and 3; begin a new"):
        REUSE.pairs(made(LAYOUT.n, heads=3, layout=LAYOUT), found(call))
    cached = plain_call(call.q[:, :, :2], call.k, call.v, layout_q=Layout.plain(2))
    with pytest.raises(ValueError, match=r"keys at site 'call' are text 19 and queries text 2; a frozen pattern"):
        found(cached)
    masks: tuple[Mask, ...] = (Causal(), Causal() & KeyPadding(torch.ones(2, 19, dtype=torch.bool)))
    for mask in masks:
        with pytest.raises(ValueError, match=r"attention at site 'call' is causal; a frozen pattern is for models"):
            found(call.replace(mask=mask))


def test_a_pattern_found_in_a_graph_is_made_a_mask_where_an_eager_step_reads_it() -> None:
    call = made(LAYOUT.n, layout=LAYOUT)
    memory = found(call)
    eager = REUSE.pairs(call, memory).mask
    del memory.now["mask"]  # a graph puts the blocks alone
    again = REUSE.pairs(call, memory).mask
    assert eager is not None and again is not None
    assert torch.equal(again.materialize(LAYOUT, LAYOUT), eager.materialize(LAYOUT, LAYOUT))
    memory.tick()
    assert REUSE.pairs(call, memory).mask is again


def test_a_mask_kept_of_other_blocks_is_not_taken_for_those_found_since() -> None:
    call, other = made(LAYOUT.n, layout=LAYOUT), made(LAYOUT.n, layout=LAYOUT, seed=1)
    memory, newer = found(call), found(other)
    memory.now["blocks"] = newer.get("blocks")
    mask = REUSE.pairs(call, memory).mask
    assert torch.equal(mask.allow if isinstance(mask, BlockGrid) else mask.mask.allow, newer.get("blocks"))
