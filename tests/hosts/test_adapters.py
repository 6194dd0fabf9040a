"""Terms that a system adds to a host's projections: what they do, and that they leave with the system."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.errors import SilentSiteError
from saccade.core.mechanism import PlanItem
from saccade.core.projections import LowRankTerm
from saccade.core.site import Site, at
from saccade.mechanisms.low_rank import LowRank
from tests.hosts.stand_ins import Masked
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
PATHS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True)
class Adapted:
    """A system of an adapter alone."""

    adapter: LowRank = field(hash=False)
    name: str = "adapted"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.adapter,)


def adapter(model: Any, rank: int = 3, seed: int = 0, paths: tuple[str, ...] = PATHS) -> LowRank:
    with attach(model) as run:
        sites = run.sites
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = LowRank.fresh(model, sites, paths, rank)
        for up in made.up.values():
            nn.init.normal_(up, std=0.3)
    return made


@torch.no_grad()
def merged(model: nn.Module, made: LowRank) -> nn.Module:
    """The same sums in the weights themselves."""
    for site, path in made.names:
        down, up = made.at((site, path))
        model.get_submodule(f"{site}.{path}").weight += up @ down
    return model


@pytest.mark.parametrize("name", ["flux", "sd3", "qwen_image", "pixart", "wan"])
def test_terms_are_what_they_would_be_in_the_weights_and_detach_is_bitwise(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    before, weights = output(model, inputs), {k: v.clone() for k, v in model.state_dict().items()}
    made = adapter(model)
    with attach(model, Adapted(made)):
        out = output(model, inputs)
    assert (out - before).abs().max() > 1e-3
    assert torch.equal(output(model, inputs), before)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    torch.testing.assert_close(out, output(merged(model, made), inputs), atol=2e-5, rtol=1e-4)


def test_fresh_terms_add_nothing_and_learn() -> None:
    model, inputs = BY_NAME["flux"].build()
    before = output(model, inputs)
    with attach(model) as run:
        made = LowRank.fresh(model, run.sites, PATHS, 2)
    model.requires_grad_(False)
    with attach(model, Adapted(made)):
        torch.testing.assert_close(output(model, inputs), before, atol=0, rtol=0)
        model(**inputs)[0].square().sum().backward()
    assert all(up.grad is not None and up.grad.abs().max() > 0 for up in made.up.values())
    assert all(p.grad is None for p in model.parameters())


def test_gradients_are_those_of_terms_in_the_weights() -> None:
    model, inputs = BY_NAME["flux"].build()
    made = adapter(model)
    with attach(model, Adapted(made)):
        model(**inputs)[0].square().sum().backward()
    found = {name: made.at(name).up.grad for name in made.names}
    down = {name: made.at(name).down.detach() for name in made.names}
    model.zero_grad()
    merged(model, made)(**inputs)[0].square().sum().backward()
    for site, path in made.names:
        full: Tensor = model.get_submodule(f"{site}.{path}").weight.grad
        torch.testing.assert_close(found[site, path], full @ down[site, path].T, atol=1e-4, rtol=1e-3)


def test_terms_of_two_systems_add_up_in_any_order() -> None:
    model, inputs = BY_NAME["flux"].build()
    one, two = Adapted(adapter(model)), Adapted(adapter(model, seed=1), "other")
    with attach(model, one, two):
        out = output(model, inputs)
    with attach(model, two, one):
        torch.testing.assert_close(output(model, inputs), out, atol=1e-5, rtol=1e-4)
    both = merged(merged(model, one.adapter), two.adapter)
    torch.testing.assert_close(output(both, inputs), out, atol=2e-5, rtol=1e-4)


def test_they_work_beside_masks_and_at_chosen_sites_only() -> None:
    model, inputs = BY_NAME["flux"].build()
    made = adapter(model)
    with attach(model, Masked(), Adapted(made)):
        out = output(model, inputs)
    with attach(model, Adapted(made), where=at("single*")):
        single = output(model, inputs)
    twin, _ = BY_NAME["flux"].build()
    with attach(merged(twin, made), Masked()):
        torch.testing.assert_close(output(twin, inputs), out, atol=2e-5, rtol=1e-4)
    assert (single - out).abs().max() > 1e-4


class Beside(nn.Module):
    """A projection with a term of its own, as loaders of LoRA put it in the projection's place."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.in_features, self.out_features = base, base.in_features, base.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 0.1 * x


