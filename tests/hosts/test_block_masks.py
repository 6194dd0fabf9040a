"""Block masks of torch's flex attention, read as a call's mask: against torch's own, pair by pair."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask, flex_attention

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import Mask
from saccade.core.site import Site
from saccade.ops.dispatch import attend
from saccade.seam.block_mask import read_block_mask

SITE = Site(name="here", heads=3)
Code = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return q >= k


def banded(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Other widths for other rows and heads."""
    return (q - k).abs() <= 2 + 3 * h + b


def documents(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Tokens of one document, looked up in a table."""
    table = torch.arange(4).repeat_interleave(7)
    return table[q % 28] == table[k % 28]


def padded(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Queries and keys from the 21st on are padding, as hosts have it."""
    return (q < 21) & (k < 21) & (q >= k)


CODES = (causal, banded, documents, padded)


def made(code: Code, n: int, m: int, size: int) -> BlockMask:
    many = code is banded
    return create_block_mask(code, 2 if many else None, 3 if many else None, n, m, device="cpu", BLOCK_SIZE=size)


def seen(mask: Mask, n: int, m: int) -> Tensor:
    return mask.materialize(Layout.plain(n), Layout.plain(m))


@given(code=st.sampled_from(CODES), n=st.integers(1, 40), m=st.integers(1, 40), size=st.sampled_from([4, 16]))
def test_pairs_are_those_of_torch(code: Code, n: int, m: int, size: int) -> None:
    blocks = made(code, n, m, size)
    wanted = create_mask(code, *blocks.shape, device="cpu")
    assert torch.equal(seen(read_block_mask(blocks, SITE, n, m), n, m).expand_as(wanted), wanted)


@given(code=st.sampled_from(CODES), size=st.sampled_from([4, 16]), side=st.sampled_from([3, 8]))
def test_blocks_are_judged_as_their_pairs_say(code: Code, size: int, side: int) -> None:
    mask = read_block_mask(made(code, 32, 28, size), SITE, 32, 28)
    bound = mask.bind(Layout.plain(32), Layout.plain(28))
    pairs = torch.nn.functional.pad(bound.token(), (0, -28 % side, 0, -32 % side))
    parts = pairs.unflatten(-1, (-1, side)).unflatten(-3, (-1, side)).any(-1).any(-2)
    assert torch.equal(bound.block_map(side, side) > 0, parts)
    assert bound.pairs() == int(bound.token().sum())


@pytest.mark.parametrize("kernel", ["reference", "sdpa", "gather"])
@pytest.mark.parametrize("code", CODES)
def test_attention_is_that_of_flex(code: Code, kernel: str) -> None:
    """Of queries that see no key too, for which both say zero."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 28, 16).unbind()
    blocks = made(code, 28, 28, 16)
    call = plain_call(q, k, v, mask=read_block_mask(blocks, SITE, 28, 28))
    torch.testing.assert_close(
        attend(call, kernel).out, flex_attention(q, k, v, block_mask=blocks), rtol=1e-4, atol=1e-5
    )


def test_chosen_heads_keep_their_own_pairs() -> None:
    blocks, heads = made(banded, 20, 20, 4), torch.tensor([2, 0])
    wanted = seen(read_block_mask(blocks, SITE, 20, 20), 20, 20)[:, heads]
    assert torch.equal(seen(read_block_mask(blocks, SITE, 20, 20, heads), 20, 20), wanted)


def test_tokens_in_another_order_keep_their_pairs() -> None:
    blocks, order = made(causal, 20, 20, 4), torch.randperm(20)
    wanted = seen(read_block_mask(blocks, SITE, 20, 20), 20, 20)[:, :, order][:, :, :, order]
    assert torch.equal(seen(read_block_mask(blocks, SITE, 20, 20, order=order), 20, 20), wanted)


def test_blocks_without_code_are_regions_and_those_not_listed_closed() -> None:
    """Torch itself, run eagerly, would compute them."""
    counts, numbers = torch.tensor([[[1, 2, 1]]]), torch.tensor([[[[0, 1, 2], [1, 0, 2], [2, 1, 0]]]])
    blocks = BlockMask.from_kv_blocks(counts.int() * 0, numbers.int(), counts.int(), numbers.int(), BLOCK_SIZE=4)
    mask = read_block_mask(blocks, SITE, 12, 12)
    wanted = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1]]).repeat_interleave(4, 0).repeat_interleave(4, 1).bool()
    assert torch.equal(seen(mask, 12, 12)[0, 0], wanted)
    assert mask.by_regions(Layout.plain(12), Layout.plain(12)) is not None


def test_keys_appended_later_stay_open() -> None:
    mask = read_block_mask(made(causal, 20, 20, 4), SITE, 20, 20)
    assert seen(mask, 20, 25)[..., 20:].all()


def test_one_mask_is_read_once() -> None:
    blocks = made(causal, 20, 20, 4)
    assert read_block_mask(blocks, SITE, 20, 20) is read_block_mask(blocks, SITE, 20, 20)


@pytest.mark.bad_input
def test_a_mask_of_other_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of site 'here' is made for \(20, 20\) queries and keys, the call has \(24,"):
        read_block_mask(made(causal, 20, 20, 4), SITE, 24, 20)
