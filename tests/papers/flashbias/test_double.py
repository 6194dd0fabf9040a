"""On a host in double precision a bias is exact to 1e-12, factored or dense, at any seam."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.papers.flashbias import Alibi, BiasTable, Cosine, FlashBias, SpatialDistance
from saccade.papers.flashbias.prior_bias import prior_tokens
from tests.hosts.tiny import BY_NAME, output

GRID = (1, 5, 6)
LAYOUT = Layout.joint(text=4, grid=GRID)
TABLE = torch.randn(2, 30, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
PRIORS: dict[str, Any] = {
    "distance": SpatialDistance(strength=(0.7, 1.3), unit="token"), "order": Alibi(slopes=(0.1, 0.3)),
    "wave": Cosine(period=3.7, axis="x") * SpatialDistance(), "dense": BiasTable(values=TABLE, max_rank=4),
    "sum": Alibi(slopes=(0.1, 0.3)) + BiasTable(values=TABLE, max_rank=4),
}  # fmt: skip


class Attending(nn.Module):
    """Attention over operands that are given."""

    num_heads = 2

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


@pytest.mark.filterwarnings("ignore:.*kept dense|.*dense")
@pytest.mark.parametrize("name", PRIORS)
def test_a_host_in_double_precision_is_not_narrowed(name: str) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, LAYOUT.n, 8, dtype=torch.float64)
    image = LAYOUT.is_("image")
    tokens = prior_tokens(LAYOUT, "image")
    bias = torch.zeros(1, 2, LAYOUT.n, LAYOUT.n, dtype=torch.float64)
    bias[:, :, image.nonzero(), image.nonzero().T] = PRIORS[name].bias(tokens, tokens, 2).materialize(30, 30).double()
    with attach(model := Attending(), FlashBias(prior=PRIORS[name]), layout=LAYOUT):
        out = model(q, k, v)
        single = model(*(x.float() for x in (q, k, v)))
    exact = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    assert out.dtype == torch.float64 and (out - exact).abs().max() < 1e-12
    assert single.dtype == torch.float32 and (single - exact).abs().max() < 1e-4


@pytest.mark.host
def test_a_model_of_diffusers_in_double_precision() -> None:
    model, inputs = BY_NAME["sd3"].build()
    model, inputs = model.double(), {k: v.double() if torch.is_tensor(v) else v for k, v in inputs.items()}
    split, whole = (FlashBias(prior=SpatialDistance(strength=3.0), split_columns=flag) for flag in (True, False))
    with attach(model, split):
        a = output(model, inputs)
    with attach(model, whole):
        b = output(model, inputs)
    assert a.dtype == torch.float64 and (a - b).abs().max() < 1e-12
