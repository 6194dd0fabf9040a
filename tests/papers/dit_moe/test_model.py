"""DiT-MoE: published sizes and costs, official names, upcycling, experts in a host."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, PixArtTransformer2DModel
from diffusers.models.attention import FeedForward
from torch import Tensor

from saccade.models import Architecture, DiT
from saccade.models.macs import macs
from saccade.nn.embedders import unpatchify
from saccade.nn.moe import MoE
from saccade.nn.part import TokenPositions
from saccade.papers import DiTMoE
from saccade.papers.dit_moe.host_experts import balance_losses, put_experts_
from saccade.papers.dit_moe.model import SIZES, DiTMoEConfig, token_macs
from saccade.papers.dit_moe.upcycling import upcycle
from tests.tiny_sd3 import tiny_sd3

TINY = DiTMoEConfig(depth=2, width=32, heads=2, side=8, channels=3, classes=5, experts=4)
DENSE = {name: getattr(TINY, name) for name in ("depth", "width", "heads", "side", "channels", "classes")}
COUNTS = {
    "S/2-8E2A": (199_307_552, 71_905_568),
    "S/2-16E2A": (369_213_728, 71_942_432),
    "B/2-8E2A": (795_861_536, 286_253_600),
    "L/2-8E2A": (2_823_764_000, 1_011_824_672),
    "XL/2-8E2A": (4_168_164_128, 1_492_722_464),
    "G/2-16E2A": (16_503_717_152, 3_181_559_072),
}
LIGHT, HEAVY = [*COUNTS][:3], [*COUNTS][3:]  # to build, if only without memory
GIGAFLOPS = {"S/2-8E2A": 15.43, "S/2-16E2A": 15.44, "B/2-8E2A": 61.68, "L/2-8E2A": 219.26, "XL/2-8E2A": 323.74,
             "G/2-16E2A": 690.94}  # fmt: skip  # published; products of attention are not counted


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(3, 3, 8, 8), torch.rand(3), torch.tensor([0, 4, 5])


def _stirred(model: torch.nn.Module) -> Any:
    """Weights that are no longer zero anywhere."""
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


@pytest.mark.parametrize("size", [*LIGHT, *(pytest.param(size, marks=pytest.mark.slow) for size in HEAVY)])
def test_published_sizes(size: str) -> None:
    """Counted on plain attention; qk_norm adds two norms of a head's width to each block."""
    plain = replace(SIZES[size], mixer="attention")
    assert (DiTMoE.parameters_of(plain), DiTMoE.activated(plain)) == COUNTS[size]
    normed = DiTMoE.parameters_of(replace(plain, mixer="attention(qk_norm=True)"))
    assert normed - COUNTS[size][0] == plain.depth * 4 * plain.width // plain.heads


@pytest.mark.parametrize("size", COUNTS)
def test_published_costs(size: str) -> None:
    config = SIZES[size]
    assert token_macs(config) == 34 * config.width**2 + config.experts * config.width
    assert abs(34 * config.width**2 * 256 * config.depth / 1e9 / GIGAFLOPS[size] - 1) < 0.003


@pytest.mark.parametrize("changes", [{}, {"soft": True, "shared": 0}, {"kind": "gelu", "hidden": 24, "top": 3}])
def test_cost_is_what_a_forward_multiplies(changes: dict[str, Any]) -> None:
    model, batch = DiTMoE(TINY, **changes), _batch()
    dense = macs(DiT(**DENSE), *batch, attention=False)
    tokens = 3 * 16 * model.config.depth
    of_blocks = tokens * 12 * model.config.width**2
    assert macs(model, *batch, attention=False) - dense + of_blocks == tokens * token_macs(model.config)
    with torch.device("meta"):
        assert macs(DiTMoE(TINY, **changes), *(x.to("meta") for x in batch)) == macs(model, *batch)


def test_fresh_model_answers_zero_and_tells_its_balance() -> None:
    model = DiTMoE(TINY)
    out, losses = model(*_batch())
    assert not out.any() and 0.02 <= losses["balance"] < 0.03  # two blocks, each a little uneven
    assert model.eval()(*_batch()).losses == {}


def test_routers_start_as_linear_layers_do_and_experts_xavier() -> None:
    ffn = DiTMoE(TINY, width=64).blocks[0].ffn
    assert 0.95 / 8 < ffn.router.gate.weight.abs().max() <= 1 / 8
    assert 0.95 < ffn.experts.up.weight.abs().max() / (6 / (5 * 64)) ** 0.5 <= 1
    assert 0.95 < ffn.shared.up.weight.abs().max() / (6 / (3 * 64)) ** 0.5 <= 1


