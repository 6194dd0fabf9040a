"""FlexAttention's lists, options and price, without compiling it."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import Mask, lower
from saccade.core.places import Disc
from saccade.ops import flex, gather
from saccade.ops.flex_blocks import BlockLists, block_lists, block_mask, options, with_padding
from saccade.ops.pattern import Pattern
from tests.cuda.pretended_device import Card, Cards
from tests.ops import cases
from tests.ops.cases import operands, padding

LAYOUT = Layout.joint(text=13, grid=(1, 16, 24))
N = LAYOUT.n
MASKS: dict[str, Mask] = {"disc": Disc(5.0), "table": cases.block_mask(N, N, size=128)}
BLOCKS = 5  # one more than there are
masks = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def prepared(mask: Mask = MASKS["table"], trains: bool = False) -> tuple[Pattern, BlockLists]:
    at = plain_call(*operands(1, 1, 1, N, N), layout=LAYOUT, mask=lower(mask, LAYOUT, LAYOUT))
    found = gather.found_pattern(at)
    return found, block_lists(found, BLOCKS, BLOCKS, trains)


def token_map(found: Pattern, lists: BlockLists) -> Tensor:
    """What the kernel sees of real tokens, in their own order."""
    i, j = (torch.arange(BLOCKS * s) for s in found.size)
    zero = torch.zeros((), dtype=torch.int64)
    tokens = block_mask(lists, found.size).mask_mod(zero, zero, i[:, None], j[None])
    kind = torch.zeros(BLOCKS, BLOCKS, dtype=torch.int64)
    for (count, at), value in ((lists.mixed, 1), (lists.full, 2)):
        for row in range(BLOCKS):
            kind[row, at[0, 0, row, : count[0, 0, row]].long()] = value
    kind = kind.repeat_interleave(found.size[0], 0).repeat_interleave(found.size[1], 1)
    seen = (tokens & (kind == 1)) | (kind == 2)
    keys = torch.arange(N) if found.order_k is None else torch.argsort(found.order_k[:N])
    return seen[:, keys] if found.back is None else seen[found.back][:, keys]


@masks
def test_the_kernel_sees_what_the_mask_lets_through(mask: Mask) -> None:
    assert torch.equal(token_map(*prepared(mask))[:N], mask.materialize(LAYOUT, LAYOUT)[0, 0])


@masks
def test_padding_given_at_the_call_makes_blocks_mixed_and_closes_keys(mask: Mask) -> None:
    found, lists = prepared(mask)
    closed = with_padding(lists, padding(1, N, hidden=150).keep, found)
    true = (mask & padding(1, N, hidden=150)).materialize(LAYOUT, LAYOUT)[0, 0]
    assert torch.equal(token_map(found, closed)[:N], true)
    full = [x.full[0].sum().item() for x in (lists, closed)]
    assert torch.equal(closed.map > 0, lists.map > 0) and (full[1] < full[0] or full == [0, 0])


@pytest.mark.parametrize("kept", ["mixed", "full"])
def test_lists_by_key_are_those_torch_would_make_in_every_call(kept: str) -> None:
    _, lists = prepared(trains=True)
    ours = dict(zip(("mixed", "full"), lists.by_key, strict=True))[kept]
    theirs = BlockMask.from_kv_blocks(*getattr(lists, kept), BLOCK_SIZE=128)
    assert torch.equal(ours[0], theirs.q_num_blocks)
    for mine, other, count in zip(ours[1][0, 0], theirs.q_indices[0, 0], ours[0][0, 0], strict=True):
        assert torch.equal(mine[:count], other[:count])
    assert block_mask(prepared()[1], (128, 128)).q_indices is None  # in inference


def test_operands_that_fit_are_not_copied() -> None:
    x = torch.randn(1, 1, 1024, 8)
    assert flex._laid(x, None, 1024) is x
    assert flex._laid(x[:, :, :1000], None, 1024).shape == x.shape


@pytest.mark.parametrize(
    ("capability", "w", "dv", "dtype", "tile"),
    [
        (9, 64, 64, torch.bfloat16, (128, 64, 8, 3)),
        (9, 40, 40, torch.float16, (128, 64, 8, 3)),
        (9, 72, 64, torch.bfloat16, (128, 128, 8, 2)),
        (9, 136, 128, torch.bfloat16, (128, 32, 8, 2)),
        (8, 128, 128, torch.bfloat16, (128, 32, 8, 3)),
        (9, 64, 64, torch.float32, None),
        (7, 64, 64, torch.float16, None),
        (8, 256, 256, torch.float16, None),
    ],
)
def test_options_go_by_width_and_card(
    monkeypatch: pytest.MonkeyPatch, capability: int, w: int, dv: int, dtype: torch.dtype, tile: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=capability))
    q, v = (Card(torch.empty(1, 1, 4, width, dtype=dtype), torch.device("cuda:0")) for width in (w, dv))
    names = ("fwd_BLOCK_M", "fwd_BLOCK_N", "fwd_num_warps", "fwd_num_stages")
    assert options(q, v, (128, 128)) == (tile and dict(zip(names, tile, strict=True)))
    if tile:
        small = options(q, v, (64, 32))
        assert (small["fwd_BLOCK_M"], small["fwd_BLOCK_N"]) == (64, 32)


def test_the_cpu_gets_no_options() -> None:
    assert options(torch.empty(1, 1, 4, 64).bfloat16(), torch.empty(1, 1, 4, 64), (128, 128)) is None


def test_mixed_blocks_cost_more_on_a_card() -> None:
    found, _ = prepared()
    mixed, full = ((found.map == kind).sum().item() / found.map.numel() for kind in (1, 2))
    assert flex.cost(found, "cpu") == pytest.approx(found.area) == pytest.approx(mixed + full)
    assert flex.cost(found, "cuda") == pytest.approx(full + 2.15 * mixed)


def test_it_never_compiles_unasked_on_a_card(cards: Cards) -> None:
    layout = Layout.plain(1280)
    mask = lower(cases.block_mask(1280, 1280, keep=0.05, size=128), layout, layout, "cuda")
    at = plain_call(*(cards.put(x) for x in operands(1, 1, 1, 1280, 1280, 8, 8, torch.bfloat16)), mask=mask)
    assert flex.refuses(at) == ["not warmed for this bucket of shapes; call ops.flex.warm(call) before"]


@pytest.mark.compile
def test_no_bucket_counts_against_the_recompilations_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(x: Tensor) -> Tensor:
        return x * 2

    monkeypatch.setattr(flex, "_flex", doubled)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    buckets = [("test", n) for n in range(2 * torch._dynamo.config.recompile_limit)]
    for bucket in buckets:
        assert flex._compiled(bucket)(torch.ones(bucket[1] + 1)).sum() == 2 * (bucket[1] + 1)
    with flex.compiling_not_allowed():
        assert flex._compiled(buckets[0])(torch.ones(1)) == 2
        with pytest.raises(RuntimeError, match="[Rr]ecompile"):
            flex._compiled(buckets[0])(torch.ones(5))
