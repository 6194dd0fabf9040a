"""Windows alone on tiny models of the real classes, and beside another system."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.masks import Table
from saccade.papers.clear import Clear
from saccade.papers.scale_dit import ScaleDiT
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
GRIDS = {
    "flux": (6, 0, 4, 4),
    "sd3": (0, 6, 4, 4),
    "qwen_image": (6, 0, 4, 5),
    "dit": (0, 0, 4, 4),
}  # text before, after


class ByHand:
    """Two masks by site kind as tables of all pairs."""

    name = "by hand"

    def __init__(self, before: int, after: int, height: int, width: int, reach: int) -> None:
        places: list[Any] = [*itertools.product(range(height), range(width))]
        joint = [None] * before + places + [None] * after
        self.tables = {"joint": self.table(joint, reach), "self": self.table(places, reach)}

    @staticmethod
    def table(places: list[Any], reach: int) -> Table:
        allow = [[a is None or b is None or max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= reach for b in places]
                 for a in places]  # fmt: skip
        return Table(torch.arange(len(places)), torch.arange(len(places)), torch.tensor(allow))

    def plan(self, site: Any, clock: Any) -> tuple[Table, ...]:
        return (self.tables[site.kind],)


@pytest.mark.parametrize("name", GRIDS)
def test_windows_are_where_the_host_puts_its_image_tokens(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    dense: Tensor = output(model, inputs)
    with attach(model, ByHand(*GRIDS[name], reach=1)):
        expected = output(model, inputs)
    with attach(model, ScaleDiT(window=2)):
        out = output(model, inputs)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    assert (out - dense).abs().max() > 1e-4
    with attach(model, ScaleDiT(window=16)):
        assert torch.equal(output(model, inputs), dense)
    assert torch.equal(output(model, inputs), dense)


def test_beside_another_system_a_pair_must_pass_both() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, ByHand(6, 0, 4, 4, reach=1), Clear(radius=1.2)):
        expected = output(model, inputs)
    with attach(model, ScaleDiT(window=2), Clear(radius=1.2)):
        both = output(model, inputs)
    with attach(model, ScaleDiT(window=2)):
        alone = output(model, inputs)
    torch.testing.assert_close(both, expected, atol=1e-6, rtol=1e-5)
    assert (both - alone).abs().max() > 1e-5