def test_one_image_does_not_see_the_others_but_the_balance_does() -> None:
    model, (x, t, labels) = _stirred(DiTMoE(TINY)), _batch()
    together, alone = model(x, t, labels), model(x[:1], t[:1], labels[:1])
    torch.testing.assert_close(together.out[:1], alone.out)
    assert together.losses["balance"] != alone.losses["balance"]


def test_experts_in_every_other_block() -> None:
    kinds = [type(block.ffn).__name__ for block in DiTMoE(TINY, depth=5, moe_every=2).blocks]
    assert kinds == ["SwiGlu", "MoE", "SwiGlu", "MoE", "SwiGlu"]


def test_stored_and_read(tmp_path: Path) -> None:
    model, batch = _stirred(DiTMoE(TINY, balance=0.005, norm_topk=True)).eval(), _batch()
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path).eval()
    assert again.config == model.config and torch.equal(again(*batch).out, model(*batch).out)


def test_official_names_round_trip() -> None:
    model, other = (
        _stirred(DiTMoE(TINY, mixer="attention(qk_norm=True)")),
        DiTMoE(TINY, mixer="attention(qk_norm=True)"),
    )
    state = model.official_state()
    experts = model.blocks[1].ffn.experts
    for name in ("gate", "up", "down"):
        theirs = state[f"blocks.1.moe.experts.3.{name}_proj.weight"]
        assert torch.equal(theirs, getattr(experts, name).weight[3])
        assert f"blocks.0.moe.shared_experts.{name}_proj.weight" in state
    assert state["blocks.1.moe.gate.weight"].shape == (4, 32) and "blocks.0.attn.q_norm.weight" in state
    assert other.load_official(state).complete
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    del state["blocks.1.moe.experts.3.up_proj.weight"]
    report = other.load_official(state, strict=False)
    assert report.missing == ("blocks.1.ffn.experts.up.weight",) and report.unexpected == ()
    assert report.official == {"blocks.1.ffn.experts.up.weight": ("blocks.1.moe.experts.3.up_proj.weight",)}


PARENTS = {
    "one expert": (lambda: DiTMoE(TINY, experts=1, top=1), {}),
    "swiglu": (lambda: DiT(**DENSE, ffn="swiglu"), {}),
    "mlp": (lambda: DiT(**DENSE), {"kind": "gelu"}),
    "half": (lambda: DiT(**DENSE, ffn="swiglu"), {"moe_every": 2}),
}


@pytest.mark.parametrize("parent", PARENTS)
def test_upcycled_begins_as_its_parent(parent: str) -> None:
    make, options = PARENTS[parent]
    dense, batch = _stirred(make()).eval(), _batch()
    model = upcycle(dense, experts=4, **options).eval()
    torch.testing.assert_close(model(*batch).out, dense(*batch).out)
    assert model.config.experts == 4 and model.config.norm_topk
    routers = torch.stack([block.ffn.router.gate.weight for block in model.blocks if isinstance(block.ffn, MoE)])
    assert 0.01 < routers.std() < 0.03


def test_raw_weights_shrink_what_was_upcycled() -> None:
    dense, x = _stirred(DiT(**DENSE, ffn="swiglu")), torch.randn(2, 16, 32)
    moe, old = upcycle(dense, experts=4, norm_topk=False).blocks[0].ffn, dense.blocks[0].ffn
    share = moe.router(x).weight.sum(-1, keepdim=True)
    torch.testing.assert_close(moe(x, TokenPositions()).out, share * old(x, TokenPositions()).out)
    assert (share < 0.7).all()


def test_a_gelu_parent_is_no_parent_of_swiglu_experts() -> None:
    with pytest.raises(ValueError, match="blocks.0.ffn is of kind 'gelu' .* but its experts are 'swiglu'"):
        upcycle(DiT(**DENSE))
    with pytest.raises(ValueError, match="blocks.0.ffn is a Mlp that experts cannot copy; train the parent with ffn"):
        upcycle(DiT(**DENSE, ffn="mlp(tanh=False)"))
    with pytest.raises(ValueError, match="blocks.0.ffn is of kind 'swiglu'"):
        upcycle(DiT(**DENSE, ffn="swiglu"), hidden=40)
    with pytest.raises(ValueError, match="blocks.0.ffn is a MoE; moe_every=2 leaves it none"):
        upcycle(DiTMoE(TINY, experts=1, top=1), moe_every=2)


