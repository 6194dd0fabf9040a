"""The kernel in Triton on a pretended card: chosen first, and around its launch a warm call waits for nothing."""

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding, lower
from saccade.ops import attend, choose
from tests.cuda.pretended_device import Cards
from tests.ops import cases
from tests.ops.cases import operands

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")


def test_a_warm_call_waits_nowhere_and_hands_over_what_lies_on_the_card(
    cards: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saccade.ops.triton_kernel import operator

    handed: list[Any] = []

    def launched(q: Any, k: Any, v: Any, keep: Any, lists: Any, *rest: Any) -> tuple[Any, Any]:
        handed.append((q, k, v, keep, lists.forward.cols, lists.bits))
        return q, q[..., 0]

    monkeypatch.setattr(operator, "attend_blocks", launched)
    layout = Layout.plain(1280)
    mask = lower(cases.block_mask(1280, 1280, keep=0.05, size=128), layout, layout, "cuda")
    assert mask is not None
    keep = cards.put(torch.arange(1280)[None] < 1200)
    at = plain_call(*(cards.put(x) for x in operands(1, 1, 1, 1280, 1280, 8, 8, torch.bfloat16)), mask=mask)
    at = at.replace(mask=mask & KeyPadding(keep))
    assert choose(at).kernel == "triton"
    attend(at)
    cards.reset()
    attend(at)
    assert cards.waits == []
    assert {x.device.type for x in handed[-1]} == {"cuda"} and handed[-1][3].shape == (1, 1280)
