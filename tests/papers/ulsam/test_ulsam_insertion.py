"""ULSAM in models of timm and of one's own: counts, what is undone, and what is refused."""

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from saccade.models.macs import macs
from saccade.models.sizing import parameters
from saccade.papers import ULSAM, ULSAMMobileNet, insert_ulsam
from saccade.papers.ulsam.layers import layer_names
from saccade.papers.ulsam.model import V2, Bottleneck
from tests.hosts.vits import create, library

PICTURE = (1, 3, 224, 224)


@cache
def fresh(name: str) -> tuple[nn.Module, torch.Tensor]:
    with torch.device("meta"):
        return library().create_model(name).eval(), torch.zeros(PICTURE)


def test_layers_are_numbered_with_the_stem_as_one() -> None:
    one, two = (layer_names(fresh(f"mobilenetv{version}_100")[0]) for version in (1, 2))
    assert (len(one), len(two)) == (14, 18) and one[1] == two[1] == "conv_stem"
    assert two[14] == "blocks.4.2" and two[17] == "blocks.5.2" and one[12] == "blocks.3.5"
    assert layer_names(ULSAMMobileNet(multiplier=0.1))[18] == "blocks.16"
    features = nn.Module()
    features.features = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Conv2d(4, 4, 1))
    assert layer_names(features) == {1: "features.0", 2: "features.1"} and layer_names(nn.Linear(1, 1)) == {}


@pytest.mark.parametrize(
    ("instead", "million", "less"),
    [
        ((14,), 277.34, 0.12), ((16,), 284.54, 0.32),
        ((10, 13), 267.06, 0.17), ((16, 17), 269.08, 0.63), ((14, 17), 261.88, 0.43), ((13, 14, 16, 17), 224.0, 0.86),
    ],
)  # fmt: skip
def test_substitutions_in_mobilenet_v2_cost_what_was_published(
    instead: tuple[int, ...], million: float, less: float
) -> None:
    model, x = fresh("mobilenetv2_100")
    before = parameters(model)
    with insert_ulsam(model, x, instead=instead):
        assert macs(model, x) / 1e6 == pytest.approx(million, rel=0.005)
        assert (before - parameters(model)) / 1e6 == pytest.approx(less, abs=0.025)  # 3.4M - 3.28M and so on
    assert macs(model, x) == 300_774_272 and parameters(model) == before


def test_mobilenet_v1_costs_what_was_published() -> None:
    model, x = fresh("mobilenetv1_100")
    assert round(macs(model, x) / 1e6) == 569 and round(parameters(model) / 1e6, 1) == 4.2
    for layer in (8, 12):
        with insert_ulsam(model, x, instead=(layer,)):
            assert round(macs(model, x) / 1e6) == 517 and int(parameters(model) / 1e5) == 39
    for layer, more in ((11, 0.2), (12, 0.2), (13, 0.1)):
        with insert_ulsam(model, x, after=(layer,), norm_act=False):
            assert round(macs(model, x) / 1e6 - 568.740352, 1) == more
            assert parameters(model) - 4_231_976 == 2 * (1024 if layer == 13 else 512)


