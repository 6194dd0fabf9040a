"""Pooled keys are weighted sums of patches, trainable by site."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.papers.clear.pooled_keys import PooledKeys, PoolingWeights, average, pool

SITE = Site(name="blocks.0.attn", kind="joint", heads=2)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.sampled_from((2, 3, 4)))
def test_pooling_is_the_sum_of_its_definition(frames: int, rows: int, columns: int, d: int) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, frames * rows * d * columns * d, 3, generator=g, dtype=torch.float64)
    w = torch.randn(d, d, generator=g, dtype=torch.float64)
    picture = x.unflatten(2, (frames, rows * d, columns * d))
    expected = sum(w[a, b] * picture[:, :, :, a::d, b::d] for a in range(d) for b in range(d))
    assert isinstance(expected, torch.Tensor)
    out = pool(x, (frames, rows * d, columns * d), w)
    torch.testing.assert_close(out, expected.flatten(2, 4), atol=1e-13, rtol=0)


def test_equal_weights_are_average_pooling_of_keys_and_values() -> None:
    layout = Layout.joint(text=3, grid=(1, 8, 12), text_first=False)
    q, k, v = (torch.randn(2, 2, layout.n, 5) for _ in range(3))
    call = PooledKeys(size=4).keys(plain_call(q, k, v, layout=layout, site=SITE), Memory())
    for long, x in ((call.k, k), (call.v, v)):
        picture = x[:, :, :96].transpose(2, 3).unflatten(3, (8, 12)).flatten(0, 1)
        small = torch.nn.functional.avg_pool2d(picture, kernel_size=4, stride=4).flatten(2).mT.unflatten(0, (2, 2))
        assert torch.equal(long[:, :, : layout.n], x)
        torch.testing.assert_close(long[:, :, layout.n :], small, atol=1e-6, rtol=0)
    assert call.layout_k.segments[-1].n == 6 and call.layout_k.segments[-1].kind == "extra"


def test_weights_start_as_the_average_and_get_a_gradient_at_their_site_alone() -> None:
    weights = PoolingWeights([SITE, "blocks.1.attn"], 2)
    layout = Layout.image_only((1, 4, 4))
    q, k, v = (torch.randn(1, 2, 16, 4) for _ in range(3))
    plain = PooledKeys(size=2).keys(plain_call(q, k, v, layout=layout, site=SITE), Memory())
    learned = PooledKeys(size=2, weights=weights).keys(plain_call(q, k, v, layout=layout, site=SITE), Memory())
    assert torch.equal(plain.k, learned.k) and torch.equal(plain.v, learned.v)
    (learned.k.pow(2).sum() + learned.v.pow(3).sum()).backward()
    here, there = (parameter.grad for parameter in weights.parameters())
    assert here is not None and (here != 0).all()
    assert there is None


def test_weights_are_saved_by_site() -> None:
    weights = PoolingWeights([SITE], 3)
    assert list(weights.state_dict()) == ["of.blocks/0/attn"]
    assert torch.equal(weights.at(SITE), average(3))


def test_keys_may_be_fewer_than_query_heads_and_half_precise() -> None:
    layout = Layout.image_only((1, 4, 4))
    q, k, v = (torch.randn(1, heads, 16, 4, dtype=torch.bfloat16) for heads in (4, 2, 2))
    weights = PoolingWeights([SITE], 2)
    call = PooledKeys(size=2, weights=weights).keys(plain_call(q, k, v, layout=layout, site=SITE), Memory())
    assert call.k.shape == (1, 2, 20, 4) and call.k.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PooledKeys(size=1), "size=1 must be at least 2"),
        (lambda: PooledKeys(size=2, weights=PoolingWeights([SITE], 3)), "weights of size 3 do not fit size=2"),
        (lambda: PoolingWeights([SITE], 2).at(Site(name="other")), "no pooling weights for site 'other'; .*blocks/0"),
        (lambda: PooledKeys(size=2).appends(Layout.image_only((1, 4, 5))), "grid 4 x 5 is not divisible by size=2"),
        (lambda: PooledKeys(size=2).appends(Layout.plain(8)), "0 image grids where one is needed: text 8"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()
