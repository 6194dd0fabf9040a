"""A change of the rotary base is a further rotation."""

from dataclasses import dataclass

import pytest
import torch

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.state import Memory
from saccade.papers.clear.rotary_theta import RotaryTheta
from saccade.seam.rotary import Rotary


@dataclass(frozen=True)
class Host:
    rotary: Rotary


@pytest.mark.parametrize("factor", [0.5, 1.0, 10.0])
def test_equals_rotating_with_the_new_base(factor: float) -> None:
    layout = Layout.joint(text=2, grid=(1, 5, 6))
    ids = layout.coords().clamp(min=0).double()
    table = Rotary(ids, 10_000.0, (4, 8, 8))
    q, k, v = (torch.randn(1, 2, layout.n, 20, dtype=torch.float64) for _ in range(3))
    rotated = [table.turn(x, table.angles()) for x in (q, k)]
    call = plain_call(*rotated, v, layout=layout, host=Host(table))
    changed = RotaryTheta(factor=factor).operands(call, Memory())
    for out, raw in ((changed.q, q), (changed.k, k)):
        expected = table.turn(raw, table.angles(theta=factor * 10_000.0))
        torch.testing.assert_close(out, expected, atol=1e-13, rtol=0)
    assert changed.v is v


def test_text_stays_unturned() -> None:
    layout = Layout.joint(text=2, grid=(1, 3, 3))
    table = Rotary(layout.coords().clamp(min=0).double(), 10_000.0, (2, 4, 4))
    x = torch.randn(1, 1, layout.n, 10, dtype=torch.float64)
    changed = RotaryTheta(factor=10).operands(plain_call(x, x, x, layout=layout, host=Host(table)), Memory())
    assert torch.equal(changed.q[:, :, :2], x[:, :, :2])
    assert (changed.q[:, :, -1] - x[:, :, -1]).abs().max() > 1e-3


def test_a_base_must_be_positive() -> None:
    with pytest.raises(ValueError, match="factor=-1 must be positive; 1 leaves the host's base as it is"):
        RotaryTheta(factor=-1)