def _host(kind: str = "gelu-approximate") -> DiTTransformer2DModel:
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=2, sample_size=8, in_channels=4, norm_num_groups=4,
        num_embeds_ada_norm=5, activation_fn=kind,
    )  # fmt: skip
    return _stirred(model).eval()


def _host_out(model: DiTTransformer2DModel) -> Tensor:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return model(x, timestep=torch.tensor([3, 500]), class_labels=torch.tensor([1, 4])).sample


@pytest.mark.parametrize(("kind", "shared"), [("gelu-approximate", 0), ("gelu-approximate", 2), ("geglu", 2)])
def test_a_host_begins_as_it_was_and_its_experts_learn(kind: str, shared: int) -> None:
    model = _host(kind)
    before = _host_out(model)
    dense = put_experts_(model, experts=4, shared=shared, balance=0.5)
    assert list(dense) == ["transformer_blocks.0.ff", "transformer_blocks.1.ff"]
    torch.testing.assert_close(_host_out(model), before)
    with balance_losses(model.train()) as losses:
        out = _host_out(model)
    assert 1.0 <= losses["balance"] < 2.0  # two blocks
    (out.square().mean() + losses["balance"]).backward()
    assert all(
        weight.grad.any() for name, weight in model.named_parameters() if ".moe." in name and "shared" not in name
    )
    for name, module in dense.items():
        model.set_submodule(name, module)
    assert torch.equal(_host_out(model.eval()), before)


def test_pixart_takes_experts_too() -> None:
    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, sample_size=8, in_channels=4, cross_attention_dim=16,
        caption_channels=12, out_channels=8,
    )  # fmt: skip
    _stirred(model).eval()
    given = {"encoder_hidden_states": torch.randn(1, 5, 12), "timestep": torch.tensor([9]),
             "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}  # fmt: skip
    x = torch.randn(1, 4, 8, 8)
    before = model(x, **given).sample
    assert list(put_experts_(model)) == ["transformer_blocks.0.ff"]
    torch.testing.assert_close(model(x, **given).sample, before)


def test_sd3_takes_experts_for_image_and_text() -> None:
    model = _stirred(tiny_sd3().transformer).eval()
    given = {"encoder_hidden_states": torch.randn(1, 5, 64), "pooled_projections": torch.randn(1, 64)}
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500.0])
    before = model(x, timestep=t, **given).sample
    names = ["transformer_blocks.0.ff", "transformer_blocks.0.ff_context", "transformer_blocks.1.ff"]
    assert list(put_experts_(model, where="*.ff*")) == names
    torch.testing.assert_close(model(x, timestep=t, **given).sample, before)


def test_bad_hosts() -> None:
    with pytest.raises(ValueError, match=r"where='blocks.\*' names no feed-forward of DiTTransformer2DModel"):
        put_experts_(_host(), where="blocks.*")
    with pytest.raises(ValueError, match="DiTTransformer2DModel has no experts"), balance_losses(_host()):
        pass
    mixed = _host()
    mixed.transformer_blocks[1] = _host("gelu").transformer_blocks[1]
    with pytest.raises(ValueError, match="transformer_blocks.1.ff is a GELU feed-forward; experts copy GEGLU and"):
        put_experts_(mixed)
    assert isinstance(mixed.transformer_blocks[0].ff, FeedForward)  # all or nothing


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top": 0}, "top=0 must be between 1 and experts=4"),
        ({"top": 5}, "top=5 must be between 1 and experts=4"),
        ({"experts": 0}, "experts=0 must be at least 1"),
        ({"balance": -1.0}, "balance=-1.0 must be at least 0"),
        ({"heads": 3}, "width=32 must be a multiple of heads=3"),
        ({"side": 9}, "side=9 must be a multiple of patch=2"),
        ({"moe_every": 3}, "moe_every=3 must be between 1 and depth=2"),
        ({"kind": "mlp"}, "kind='mlp' of experts is unknown"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiTMoE(replace(TINY, **changes))


def test_bad_input() -> None:
    model, (x, t, labels) = DiTMoE(TINY), _batch()
    with pytest.raises(ValueError, match="label 6 is outside 0 to 5"):
        model(x, t, labels + 1)
    with pytest.raises(ValueError, match=r"15 tokens do not fill grid=\(4, 4\)"):
        unpatchify(torch.zeros(1, 15, 12), (4, 4), 2)
    with pytest.raises(FloatingPointError, match=r"router 'blocks.0.ffn.router' has NaN logits"):
        model(x * float("nan"), t, labels)
