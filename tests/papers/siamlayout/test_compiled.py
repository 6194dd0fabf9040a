"""Compiled models, attached and by themselves, give what they give eagerly."""

from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.papers.siamlayout import LayoutAdapter, LayoutStream, SiamLayout, captioned, encode_layout
from tests.papers.siamlayout.tiny import adapter, host, inputs, layout
from tests.tiny_flux import tiny_flux

pytestmark = [pytest.mark.host, pytest.mark.compile, pytest.mark.slow]


@pytest.mark.parametrize(("kind", "variant"), [("sd3", "siamese"), ("flux", "m3")])
@torch.no_grad()
def test_a_compiled_transformer_carries_a_layout(kind: str, variant: Any) -> None:
    model = host(kind)
    made = adapter(model, variant=variant)
    with LayoutStream(model, made) as stream, stream.holding(layout(kind)):
        eager = model(**inputs(kind))[0]
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager")(**inputs(kind))[0]
    torch.testing.assert_close(compiled, eager)
    assert torch.equal(model(**inputs(kind))[0], host(kind)(**inputs(kind))[0])


@torch.no_grad()
def test_a_pipeline_with_a_compiled_transformer_draws_the_same() -> None:
    pipe = tiny_flux()
    made = LayoutAdapter.of(pipe.transformer)
    for branch in (*made.double_blocks, *made.single_blocks):
        branch.out.weight.normal_(std=0.2)  # type: ignore[union-attr, operator]
    asked = captioned(["a red circle"], [(0.0, 0.0, 0.5, 0.5)])
    system = SiamLayout(adapter=made, layout=encode_layout(pipe, [asked], words=4, padded=8), until=0.5)
    found = []
    for compiled in (False, True):
        if compiled:
            torch._dynamo.reset()
            pipe.transformer = torch.compile(pipe.transformer, backend="eager")
        with attach(pipe, system):
            found.append(pipe(
                "a red circle", height=32, width=32, num_inference_steps=6, max_sequence_length=8,
                generator=torch.Generator().manual_seed(0), output_type="latent",
            ).images)  # fmt: skip
    torch.testing.assert_close(found[1], found[0])
