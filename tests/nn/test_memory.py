"""Mixers that go on from what they kept, and the block and models built on them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.models import CausalLM
from saccade.nn import Memory
from saccade.runs import decode

TINY = {"vocabulary": 11, "depth": 2, "width": 16, "heads": 2, "ffn": "swiglu(hidden=16)"}


def ids(rows: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(11, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def model(**changes: object) -> CausalLM:
    torch.manual_seed(0)
    return CausalLM(**TINY | changes).double().eval()


@given(cuts=st.lists(st.integers(1, 4), min_size=1, max_size=5), bf16=st.booleans())
def test_a_text_in_pieces_is_the_whole_text(cuts: list[int], bf16: bool) -> None:
    tiny, text = model(), ids(2, sum(cuts))
    memories, found = tiny.fresh_memories(), []
    for piece in text.split(cuts, dim=1):
        found.append(tiny(piece, memories).out)
    torch.testing.assert_close(torch.cat(found, 1), tiny(text).out, rtol=0, atol=1e-12)
    assert [each.tokens for each in memories] == 2 * [sum(cuts)]


def test_a_memory_holds_keys_and_values_of_every_token() -> None:
    tiny = model()
    memories = tiny.fresh_memories()
    tiny(ids(3, 5), memories)
    assert [each.size for each in memories] == 2 * [2 * 3 * 5 * 16 * 8]


def test_no_token_sees_those_behind_it() -> None:
    tiny, text = model(), ids(1, 8)
    other = text.clone()
    other[:, 5:] = (text[:, 5:] + 1) % 11
    assert torch.equal(tiny(text).out[:, :5], tiny(other).out[:, :5])
    assert not torch.equal(tiny(text).out[:, 5:], tiny(other).out[:, 5:])


def test_padding_on_the_left_is_not_seen_with_a_memory_or_without() -> None:
    tiny, text = model(), ids(1, 6)
    padded, keep = torch.cat((ids(1, 3, 1), text), 1), torch.arange(9)[None] >= 3
    wanted = tiny(text).out
    near = {"rtol": 0, "atol": 1e-9}  # tables of rotation are single precision
    torch.testing.assert_close(tiny(padded, keep=keep).out[:, 3:], wanted, **near)
    memories = tiny.fresh_memories()
    tiny(padded[:, :7], memories, keep=keep[:, :7])
    found = tiny(padded[:, 7:], memories, keep=keep[:, 7:]).out
    torch.testing.assert_close(found, wanted[:, 4:], **near)


def test_text_is_the_same_with_a_memory_and_without() -> None:
    tiny, start = model(), ids(2, 3)
    whole = decode(tiny, start, tokens=6)
    assert whole.shape == (2, 9) and torch.equal(whole[:, :3], start)
    assert torch.equal(decode(tiny, start, tokens=6, memories=tiny.fresh_memories()), whole)
    draws = (
        decode(tiny, start, tokens=6, temperature=2.0, generator=torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(*draws)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="LinearAttention keeps no memory"):
        model(mixer="linear").fresh_memories()
    with pytest.raises(ValueError, match="ids from 0 to 11 must be 0 to 10"):
        model()(torch.tensor([[0, 11]]))
    with pytest.raises(ValueError, match="mixer names 1 parts for depth=2 blocks"):
        model(mixer=("attention",))
    with pytest.raises(ValueError, match="tokens=-1 and temperature=0.0 must be at least 0"):
        decode(model(), ids(1, 1), tokens=-1)
    with pytest.raises(ValueError, match="norm='batch' must be one of layer, rms"):
        model(norm="batch")


def test_an_appended_memory_keeps_order() -> None:
    memory = Memory()
    memory.append("x", torch.zeros(1, 2, 3))
    assert torch.equal(memory.append("x", torch.ones(1, 1, 3))[0, :, 0], torch.tensor([0.0, 0.0, 1.0]))