@pytest.mark.parametrize("before", [True, False], ids=["loaded before", "loaded while attached"])
def test_they_go_beside_terms_that_are_loaded_into_the_model(before: bool) -> None:
    model, inputs = BY_NAME["flux"].build()
    made, attn = adapter(model), model.transformer_blocks[0].attn
    linear = attn.to_q
    if before:
        attn.to_q = Beside(linear)
    with attach(model, Adapted(made)):
        output(model, inputs)
        attn.to_q = Beside(linear) if not before else attn.to_q
        out = output(model, inputs)
    attn.to_q = linear
    merged(model, made)
    attn.to_q = Beside(linear)
    torch.testing.assert_close(out, output(model, inputs), atol=2e-5, rtol=1e-4)


def test_half_precision_hosts_get_terms_of_their_own_type() -> None:
    model, inputs = BY_NAME["flux"].build()
    made = adapter(model).requires_grad_(False)
    with attach(model, Adapted(made)):
        exact = output(model, inputs)
    half = {k: v.bfloat16() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in inputs.items()}
    with attach(model.bfloat16(), Adapted(made)):
        out = output(model, half)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.1, rtol=0.1)


def test_a_checkpointed_block_runs_again_with_its_terms() -> None:
    model, inputs = BY_NAME["flux"].build()
    made, grads = adapter(model), []
    for checkpointing in (False, True):
        if checkpointing:
            model.train().enable_gradient_checkpointing()
        with attach(model, Adapted(made)):
            model(**inputs)[0].square().sum().backward()
        grads.append([p.grad.clone() for p in made.parameters()])
        made.zero_grad()
    for plain, again in zip(*grads, strict=True):
        torch.testing.assert_close(again, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.compile
def test_compiled_agrees_with_eager_and_the_model_gets_its_graph_back() -> None:
    torch._dynamo.reset()
    model, inputs = BY_NAME["flux"].shallow()
    made = adapter(model).requires_grad_(False)
    plain = output(model, inputs)
    with attach(model, Adapted(made)):
        eager = output(model, inputs)
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(output(outer, inputs), plain, rtol=1e-5, atol=1e-5)
    for _ in range(2):
        with attach(outer, Adapted(made)):
            torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output(outer, inputs), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.compile
def test_blocks_compiled_alike_share_a_graph() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model, inputs = BY_NAME["flux"].build()
    made = adapter(model).requires_grad_(False)
    with attach(model, Adapted(made)):
        eager = output(model, inputs)
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    with attach(model, Adapted(made)):
        torch.testing.assert_close(output(model, inputs), eager, rtol=1e-5, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 3  # double stream, and single stream over tokens of two strides


@pytest.mark.bad_input
def test_what_does_not_fit_is_refused_when_attached() -> None:
    model, _ = BY_NAME["flux"].build()
    other = LowRankTerm(torch.zeros(2, 8), torch.zeros(8, 2))
    site = "transformer_blocks.0.attn"

    def refused(made: LowRank, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            attach(model, Adapted(made))
        assert not any(module._forward_hooks for module in model.modules())

    refused(
        LowRank({(site, "to_q"): other}, title="small", mend="mend it"),
        r"LowRank\('small', 1 projections, rank 2\) adds 8 -> 8 channels to 'to_q' of 'transformer_blocks.0.attn', "
        r"which has 32 -> 32 there; mend it",
    )
    refused(LowRank({(site, "to_p"): other}), r"'to_p' of .*, which has no such linear; train one for this model")
    refused(LowRank({("elsewhere", "to_q"): other}), r"has no terms for site 'transformer_blocks.0.attn'; train one")


@pytest.mark.bad_input
def test_fused_projections_and_chosen_heads_are_refused() -> None:
    model, inputs = BY_NAME["flux"].build()
    made = Adapted(adapter(model))
    with attach(model, made, where=at(heads=(0,))):
        with pytest.raises(ValueError, match=r"adds to all heads of .*; attach without choosing heads"):
            output(model, inputs)
    model.fuse_qkv_projections()
    with pytest.raises(SilentSiteError, match=r"are fused, so 'to_q' is not run .*; call unfuse_qkv_projections\(\)"):
        with attach(model, made):
            output(model, inputs)


@pytest.mark.bad_input
def test_terms_need_a_rank_and_a_projection() -> None:
    model, _ = BY_NAME["flux"].build()
    with pytest.raises(ValueError, match=r"rank=0 must be at least 1"):
        LowRank.fresh(model, ["transformer_blocks.0.attn"], PATHS, 0)
    with pytest.raises(ValueError, match=r"paths=\('to_z',\) name no projection of transformer_blocks.0.attn; name"):
        LowRank.fresh(model, ["transformer_blocks.0.attn"], ["to_z"], 2)
