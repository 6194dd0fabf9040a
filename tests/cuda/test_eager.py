"""Warm eager calls on CUDA wait for nothing and mix no devices."""

from typing import Any

import pytest
import torch

from saccade.core.biases import Bias, LowRank, PerKey
from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding, Mask, OnHeads
from saccade.core.places import Disc
from saccade.ops import attend
from tests.cuda.pretended_device import Cards
from tests.ops.cases import block_mask, error, operands, padding

LAYOUT = Layout.joint(text=12, grid=(1, 16, 16))
N = LAYOUT.n
MASKS = {
    "disc": Disc(4.0),
    "some heads": OnHeads(Disc(4.0), (0,), 2),
    "table": block_mask(N, N, size=64),
    "padded": Disc(4.0) & padding(1, N),
}


def call(
    cards: Cards, mask: Mask | None, bias: Bias | None = None, device: str = "cuda:0", **how: object
) -> AttentionCall:
    q, k, v = (cards.put(x, device) for x in operands(1, 2, how.pop("hk", 2), N, N, 16, 16, torch.bfloat16))
    return plain_call(q, k, v, layout=LAYOUT, mask=mask, bias=bias, **how)


def on_cpu(at: AttentionCall, mask: Mask | None = None, bias: Bias | None = None) -> AttentionCall:
    q, k, v = (x.held for x in (at.q, at.k, at.v))
    return at.replace(q=q, k=k, v=v, mask=mask, bias=bias)


def factors(cards: Cards | None) -> LowRank:
    g = torch.Generator().manual_seed(0)
    phi = [torch.randn(1, 2, N, 3, generator=g), torch.randn(1, 1, N, 3, generator=g)]
    return LowRank(*(x if cards is None else cards.put(x) for x in phi))


def warm(cards: Cards, at: AttentionCall, **how: object) -> tuple[Any, Any]:
    """Output and lse of a second call like the first, which may wait for nothing."""
    attend(at, **how)
    cards.reset()
    found = attend(at, **how)
    assert cards.waits == []
    return found.out, found.lse


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("disc", "gather"),
        ("some heads", "gather"),
        ("some heads", "sdpa"),
        ("table", "sdpa"),
        ("padded", "gather"),
        ("padded", "sdpa"),
    ],
)
def test_a_warm_call_waits_for_nothing(cards: Cards, name: str, kernel: str) -> None:
    mask = MASKS[name]
    if name == "padded":
        mask = Disc(4.0) & KeyPadding(cards.put(padding(1, N).keep))
    at = call(cards, mask)
    out, lse = warm(cards, at, kernel=kernel, want_lse=True)
    true = attend(on_cpu(at, MASKS[name]), kernel="reference", want_lse=True)
    assert out.device == torch.device("cuda:0")
    assert error(out.held, true.out) < 0.02 and error(lse.held, true.lse) < 0.02


@pytest.mark.parametrize("kernel", ["gather", "sdpa"])
def test_factored_biases_and_grouped_heads_wait_for_nothing(cards: Cards, kernel: str) -> None:
    values = torch.linspace(-1, 1, N)[None, None]
    bias = factors(cards) + PerKey(cards.put(values))
    at = call(cards, Disc(4.0), bias, hk=1)
    out, _ = warm(cards, at, kernel=kernel)
    true = attend(on_cpu(at, Disc(4.0), factors(None) + PerKey(values)), kernel="reference")
    assert error(out.held, true.out) < 0.05


@pytest.mark.parametrize("kernel", ["gather", "sdpa"])
def test_a_plan_made_for_one_card_serves_the_other(cards: Cards, kernel: str) -> None:
    first, second = (call(cards, Disc(4.0), device=f"cuda:{i}") for i in range(2))
    outs = [attend(at, kernel=kernel).out for at in (first, second)]
    assert [x.device.index for x in outs] == [0, 1]
    assert error(outs[0].held, outs[1].held) == 0
