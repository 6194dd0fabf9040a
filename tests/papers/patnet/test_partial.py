"""PConv, PAT_ch and PAT_sp: plain rewrites, which channels see which, gates, costs, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models import DiT, ViT
from saccade.models.macs import macs
from saccade.models.sizing import parameters
from saccade.nn.part import TokenPositions, to_map, to_tokens
from saccade.nn.registry import make_feedforward, make_mixer
from saccade.papers import ChannelPAT, PartialConv, SelfPAT, SpatialPAT
from saccade.papers.patnet.channel_gate import GaussianGate, statistics
from saccade.papers.patnet.spatial import PATMlp

SIDES = st.integers(1, 6)
laws = settings(deadline=None, max_examples=12)


def stirred(module: nn.Module) -> nn.Module:
    """Weights, biases and running statistics of any value."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if "running_var" in name else torch.randn_like(value))
    return module.double().eval()


def picture(h: int = 4, w: int = 5, width: int = 8) -> Tensor:
    return torch.randn(2, width, h, w, dtype=torch.float64)


def normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    each = [
        (x[:, c] - norm.running_mean[c]) / (norm.running_var[c] + 1e-5) ** 0.5 * norm.weight[c] + norm.bias[c]
        for c in range(x.shape[1])
    ]
    return torch.stack(each, dim=1)


def hard(z: Tensor) -> Tensor:
    return (z / 6 + 0.5).clamp(0, 1)


@given(h=SIDES, w=st.integers(2, 6), divide=st.sampled_from((2, 4, 8)))
@laws
def test_channel_attention_equals_a_plain_rewrite(h: int, w: int, divide: int) -> None:
    layer, x = stirred(ChannelPAT(8, divide=divide)), picture(h, w)
    c1 = 8 // divide
    rest, gate = x[:, c1:], layer.gate
    mu = rest.sum((2, 3)) / (h * w)
    sd = ((rest - mu[..., None, None]).square().sum((2, 3)) / (h * w - 1)).sqrt()
    z = mu @ gate.mix.weight[:, :, 0, 0].T + sd @ gate.mix.weight[:, :, 0, 1].T
    weighed = normed(layer.norm, rest * hard(normed(gate.norm, z[..., None, None])))
    wanted = torch.cat((F.conv2d(x[:, :c1], layer.conv.weight, padding=1), weighed), dim=1)
    torch.testing.assert_close(layer(x), wanted)


@given(h=SIDES, w=SIDES, width=st.integers(2, 9))
@laws
def test_spatial_attention_equals_a_plain_rewrite(h: int, w: int, width: int) -> None:
    layer, x = stirred(SpatialPAT(width)), picture(h, w, width)
    border = width - width // 2
    xa, xb = x[:, :border], x[:, border:]
    score = torch.einsum("bchw,c->bhw", xa, layer.score.weight.flatten())
    mixed = torch.einsum("bchw,dc->bdhw", normed(layer.norm_convolved, xb), layer.conv.weight.flatten(1))
    wanted = torch.cat((normed(layer.norm, xa * hard(score)[:, None]), mixed), dim=1)
    torch.testing.assert_close(layer(x), wanted)


def test_the_feed_forward_is_two_layers_and_spatial_attention() -> None:
    for act, function in (("gelu", F.gelu), ("relu", F.relu)):
        mlp, x = stirred(PATMlp(8, ratio=1.5, act=act)), picture()
        inside = function(normed(mlp.norm, F.conv2d(x, mlp.enter.weight)))
        torch.testing.assert_close(mlp(x), mlp.spatial(F.conv2d(inside, mlp.leave.weight)))
    bare = PATMlp(8, spatial=False)
    assert parameters(bare) == 2 * 8 * 16 + 2 * 16 and isinstance(bare.spatial, nn.Identity)


@pytest.mark.parametrize("layer", [ChannelPAT(8), SelfPAT(8, heads=2), PartialConv(8), SpatialPAT(8)], ids=repr)
@given(channel=st.integers(0, 7))
@settings(deadline=None, max_examples=8)
def test_parts_of_the_channels_do_not_see_each_other(layer: nn.Module, channel: int) -> None:
    stirred(layer)
    border = 4 if isinstance(layer, SpatialPAT) else 2
    x = picture()
    other = x.clone()
    other[:, channel] += torch.randn(2, 4, 5).double()
    changed = (layer(x) != layer(other)).flatten(2).any(-1).any(0)
    seen = changed[:border] if channel >= border else changed[border:]
    assert not seen.any() and changed.any()


@given(seed=st.integers(0, 1000), factor=st.floats(0.1, 10))
@laws
def test_the_gate_sees_the_statistics_only(seed: int, factor: float) -> None:
    gate, x = stirred(GaussianGate(6)), picture(width=6)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    moved = x.flatten(2)[..., order].unflatten(2, (4, 5))
    torch.testing.assert_close(gate.gate(moved), gate.gate(x))
    torch.testing.assert_close(statistics(factor * x), factor * statistics(x))
    assert ((gate.gate(x) >= 0) & (gate.gate(x) <= 1)).all()
    torch.testing.assert_close(gate(x), x * gate.gate(x))


def test_deviations_are_unbiased() -> None:
    x = picture()
    torch.testing.assert_close(statistics(x)[:, :, 0, 1], x.flatten(2).std(-1))