@pytest.mark.parametrize(("layer", "shape"), [(13, (96, 14, 14)), (16, (160, 7, 7)), (9, (64, 14, 14))])
def test_blocks_of_mobilenet_v2_cost_what_was_counted(layer: int, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        block, x = Bottleneck(V2.layers()[layer]).eval(), torch.zeros(1, *shape)
    assert round(macs(block, x) / 1e6, 3) == {13: 22.692, 16: 15.476, 9: 10.311}[layer]


def test_our_mobilenets_cost_what_timms_do_with_the_same_layers() -> None:
    for version, layers in ((1, (10,)), (2, (14, 17))):
        model, x = fresh(f"mobilenetv{version}_100")
        with torch.device("meta"):
            ours = ULSAMMobileNet(version=version, instead=layers, added=layers[:1]).eval()
        with insert_ulsam(model, x, instead=layers):
            plain = macs(model, x), parameters(model)
        extra = ours.ulsams()[layers[0]]
        assert ours.macs(x) == plain[0] + 2 * extra.width * 14**2
        assert parameters(ours) == plain[1] + parameters(extra)


@pytest.mark.parametrize(
    ("name", "million"),
    [
        ("V1-0.75", 325), ("V1-0.75-substituted", 296), ("V1-0.5", 149), ("V1-0.5-substituted", 136),
        ("V1-substituted", 517), ("V1-added", 569), ("V2-262M", 261.88), ("V2-269M", 269.07), ("V2-224M", 223.77),
    ],
)  # fmt: skip
def test_published_sizes(name: str, million: float) -> None:
    with torch.device("meta"):
        assert ULSAMMobileNet.of(name).eval().macs(torch.zeros(PICTURE)) / 1e6 == pytest.approx(million, rel=0.005)


def tiny() -> tuple[ULSAMMobileNet, torch.Tensor]:
    torch.manual_seed(0)
    return ULSAMMobileNet(multiplier=0.1, stride=8, classes=3).eval(), torch.randn(2, 3, 24, 40)


def test_an_added_module_weighs_what_its_layer_gives() -> None:
    model, x = tiny()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with insert_ulsam(model, x, after=(17,), groups=2) as inserted:
        seen: list[torch.Tensor] = []
        model.blocks[16].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        model(x)
        with_it = seen.pop()
        assert {*state} < {*model.state_dict()} and "blocks.15.ulsam.layer.scale.weight" in model.state_dict()
        again = copy.deepcopy(model)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again(x), model(x))
    seen.clear()
    model(x)
    torch.testing.assert_close(inserted.modules[0](seen[0]), with_it)
    assert model.state_dict().keys() == state.keys()


def test_nothing_is_left_when_undone() -> None:
    model, x = tiny()
    before, hooks, shown = model(x), sum(len(m._forward_hooks) for m in model.modules()), repr(model)
    inserted = insert_ulsam(model, x, after=(12, "stem"), instead=(13, 14))
    assert len(inserted.modules) == 4 and not torch.equal(model(x), before)
    inserted.undo()
    inserted.undo()
    assert torch.equal(model(x), before) and repr(model) == shown
    assert sum(len(m._forward_hooks) for m in model.modules()) == hooks and not model._forward_pre_hooks


def test_all_of_it_trains() -> None:
    model, x = tiny()
    inserted = insert_ulsam(model.train(), x, after=(12,), instead=(14,), momentum=0.9)
    assert all(module.training and module.point_norm.momentum == 0.9 for module in inserted.modules)
    model(x).square().sum().backward()
    assert all(weight.grad is not None for weight in inserted.modules.parameters())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_tokens_of_a_vit_are_put_on_their_grid(name: str) -> None:
    model, x = create(name).eval(), torch.randn(2, 3, 32, 32)
    before = model(x)
    prefix = model.num_prefix_tokens
    with insert_ulsam(model, x, after=(2,)) as inserted, torch.no_grad():
        outs: list[torch.Tensor] = []
        model.blocks[0].ulsam.register_forward_hook(lambda _, args, out: outs.extend((args[0], out)))
        model(x)
        given, out = outs
        assert torch.equal(out[:, :prefix], given[:, :prefix])
        grid = given[:, prefix:].mT.unflatten(-1, (8, 8))
        torch.testing.assert_close(out[:, prefix:].mT.unflatten(-1, (8, 8)), inserted.modules[0](grid))
    assert torch.equal(model(x), before)
    with insert_ulsam(model, x, instead=("blocks.1",)):
        assert model(x).shape == before.shape


def test_a_vit_of_any_picture_size_knows_its_grid() -> None:
    model = create("vit_tiny_patch16_224", dynamic_img_size=True).eval()
    with insert_ulsam(model, torch.zeros(1, 3, 32, 32), after=(3,)):
        assert model(torch.randn(1, 3, 16, 48)).shape == (1, 5)
        copied = copy.deepcopy(model)
        x = torch.randn(1, 3, 48, 16)
        assert torch.equal(copied(x), model(x))


