"""MoH-DiT: published sizes and shares, official names, and trained DiTs made into one."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from saccade.models import Architecture, DiT
from saccade.models.dit import DiTConfig
from saccade.nn.part import TokenPositions
from saccade.nn.routing import record_routing
from saccade.papers import MoHDiT
from saccade.papers.moh.model import LAYERS, TRANSNEXT, active_share, layers, mixers, to_mixture_of_heads

TINY = DiTConfig(depth=3, width=32, heads=4, side=8, channels=3, classes=5)
MIXED = mixers(layers((1, 2, 2, 0), (1, 4, 2, 1), (1, 6, 1, 3)), head_dim=8)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 3, 8, 8), torch.rand(3), torch.tensor([0, 4, 5])


def stirred(model: DiT, std: float = 0.1) -> Any:
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=std)
    return model


@pytest.mark.parametrize(
    ("size", "share"),
    [
        ("XL/2-90", Fraction(403, 448)),
        ("XL/2-75", Fraction(336, 448)),
        ("L/2-90", Fraction(344, 384)),
        ("L/2-75", Fraction(288, 384)),
        ("B/2-90", Fraction(129, 144)),
        ("B/2-75", Fraction(108, 144)),
        ("S/2-90", Fraction(64, 72)),
        ("S/2-75", Fraction(54, 72)),
    ],
)
def test_sizes(size: str, share: Fraction) -> None:
    """Weights: those of DiT with qkv and output as wide as the heads, and the routers."""
    of, config, plain = LAYERS[size], MoHDiT.sizes[size], DiT.sizes[size.split("-")[0]]
    assert active_share(of) == share and len(of) == config.depth == plain.depth
    width, e = plain.width, plain.width // plain.heads
    more = sum(4 * width * e * (each.heads - plain.heads) + 3 * e * (each.heads - plain.heads) for each in of)
    routers = sum(
        width * (each.candidates * (each.routed > 0) + each.shared * (each.shared > 1) + 2 * (each.routed > 0))
        for each in of
    )
    assert MoHDiT.parameters_of(config) == DiT.parameters_of(plain) + more + routers


def test_there_are_sizes_for_all_published_models() -> None:
    assert set(MoHDiT.sizes) == {f"{size}/2-{share}" for size in ("S", "B", "L", "XL") for share in (75, 90)}


def test_heads_of_the_vision_transformers() -> None:
    shares = {name: active_share(of) for name, of in TRANSNEXT.items()}
    assert shares == {
        "Base-75": Fraction(441, 588),
        "Base-50": Fraction(294, 588),
        "Small-80": Fraction(343, 429),
        "Small-75": Fraction(323, 429),
    }


def test_the_loss_is_the_mean_over_routed_layers() -> None:
    model, x = stirred(MoHDiT(TINY, mixer=MIXED)), batch()
    with record_routing(model) as found:
        loss = model(*x).losses["head_balance"]
    each = []
    for (routing,) in found.values():
        me, count = routing.probs.flatten(0, 1).mean(0), routing.probs.shape[-1]
        ce = nn.functional.one_hot(routing.index, count).sum(-2).flatten(0, 1).double().mean(0)
        each.append(count**2 * (me * ce).mean())
    assert len(each) == 2
    torch.testing.assert_close(loss.double(), 0.01 * sum(each) / 2)


def test_fresh_model_answers_zero() -> None:
    out, losses = MoHDiT(TINY, mixer=MIXED)(*batch())
    assert not out.any() and losses["head_balance"] > 0


def test_stored_and_read(tmp_path: Path) -> None:
    model = stirred(MoHDiT(TINY, mixer=MIXED))
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    assert isinstance(again, MoHDiT) and torch.equal(again(*batch()).out, model(*batch()).out)


def test_official_names_round_trip() -> None:
    model, other = stirred(MoHDiT(TINY, mixer=MIXED)), MoHDiT(TINY, mixer=MIXED)
    state = model.official_state()
    routers = {name for name in state if ".wg" in name}
    assert routers == {
        *(f"blocks.{i}.attn.{name}.weight" for i, name in ((0, "wg_1"), (1, "wg"), (1, "wg_0"), (1, "wg_1"))),
        *(f"blocks.2.attn.{name}.weight" for name in ("wg", "wg_0")),
    }
    assert {"blocks.2.attn.qkv.weight", "blocks.2.attn.proj.bias", "pos_embed"} <= set(state)
    assert state["blocks.1.attn.wg.weight"].shape == (2, 32) and state["blocks.1.attn.wg_0.weight"].shape == (2, 32)
    assert other.load_official(state).complete
    assert torch.equal(other(*batch()).out, model(*batch()).out)


@pytest.mark.parametrize(
    "text", ["attention", "attention(rotary=True, qk_norm=True)", "attention(heads=5, head_dim=6)"]
)
def test_converted_model_starts_as_the_dense_one(text: str) -> None:
    model = stirred(DiT(TINY, mixer=text))
    heads = model.blocks[0].mixer.heads
    made = to_mixture_of_heads(model, shared=0, routed=heads, std=0.0)
    assert torch.equal(made(*batch()).out, model(*batch()).out)
    kept = made.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())


def test_routers_of_a_converted_model_are_small_and_do_not_pick_the_same_heads_for_all() -> None:
    made = to_mixture_of_heads(stirred(DiT(TINY)), shared=(1, 2, 2), routed=(1, 1, 2), std=0.02)
    routers = [weight for name, weight in made.named_parameters() if ".gates." in name]
    assert 0 < torch.cat([weight.flatten() for weight in routers]).abs().max() < 0.1
    with record_routing(made) as found:
        made(*batch())
    assert all(len(routing.index.unique()) > 1 for (routing,) in list(found.values())[:2])
    assert [block.mixer.counts.active for block in made.blocks] == [2, 3, 4]


def test_converted_by_norm_has_no_new_weights_and_learns() -> None:
    model = stirred(DiT(TINY))
    made = to_mixture_of_heads(model, shared=2, routed=1, routing="norm")
    assert set(made.state_dict()) == set(model.state_dict())
    made(*batch()).out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in made.parameters())


def test_every_weight_learns() -> None:
    model = stirred(MoHDiT(TINY, mixer=MIXED))
    out, losses = model(*batch())
    (out.square().sum() + losses["head_balance"]).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_gathered_execution_equals_dense() -> None:
    gathered = tuple(text.replace(")", ", execution='gathered')") for text in MIXED)
    a, b = (stirred(MoHDiT(TINY, mixer=mixer)).double() for mixer in (MIXED, gathered))
    x, t, labels = batch()
    torch.testing.assert_close(a(x.double(), t.double(), labels).out, b(x.double(), t.double(), labels).out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": (2, 2)}, "shared has 2 entries for depth=3 blocks"),
        ({"routed": (1, 1, 1, 1)}, "routed has 4 entries for depth=3 blocks"),
        ({"shared": 4}, "shared=4 and routed=1 of heads=4 are more than there are"),
    ],
)
def test_bad_conversions(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_mixture_of_heads(DiT(TINY), **{"shared": 2, "routed": 1, **changes})


def test_bad_layers() -> None:
    with pytest.raises(ValueError, match="mixer names 3 parts for depth=4 blocks"):
        MoHDiT(TINY, depth=4, mixer=MIXED)
    with pytest.raises(ValueError, match="block 0 has a MixtureOfHeads, not plain attention"):
        to_mixture_of_heads(MoHDiT(TINY, mixer=MIXED), shared=1, routed=1)
    with pytest.raises(ValueError, match="routing='norm' reads the lengths of q"):
        to_mixture_of_heads(DiT(TINY, mixer="attention(qk_norm=True)"), shared=2, routed=1, routing="norm")


def test_mixers_without_a_routed_layer_have_no_loss() -> None:
    model = MoHDiT(TINY, mixer=mixers(layers((3, 4, 4, 0))))
    assert model(*batch()).losses == {}
    assert model.blocks[0].mixer(torch.randn(1, 4, 32), TokenPositions()).losses == {}