def test_gates_of_no_preference_are_a_half() -> None:
    gate, x = GaussianGate(6), torch.randn(3, 6, 4, 5)
    nn.init.zeros_(gate.mix.weight)
    assert torch.equal(gate.gate(x), torch.full((3, 6, 1, 1), 0.5))
    layer = SpatialPAT(6)
    nn.init.zeros_(layer.score.weight)
    assert torch.equal(layer.gate(x[:, :3]), torch.full((3, 1, 4, 5), 0.5))


def test_a_constant_channel_has_a_gradient() -> None:
    x = torch.ones(2, 3, 4, 4, requires_grad=True)
    statistics(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert statistics(x)[..., 1].max() <= 2e-6


def test_statistics_of_large_half_precision_maps_are_those_of_float32() -> None:
    x = 0.02 * torch.randn(1, 1, 200, 200)
    assert statistics(x.half()).dtype == torch.float16
    torch.testing.assert_close(statistics(x.half()).float(), statistics(x.half().float()), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", [16, 64])
def test_costs(width: int) -> None:
    with torch.device("meta"):
        x, c1, c2, half = torch.zeros(1, width, 8, 8), width // 4, width - width // 4, width // 2
        whole = nn.Conv2d(width, width, 3, padding=1, bias=False)
        assert 16 * macs(PartialConv(width), x) == macs(whole, x)
        assert parameters(ChannelPAT(width)) == 9 * c1**2 + 2 * c2**2 + 4 * c2
        assert parameters(SpatialPAT(width)) == half + half**2 + 4 * half
        assert parameters(SelfPAT(width)) == 9 * c1**2 + 4 * c2**2 + 3 * c2 + 4 * 81


@pytest.mark.parametrize("training", [True, False])
def test_gradients(training: bool) -> None:
    for layer in (ChannelPAT(4), SpatialPAT(4), PATMlp(4)):
        stirred(layer).train(training)
        x = torch.randn(3, 4, 2, 3, dtype=torch.float64, requires_grad=True)
        layer(x).square().sum().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in layer.parameters())
        assert torch.autograd.gradcheck(layer.eval(), x)


@pytest.mark.parametrize("name", ["pconv", "pat_ch", "pat_sf"])
def test_are_mixers_of_tokens_on_a_grid(name: str) -> None:
    mixer, x = make_mixer(f"{name}(divide=2)", 8, 2).eval(), torch.randn(2, 20, 8)
    place = TokenPositions(grid=(4, 5))
    assert torch.equal(mixer(x, place).out, to_tokens(mixer.layer(to_map(x, (4, 5)))))
    assert mixer.layer.convolved == 4
    for wrong, message in (
        (TokenPositions(), rf"{name} needs a grid \(h, w\) of 20 tokens"),
        (TokenPositions(grid=(4, 5), causal=True), f"{name} looks at neighbours on all sides"),
        (TokenPositions(grid=(4, 5), keep=torch.ones(2, 20, dtype=torch.bool)), f"{name} works on whole pictures"),
    ):
        with pytest.raises(ValueError, match=message):
            mixer(x, wrong)


def test_block_of_the_paper_inside_dit() -> None:
    mixers, ffn = ("pat_ch", "pat_sf"), "pat_mlp(act='relu')"
    model = DiT(depth=2, width=16, heads=2, side=8, channels=3, classes=5, mixer=mixers, ffn=ffn)
    weights = model.blocks[0].mixer.layer.conv.weight
    assert weights.abs().max() <= 2 and 0.01 < weights.std() < 0.03  # truncated normal
    assert isinstance(model.blocks[0].ffn.layer.act, nn.ReLU)
    assert model(torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 5])).out.isfinite().all()
    vit = ViT(depth=2, width=16, heads=2, patch=8, side=16, mixer=mixers, ffn=ffn)
    assert vit(torch.randn(2, 3, 16, 16)).out.shape == (2, 10)
    x = torch.randn(2, 20, 16)
    fed = make_feedforward("pat_mlp(spatial=False)", 16).eval()
    torch.testing.assert_close(
        fed(x, TokenPositions(grid=(4, 5))).out, fed(x.flip(1), TokenPositions(grid=(20, 1))).out.flip(1)
    )


def test_bad_input() -> None:
    with pytest.warns(UserWarning, match="width=10 is no multiple of divide=4; 2 are convolved"):
        assert PartialConv(10).convolved == 2
    for divide in (1, 0, 9):
        with pytest.raises(ValueError, match=f"divide={divide} must be at least 2 and at most the width=8"):
            ChannelPAT(8, divide=divide)
    layer = ChannelPAT(8)
    with pytest.raises(ValueError, match=r"this batch holds one picture; train on more, or call eval\(\)"):
        layer(torch.randn(1, 8, 4, 4))
    assert layer.eval()(torch.randn(1, 8, 4, 4)).shape == (1, 8, 4, 4)
    with pytest.raises(ValueError, match=r"x of shape \(2, 6, 1, 1\) has one position and so no standard deviation"):
        layer(torch.randn(2, 8, 1, 1))
    for wrong in (ChannelPAT(8), PartialConv(8), SpatialPAT(8)):
        with pytest.raises(ValueError, match=r"x of shape \(2, 7, 4, 4\) must be a feature map \(b, 8, h, w\)"):
            wrong(torch.randn(2, 7, 4, 4))
    with pytest.raises(ValueError, match="width=1 must be at least 2"):
        SpatialPAT(1)
    with pytest.raises(ValueError, match="act='silu' is unknown; choose one of gelu, relu"):
        PATMlp(8, act="silu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ratio=0.01 must be above 0"):
        PATMlp(8, ratio=0.01)
