"""The pretended cards themselves: what waits is noted, what mixes devices raises, the rest is neither."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.cuda.pretended_device import Cards

WAITING: dict[str, Callable[[Any], Any]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0, 0]),
    "bool": lambda x: bool((x > 0).any()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "a mask as index": lambda x: x[x > 0],
    "a CPU tensor as index": lambda x: x[torch.tensor([0, 1])],
    "numbers to the card": lambda x: torch.tensor([1, 2], device=x.device),
    "repeats by data": lambda x: x.repeat_interleave(x[:, 0].long().abs(), dim=0),
}
FREE: dict[str, Callable[[Any], Any]] = {
    "products": lambda x: (x @ x.mT).softmax(-1),
    "views": lambda x: x[:, None, ::2].expand(-1, 2, -1),
    "made there": lambda x: x + torch.arange(4, device="cuda"),
    "a number of the CPU": lambda x: x * torch.tensor(2.0),
    "a copy that does not wait": lambda x: torch.ones(3).to(x.device, non_blocking=True),
    "in place": lambda x: x.add_(1).masked_fill_(x > 0, 0.0),
}


@pytest.mark.parametrize("name", WAITING)
def test_a_wait_is_noted_with_its_line(cards: Cards, name: str) -> None:
    x = cards.put(torch.randn(3, 4))
    WAITING[name](x)
    assert len(cards.waits) == 1 and "cuda/test_pretended_device.py:" in cards.waits[0]


@pytest.mark.parametrize("name", FREE)
def test_what_waits_for_nothing_is_not_noted(cards: Cards, name: str) -> None:
    found = FREE[name](cards.put(torch.randn(3, 4)))
    assert cards.waits == [] and found.device == torch.device("cuda:0")


@pytest.mark.parametrize("other", ["cpu", "cuda:1"])
def test_mixed_devices_raise(cards: Cards, other: str) -> None:
    with pytest.raises(RuntimeError, match="expected one device, found (cpu and cuda:0|cuda:0 and cuda:1) in add"):
        cards.put(torch.ones(3)).add(torch.ones(3, device=other))


def test_launches_and_values(cards: Cards) -> None:
    x = cards.put(torch.arange(6.0).view(2, 3))
    found = (x.mT[1] * 2 + 1).sum()
    assert cards.launches == 3 and found.held == 12.0
    assert x.to("cuda:1").device.index == 1
