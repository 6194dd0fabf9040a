"""Maps a host passes itself, in every shape its own attention takes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.core.site import at
from saccade.papers.flashbias import Alibi, FlashBias
from tests.hosts.stand_ins import Masked, Near, Same
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
B, H, N, D = 2, 3, 7, 4
SHAPES = ((N, N), (H, N, N), (1, N, N), (H, 1, N), (1, N), (B, H, N, N), (B, 1, 1, N), (1, H, N, 1), (N, 1))
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


class Biased(nn.Module):
    """A plain module with a map of its own."""

    num_heads = H

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x + 1, x * 2, attn_mask=mask)


def given(shape: tuple[int, ...], kind: str) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x, bias = torch.randn(B, H, N, D), torch.randn(shape)
    if kind == "additive":
        return x, bias
    mask = bias > -0.5
    return x, mask if shape[-1] == 1 else mask | (torch.arange(N) == 0)  # each query keeps a key


@pytest.mark.parametrize("kind", ["additive", "boolean"])
@every_shape
def test_every_shape_that_broadcasts_is_taken(shape: tuple[int, ...], kind: str) -> None:
    x, mask = given(shape, kind)
    if kind == "boolean" and shape[-1] == 1:
        mask = torch.ones_like(mask)
    model = Biased()
    plain = model(x, mask)
    with attach(model, Same(), layout=Layout.plain(N)):
        torch.testing.assert_close(model(x, mask), plain, rtol=1e-5, atol=1e-6)
    with attach(model, Same(), layout=Layout.plain(N), where=at(heads=(0, 2))):
        torch.testing.assert_close(model(x, mask), plain, rtol=1e-5, atol=1e-6)


@every_shape
def test_a_hosts_bias_adds_to_a_systems_mask_and_bias(shape: tuple[int, ...]) -> None:
    x, bias = given(shape, "additive")
    model, order = Biased(), torch.arange(N)
    own = torch.tensor([0.5, 0.25, 0.125])[:, None, None] * (order - order[:, None])
    near = torch.zeros(N, N).masked_fill((order - order[:, None]).abs() >= 3, -torch.inf)
    whole = bias + own + near
    prior = FlashBias(prior=Alibi(slopes=(0.5, 0.25, 0.125)), tokens="*")
    with attach(model, Masked(Near(3)), prior, layout=Layout.plain(N)):
        torch.testing.assert_close(model(x, bias), Biased()(x, whole), rtol=1e-5, atol=1e-6)


def test_diffusers_reads_two_dimensions_as_batch_and_keys() -> None:
    model, inputs = BY_NAME["flux"].build()
    keep = torch.ones(2, 22, dtype=torch.bool)
    keep[0, 3:6] = keep[1, :2] = False
    for mask in (keep, torch.where(keep, 0.0, -4.0)):
        masked: dict[str, Any] = {**inputs, "joint_attention_kwargs": {"attention_mask": mask}}
        plain = output(model, masked)
        assert not torch.allclose(plain, output(model, inputs))
        with attach(model, Same()):
            torch.testing.assert_close(output(model, masked), plain, rtol=1e-4, atol=1e-5)
    square = torch.rand(22, 22) > 0.3
    masked = {**inputs, "joint_attention_kwargs": {"attention_mask": square | torch.eye(22, dtype=torch.bool)}}
    plain = output(model, masked)
    with attach(model, Same()):
        torch.testing.assert_close(output(model, masked), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.bad_input
@pytest.mark.parametrize("shape", [(N + 1, N), (H + 1, N, N), (B + 1, 1, 1, N), (1, 1, 1, N, N), (N, N + 1)], ids=str)
def test_a_shape_that_does_not_broadcast_is_refused(shape: tuple[int, ...]) -> None:
    x, model = torch.randn(B, H, N, D), Biased()
    with attach(model, Same(), layout=Layout.plain(N)):
        with pytest.raises(ValueError, match=r"attn_mask \(.*\) at site 'self' does not broadcast to \(batch 2, heads"):
            model(x, torch.randn(shape))
