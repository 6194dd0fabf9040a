"""Compiled models, attached and by themselves, give what they give eagerly."""

from typing import Any

import pytest
import torch

from saccade.papers.siamlayout import LayoutStream
from tests.papers.siamlayout.tiny import adapter, host, inputs, layout

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
