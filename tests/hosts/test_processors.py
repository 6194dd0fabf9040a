"""Modules of diffusers that no family knows, whose attention is in a processor: the layout is given by hand."""

from typing import Any

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.transformers.transformer_flux import FluxAttention
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from torch import nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.errors import SelectorError
from saccade.core.layout import Layout
from saccade.core.site import at
from tests.hosts.stand_ins import Masked, Same
from tests.hosts.test_unet import unet
from tests.hosts.tiny import output

pytestmark = pytest.mark.host
IMAGE = Layout.image_only((1, 4, 4))
ONE: dict[str, Any] = {
    "plain": lambda: Attention(query_dim=16, heads=2, dim_head=8),
    "flux": lambda: FluxAttention(query_dim=16, heads=2, dim_head=8, bias=True),
    "wan": lambda: WanAttention(dim=16, heads=2, dim_head=8, processor=WanAttnProcessor()),
    "block": lambda: BasicTransformerBlock(16, 2, 8),
}


@pytest.mark.parametrize("name", ONE)
def test_one_attention_module_is_attached_by_its_layout(name: str) -> None:
    torch.manual_seed(0)
    model, x = ONE[name]().eval(), torch.randn(2, 16, 16)
    plain = output(model, {"hidden_states": x})
    processors = [m.processor for m in model.modules() if hasattr(m, "processor")]
    with attach(model, Same(), layout=IMAGE) as run:
        torch.testing.assert_close(output(model, {"hidden_states": x}), plain, rtol=1e-4, atol=1e-5)
    assert [site.heads for site in run.sites] == [2]
    with attach(model, Masked(), layout=IMAGE):
        assert (output(model, {"hidden_states": x}) - plain).abs().max() > 1e-4
    assert torch.equal(output(model, {"hidden_states": x}), plain)
    assert [m.processor for m in model.modules() if hasattr(m, "processor")] == processors


class Both(nn.Module):
    """Attention by hand, then a module of diffusers."""

    num_heads = 2

    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention(query_dim=16, heads=2, dim_head=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q = x.unflatten(-1, (2, 8)).transpose(1, 2)
        return self.attn(F.scaled_dot_product_attention(q, q, q).transpose(1, 2).flatten(2))


def test_attention_by_hand_and_by_a_processor_are_sites_of_one_model() -> None:
    torch.manual_seed(0)
    model, x = Both().eval(), torch.randn(2, 16, 16)
    plain = output(model, {"x": x})
    with attach(model, Same(), layout=IMAGE) as run:
        torch.testing.assert_close(output(model, {"x": x}), plain, rtol=1e-4, atol=1e-5)
    assert [site.name for site in run.sites] == ["self", "attn"]
    assert {site.calls for site in run.report().sites} == {1}


def test_a_class_of_diffusers_that_no_family_knows_is_attached_where_the_layout_fits() -> None:
    model, inputs = unet()
    plain = output(model, inputs)
    with attach(model, Same(), layout=IMAGE):
        with pytest.raises(ValueError, match=r"does not fit this forward: choose the sites it fits by where=at\(...\)"):
            output(model, inputs)
    whole = Layout.image_only((1, 8, 4))
    with attach(model, Masked(), layout=whole, where=at("down_blocks.0*attn1")) as run:
        assert not torch.allclose(output(model, inputs), plain)
    assert len(run.sites) == 1
    assert torch.equal(output(model, inputs), plain)


@pytest.mark.bad_input
def test_what_has_no_attention_that_is_seen_is_named() -> None:
    by_hand = Attention(query_dim=16, heads=2, dim_head=8, processor=AttnProcessor())
    with pytest.raises(
        SelectorError, match=r"no processor of Attention \(AttnProcessor\) calls scaled_dot_product_att"
    ):
        attach(by_hand, Same(), layout=IMAGE)
    with pytest.raises(SelectorError, match="no code of Linear calls scaled_dot.*so there are no attention sites; att"):
        attach(nn.Linear(2, 2), Same(), layout=IMAGE)


@pytest.mark.bad_input
def test_an_unknown_class_is_told_the_ways_there_are() -> None:
    newer = type("FluxTransformer9DModel", (nn.Module,), {})
    ways = r"layout=Layout\(...\) where.*family=FLUX \(of sacc.*replace\(FLUX, classes=\('FluxTransformer9DModel',\)"
    with pytest.raises(ValueError, match=f"knows FluxTransformer9DModel; .*FluxTransformer2DModel.* among.*{ways}"):
        attach(newer(), Same())
