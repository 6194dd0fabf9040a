"""The call without a map against the map, outputs and gradients, and in a graph."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import plain_call
from saccade.core.layout import Layout, Segment
from saccade.core.places import Causal
from saccade.core.state import Memory
from saccade.ops.parts import attend_parts
from saccade.papers.visual_sink import SinkRedistribution, find_sinks, redistributed
from tests.papers.visual_sink.models import CHANNEL, llava, pictures, prompts

LAYOUT = Layout((Segment("text", "text", 3), Segment("image", "image", 6, (1, 2, 3)), Segment("words", "text", 4)))


def drawn(seed: int, key_heads: int) -> tuple[list[Tensor], Tensor]:
    """q, k, v and the stream, some of whose tokens are loud in channel 2."""
    noise = torch.Generator().manual_seed(seed)
    shapes = ((2, 4, 13, 5), (2, key_heads, 13, 5), (2, key_heads, 13, 5))
    qkv = [torch.randn(shape, generator=noise, dtype=torch.float64) * 1.5 for shape in shapes]
    x = torch.randn(2, 13, 30, generator=noise, dtype=torch.float64)
    x[..., 2] += 30.0 * (torch.rand(2, 13, generator=noise) < 0.35)
    return [t.requires_grad_() for t in qkv], x


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@given(seed=st.integers(0, 10**6), take=st.sampled_from([0.4, 1.0]), rho=st.sampled_from([0.2, 0.6]))
@settings(max_examples=15)
def test_it_is_the_map_rewritten_with_its_gradients(key_heads: int, seed: int, take: float, rho: float) -> None:
    (q, k, v), x = drawn(seed, key_heads)
    system = SinkRedistribution(dims=(2,), tau=3.0, take=take, rho=rho)
    call = plain_call(q, k, v, layout=LAYOUT, mask=Causal(), host=SimpleNamespace(stream=x))
    made = system._moved.blend(call, attend_parts(call), Memory()).total
    image = LAYOUT.is_("image")[None]
    wide_k, wide_v = (t.repeat_interleave(4 // key_heads, dim=1) for t in (k, v))
    scores = (q @ wide_k.mT * call.scale).masked_fill(torch.ones(13, 13).triu(1).bool(), -torch.inf)
    sinks = find_sinks(x, (2,), 3.0)
    wanted = redistributed(scores.softmax(-1), image, sinks, take=take, rho=rho, queries=~image) @ wide_v
    torch.testing.assert_close(made, wanted)
    weight = torch.randn(made.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad((out * weight).sum(), (q, k, v)) for out in (made, wanted))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.host
@pytest.mark.compile
def test_a_compiled_model_gives_the_same() -> None:
    host, ids = llava(), prompts(2)
    system = SinkRedistribution(dims=(CHANNEL,), tau=1.95, rho=0.3, least=0.05)
    with attach(host, system), torch.no_grad():
        eager = host(input_ids=ids, pixel_values=pictures(2), use_cache=False).logits
    compiled = torch.compile(host, backend="eager")
    with attach(compiled, system), torch.no_grad():
        made = compiled(input_ids=ids, pixel_values=pictures(2), use_cache=False).logits
    torch.testing.assert_close(made, eager)
