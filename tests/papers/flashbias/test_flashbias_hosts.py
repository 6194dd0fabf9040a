"""FlashBias on real host classes: the factored prior does to a model what the same bias, written out, does."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.biases import Bias, BiasRule, DenseBias
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site
from saccade.papers.flashbias import Alibi, Cosine, FactoredBias, FlashBias, LearnedDistance, SpatialDistance
from saccade.papers.flashbias.priors import Prior
from tests.hosts.tiny import BY_NAME, HOSTS, TEXTS, TRANSFORMERS, Host, attach_options, output

pytestmark = pytest.mark.host
NAMED = [BY_NAME[name] for name in ("flux", "sd3", "pixart")]
three_hosts = pytest.mark.parametrize("host", NAMED, ids=lambda host: host.name)


def prior_of(host: Host) -> Prior:
    """A prior over places whose strength differs by head."""
    heads = 4 if host in TRANSFORMERS else 2
    return SpatialDistance(strength=(20.0, 5.0) * (heads // 2)) + Cosine(period=3.0, axis="x")


@dataclass(frozen=True)
class WrittenOut(BiasRule):
    """The same bias as an n x m map."""

    rule: BiasRule

    def bind(
        self, layout_q: Layout, layout_k: Layout, heads: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Bias:
        return DenseBias(self.rule.bind(layout_q, layout_k, heads, device, dtype).materialize(layout_q.n, layout_k.n))


@dataclass(frozen=True)
class DenseTwin:
    """FlashBias without its factors."""

    system: FlashBias
    name: str = "dense_twin"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return tuple(WrittenOut(rule) for rule in self.system.plan(site, clock) if isinstance(rule, BiasRule))


def under(system: Any, host: Host) -> Tensor:
    model, inputs = host.build()
    with attach(model, system, **attach_options(host)):
        return output(model, inputs)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_factors_equal_the_bias_written_out(host: Host) -> None:
    system = FlashBias(prior=Alibi(), tokens="text") if host in TEXTS else FlashBias(prior=prior_of(host))
    model, inputs = host.build()
    before, out = output(model, inputs), under(system, host)
    torch.testing.assert_close(out, under(DenseTwin(system), host), rtol=1e-4, atol=1e-5)
    assert (out - before).abs().max() > 1e-4


@three_hosts
def test_strength_zero_is_bitwise_the_host(host: Host) -> None:
    model, inputs = host.build()
    assert torch.equal(under(FlashBias(prior=SpatialDistance(strength=0.0)), host), output(model, inputs))


@three_hosts
def test_weaker_priors_come_closer_to_the_host(host: Host) -> None:
    model, inputs = host.build()
    before = output(model, inputs)
    gaps = [(under(FlashBias(prior=SpatialDistance(strength=s)), host) - before).norm().item() for s in (3, 0.3, 0.03)]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0


@three_hosts
def test_other_priors_run_on_image_tokens(host: Host) -> None:
    system = FlashBias(prior=Alibi(), where=EVERYWHERE)
    torch.testing.assert_close(under(system, host), under(DenseTwin(system), host), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["flux", "sd3", "pixart"])
def test_a_learned_strength_reads_what_enters_the_attention(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    before = output(model, inputs)
    weight = torch.full((16,), 0.5, requires_grad=True)
    with attach(model, FlashBias(prior=LearnedDistance(weight=weight))):
        result = model(**inputs)[0]
        result.square().sum().backward()
    assert (result - before).abs().max() > 1e-5
    assert weight.grad is not None and weight.grad.abs().max() > 0


class Biased(nn.Module):
    """Attention that passes a learned bias as its mask, the way window attention does."""

    def __init__(self, width: int, heads: int, n: int, sharp: bool) -> None:
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        at = torch.linspace(-1, 1, n)
        smooth = -((at[:, None] - at) ** 2) * torch.tensor([1.0, 4.0])[:, None, None]
        self.register_buffer("bias", (8 * torch.eye(n) + smooth if sharp else smooth)[None])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias).transpose(1, 2).flatten(2)


def test_a_bias_the_host_passes_is_factored_in_place() -> None:
    torch.manual_seed(0)
    model, x = Biased(16, 2, 36, sharp=False), torch.randn(2, 36, 16)
    before = model(x)
    with attach(model, FlashBias(prior=FactoredBias(energy=1.0)), layout=Layout.image_only((1, 6, 6)), heads=2):
        torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)


def test_a_host_bias_of_high_rank_stays_dense_and_says_why() -> None:
    torch.manual_seed(0)
    model, x = Biased(16, 2, 36, sharp=True), torch.randn(2, 36, 16)
    before = model(x)
    with attach(model, FlashBias(prior=FactoredBias()), layout=Layout.image_only((1, 6, 6)), heads=2):
        with pytest.warns(UserWarning, match="is kept dense: heads .* need more than max_rank=16"):
            out = model(x)
    torch.testing.assert_close(out, before, rtol=1e-5, atol=1e-6)


def test_text_where_a_place_is_needed_is_refused() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, FlashBias(tokens="*")):
        with pytest.raises(ValueError, match="a prior on the grid meets tokens without one .*choose tokens='image'"):
            output(model, inputs)


@pytest.mark.compile
@pytest.mark.parametrize(
    "prior", [prior_of(BY_NAME["flux"]), LearnedDistance(weight=torch.full((16,), 0.5))], ids=["fixed", "learned"]
)
def test_compiled_agrees_with_eager(prior: Any) -> None:
    model, inputs = BY_NAME["flux"].shallow()
    with attach(model, FlashBias(prior=prior)):
        eager = output(model, inputs)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with attach(compiled, FlashBias(prior=prior)):
        torch.testing.assert_close(output(compiled, inputs), eager, rtol=1e-4, atol=1e-5)
