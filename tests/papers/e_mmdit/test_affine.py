"""One modulation for all blocks of SD3: exact where it can be, small, trained, undone."""

from typing import Any

import pytest
import torch
from torch import nn

from saccade.papers.e_mmdit.affine import share_modulation
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
SITES = ("transformer_blocks.0.norm1_context.linear", "transformer_blocks.1.norm1.linear")  # 6 vectors, tiny SD3


def _sd3() -> tuple[nn.Module, dict[str, Any]]:
    return BY_NAME["sd3"].build()


def test_exact_where_blocks_differ_by_factors_of_their_rows() -> None:
    model, inputs = _sd3()
    first, second = (model.get_submodule(name) for name in SITES)
    with torch.no_grad():
        second.weight.copy_(first.weight * torch.rand(192, 1).add(0.5))
        dense = output(model, inputs)
        with share_modulation(model) as shared:
            assert tuple(shared.replaced) == SITES
            torch.testing.assert_close(output(model, inputs), dense, atol=1e-6, rtol=1e-5)
            shared.parts[1].table.scale.zero_()
            assert not torch.allclose(output(model, inputs), dense, atol=1e-4)
        assert torch.equal(output(model, inputs), dense) and model.get_submodule(SITES[0]) is first


def test_each_row_is_fitted_best() -> None:
    model, _ = _sd3()
    own = model.get_submodule(SITES[1]).weight.detach()
    with share_modulation(model) as shared:
        layer, table = shared.parts[0].weight.detach(), shared.parts[2].table
        best = torch.stack(
            [torch.linalg.lstsq(s[:, None], w[:, None]).solution[0] for s, w in zip(layer, own, strict=True)]
        )
        torch.testing.assert_close(1 + table.scale.detach().flatten(), best[:, 0], atol=1e-4, rtol=1e-4)


def test_the_parts_are_small_and_learn() -> None:
    model, inputs = _sd3()
    with share_modulation(model) as shared:
        assert [sum(p.numel() for p in part.parameters()) for part in shared.parts] == [6 * 32 * 33, 12 * 32, 12 * 32]
        model(**inputs)[0].square().sum().backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in shared.parts.parameters())


def test_nothing_to_replace() -> None:
    with pytest.raises(ValueError, match=r"sites='transformer_blocks.\*.norm9' match no linear layer of six vectors"):
        share_modulation(_sd3()[0], sites="transformer_blocks.*.norm9")