def test_a_refusal_leaves_no_trace_and_modes_stay() -> None:
    model, x = create("vit_tiny_patch16_224").train(), torch.zeros(2, 3, 32, 32)
    model.blocks[0].eval()
    for layers, options, message in (
        (("blocks.0",), {"groups": 3}, "groups=3 must be at least 1 and divide the width=32"),
        (("blocks.0.attn.qkv", "blocks.1.mlp.fc1"), {"groups": 96}, "divide the width=128"),
        (("patch_embed",), {}, r"layer 'patch_embed' gives 64 tokens, not one for each of the 8 x 8"),
    ):
        with pytest.raises(ValueError, match=message):
            insert_ulsam(model, x, after=layers, **options)
    assert not model._forward_pre_hooks and not any(hasattr(part, "ulsam") for part in model.modules())
    assert model.training and not model.blocks[0].training and not model.blocks[0].attn.training


def test_channels_may_come_last() -> None:
    class Last(nn.Module):
        output_fmt = "NHWC"

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    model, x = Last().eval(), torch.randn(2, 3, 5, 8)
    plain = model(x)
    with insert_ulsam(model, x, after=("layer",)) as inserted:
        torch.testing.assert_close(model(x).movedim(-1, 1), inserted.modules[0](plain.movedim(-1, 1)))


def test_a_sequence_runs_it_once() -> None:
    model, x = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.ReLU()).eval(), torch.randn(1, 3, 4, 4)
    plain = model[0](x)
    with insert_ulsam(model, x, after=("0",)) as inserted:
        torch.testing.assert_close(model[0](x), inserted.modules[0](plain))


class Odd(nn.Module):
    """Gives a pair, and leaves one layer out."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.left_out, self.tokens = Pair(), nn.Linear(1, 1), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> Any:
        return self.pair(self.tokens(x))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x, x


def test_bad_input() -> None:
    model, x = tiny()
    for options, message in (
        ({"after": (19,)}, "layer 19 is not in this ULSAMMobileNet, which has numbers 1 to 18"),
        ({"after": (0,)}, "layer 0 is not in this"),
        ({"after": ("blocks.99",)}, "layer 'blocks.99' is not in this ULSAMMobileNet"),
        ({"instead": (15,)}, r"layer 'blocks.13' turns \(16, 6, 10\) into \(16, 3, 5\); only a block that"),
        ({"instead": (8,)}, r"layer 'blocks.6' turns .* only a block that keeps channels and sides"),
        ({}, "leave nothing to insert"),
        ({"after": (14,), "instead": (14,)}, "layer 'blocks.12' is given twice"),
        ({"after": (14,), "instead": ("blocks.12.parts",)}, "layer 'blocks.12.parts' lies inside 'blocks.12'"),
        ({"after": (14,), "groups": 5}, "groups=5 must be at least 1 and divide the width=16"),
        ({"after": ("head",)}, r"layer 'head' gives \(2, 3\), neither maps"),
    ):
        with pytest.raises(ValueError, match=message):
            insert_ulsam(model, x, **options)
    assert not any(isinstance(part, ULSAM) for part in model.modules())
    with insert_ulsam(model, x, after=(14,)), pytest.raises(ValueError, match="is followed by a ULSAM already"):
        insert_ulsam(model, x, after=(14,))
    odd, tokens = Odd(), torch.randn(1, 5, 4)
    for layer, message in (
        ("pair", "layer 'pair' did not run on these inputs, or gives no tensor"),
        ("left_out", "layer 'left_out' did not run"),
        ("tokens", "layer 'tokens' gives tokens, and this Odd has no patch_embed.patch_size"),
        (1, "layer 1 is not in this Odd, which has no numbered layers; name a module"),
    ):
        with pytest.raises(ValueError, match=message):
            insert_ulsam(odd, tokens, after=(layer,))


@pytest.mark.slow
def test_follows_the_middle_of_a_diffusers_unet() -> None:
    from diffusers import UNet2DModel

    unet = UNet2DModel(
        sample_size=16, block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip
    x, t = torch.randn(1, 3, 16, 16), torch.tensor(5)
    before = unet(x, t).sample
    with insert_ulsam(unet, x, t, after=("mid_block",)) as inserted:
        assert inserted.modules[0].width == 16 and not torch.equal(unet(x, t).sample, before)
    assert torch.equal(unet(x, t).sample, before)
