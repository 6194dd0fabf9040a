"""Image queries attend by features; text keeps softmax; masks and biases are refused."""

import pytest
import torch

from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout
from saccade.core.masks import forbid
from saccade.core.partial import whole
from saccade.core.state import Memory
from saccade.ops import attend
from saccade.ops.linear import linear
from saccade.papers.clear.linear_attention import LinearAttention

LAYOUTS = [Layout.joint(text=3, grid=(1, 2, 4)), Layout.joint(text=3, grid=(1, 2, 4), text_first=False)]


def call_on(layout: Layout) -> AttentionCall:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, layout.n, 8)
    return plain_call(q, k, v, layout=layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["text first", "text last"])
def test_image_queries_are_linear_and_text_is_bitwise_softmax(layout: Layout) -> None:
    call = call_on(layout)
    dense = whole(attend(call))
    out = LinearAttention().blend(call, dense, Memory()).total
    image, text = (layout.span(name) for name in ("image", "text"))
    torch.testing.assert_close(out[:, :, image], linear(call.q, call.k, call.v)[:, :, image])
    assert torch.equal(out[:, :, text], dense.total[:, :, text])


def test_a_mask_is_refused() -> None:
    call = call_on(LAYOUTS[0])
    with pytest.raises(ValueError, match="mask=.* has no meaning in linear attention; leave out what brings the mask"):
        LinearAttention().blend(call.replace(mask=forbid("text", "image")), whole(attend(call)), Memory())
