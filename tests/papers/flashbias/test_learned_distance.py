"""A distance bias whose strength each token learns: the formula, its gradient, its errors."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout, Segment
from saccade.core.state import Memory
from saccade.papers.flashbias.learned_distance import LearnedDistance, token_strength

LAYOUT = Layout.joint(text=2, grid=(1, 3, 4))
HEADS = 2


@dataclass
class Host:
    hidden: Tensor


def call(hidden: Tensor) -> AttentionCall:
    q, k, v = (torch.randn(1, HEADS, LAYOUT.n, 4, dtype=torch.float64) for _ in range(3))
    return plain_call(q, k, v, layout=LAYOUT, host=Host(hidden))


def rewritten(hidden: Tensor, weight: Tensor) -> Tensor:
    """The bias pair by pair, in units of the longer side."""
    at, image = LAYOUT.coords().double() / 4, LAYOUT.is_("image")
    squared = (at[:, None] - at).square().sum(-1) * image[:, None] * image
    alpha = torch.stack([hidden[..., h * 3 : h * 3 + 3] @ weight for h in range(HEADS)], dim=1)
    return -alpha[..., None] * squared


def test_bias_is_minus_strength_times_squared_distance() -> None:
    hidden, weight = torch.randn(1, LAYOUT.n, 6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    bias = LearnedDistance(weight=weight).pairs(call(hidden), Memory()).bias
    assert bias is not None
    torch.testing.assert_close(bias.materialize(LAYOUT.n, LAYOUT.n), rewritten(hidden, weight), rtol=0, atol=1e-12)


def test_gradients_reach_weight_and_hidden() -> None:
    hidden, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((1, LAYOUT.n, 6), (3,)))
    bias = LearnedDistance(weight=weight).pairs(call(hidden), Memory()).bias
    assert bias is not None
    weigh = torch.randn(1, HEADS, LAYOUT.n, LAYOUT.n, dtype=torch.float64)
    mine = torch.autograd.grad((bias.materialize(LAYOUT.n, LAYOUT.n) * weigh).sum(), (hidden, weight))
    truth = torch.autograd.grad((rewritten(hidden, weight) * weigh).sum(), (hidden, weight))
    for a, b in zip(mine, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_appended_keys_get_no_bias() -> None:
    plain = call(torch.randn(1, LAYOUT.n, 6, dtype=torch.float64))
    k, v = plain.k[:, :, :2], plain.v[:, :, :2]
    grown = plain.append(Segment("memory", "extra", 2), k, v)
    bias = LearnedDistance(weight=torch.ones(3, dtype=torch.float64)).pairs(grown, Memory()).bias
    assert bias is not None
    assert bias.materialize(LAYOUT.n, LAYOUT.n + 2)[..., -2:].eq(0).all()


@pytest.mark.bad_input
def test_a_weight_of_another_width_is_named() -> None:
    with pytest.raises(ValueError, match="weight has 5 entries; 2 heads over 6 channels need 3"):
        token_strength(torch.zeros(1, 4, 6), torch.zeros(5), heads=2)
