"""ULSAM on maps: a plain rewrite, what is exact, its cost, and what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models import DiT
from saccade.models.macs import macs
from saccade.models.sizing import parameters
from saccade.nn.part import TokenPositions, to_map, to_tokens
from saccade.nn.registry import make_mixer
from saccade.papers import ULSAM
from saccade.papers.ulsam.map_statistics import map_statistics

SIDES, GROUPS = st.integers(1, 6), st.sampled_from((1, 2, 4, 8))
laws = settings(deadline=None, max_examples=15)


def stirred(groups: int = 4, *, width: int = 8, norm_act: bool = True) -> ULSAM:
    module = ULSAM(width, groups=groups, norm_act=norm_act).double()
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value))
    if norm_act:
        module.point_norm.bias.data.fill_(1.5)
    return module.eval()


def picture(h: int = 4, w: int = 5, width: int = 8) -> Tensor:
    return torch.randn(2, width, h, w, dtype=torch.float64)


def plain(module: ULSAM, x: Tensor) -> Tensor:
    """Group by group and window by window."""
    size, outs = module.width // module.groups, []

    def normed(norm: nn.BatchNorm2d, value: Tensor, c: int) -> Tensor:
        scale = norm.weight[c] / (norm.running_var[c] + 1e-5).sqrt()
        return ((value - norm.running_mean[c]) * scale + norm.bias[c]).clamp(min=0)

    for n in range(module.groups):
        score = 0.0 if module.point.bias is None else module.point.bias[n]
        for i in range(size):
            c = n * size + i
            a = x[:, c] * module.scale.weight[c].squeeze()
            a = normed(module.scale_norm, a + module.scale.bias[c], c) if module.norm_act else a
            score = score + module.point.weight[n, i].squeeze() * pooled(a)
        score = normed(module.point_norm, score, n) if module.norm_act else score
        weights = score.exp() / score.exp().sum((1, 2), keepdim=True)
        outs.append(x[:, n * size : (n + 1) * size] * (1 + weights[:, None]))
    return torch.cat(outs, dim=1)


def pooled(a: Tensor) -> Tensor:
    out = torch.empty_like(a)
    for row in range(a.shape[1]):
        for column in range(a.shape[2]):
            out[:, row, column] = a[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].amax((1, 2))
    return out


@given(h=SIDES, w=SIDES, groups=GROUPS, norm_act=st.booleans())
@laws
def test_equals_a_plain_rewrite(h: int, w: int, groups: int, norm_act: bool) -> None:
    module, x = stirred(groups, norm_act=norm_act), picture(h, w)
    torch.testing.assert_close(module(x), plain(module, x))


@given(h=SIDES, w=SIDES, groups=GROUPS)
@laws
def test_maps_are_shares_and_values_at_most_double(h: int, w: int, groups: int) -> None:
    module, x = stirred(groups), picture(h, w)
    maps, out = module.maps(x), module(x)
    assert out.shape == x.shape and maps.shape == (2, groups, h, w) and (maps >= 0).all()
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, groups, dtype=torch.float64))
    assert (out.abs() >= x.abs()).all() and (out.abs() <= 2 * x.abs() + 1e-12).all()
    assert torch.equal(out.sign(), x.sign())


@given(group=st.integers(0, 3))
@laws
def test_a_group_sees_itself_alone_and_stays_in_its_place(group: int) -> None:
    module, x = stirred(), picture()
    other = x.clone()
    other[:, 2 * group : 2 * group + 2] += torch.randn(2, 2, 4, 5).double()
    changed = (module(x) != module(other)).flatten(2).any(-1).any(0)
    assert changed.nonzero().flatten().tolist() == [2 * group, 2 * group + 1]


@given(h=SIDES, w=SIDES, axis=st.sampled_from((2, 3)))
@laws
def test_a_flipped_picture_gives_the_flipped_output(h: int, w: int, axis: int) -> None:
    module, x = stirred(), picture(h, w)
    torch.testing.assert_close(module(x.flip(axis)), module(x).flip(axis))


@given(h=SIDES, w=SIDES)
@laws
def test_without_any_preference_every_position_gets_the_same(h: int, w: int) -> None:
    module, x = stirred(), picture(h, w)
    nn.init.zeros_(module.point.weight)
    torch.testing.assert_close(module(x), x * (1 + 1 / (h * w)))
    if h == w == 1:
        assert torch.equal(module(x), 2 * x)


def test_shares_of_a_constant_channel_add_up_to_one() -> None:
    module, x = stirred(), picture()
    x[:, 3] = -0.7
    torch.testing.assert_close(((module(x) - x) / x)[:, 3].sum((1, 2)), torch.ones(2).double())


def test_one_map_for_all_or_one_for_each_channel() -> None:
    x = picture()
    assert stirred(1).maps(x).shape[1] == 1 and stirred(8).maps(x).shape[1] == 8
    ratio = stirred(1)(x) / x
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


@pytest.mark.parametrize("groups", [1, 2, 4, 8, 16])
def test_costs_as_the_paper_counts_and_as_the_code_has_them(groups: int) -> None:
    with torch.device("meta"):
        x = torch.zeros(1, 512, 14, 14)
        equations, code = (ULSAM(512, groups=groups, norm_act=norm_act).eval() for norm_act in (False, True))
        assert parameters(equations) == 2 * 512 and parameters(code) == 5 * 512 + 3 * groups
        assert macs(equations, x) == macs(code, x) == 2 * 512 * 14 * 14


@pytest.mark.parametrize("training", [True, False])
def test_gradients(training: bool) -> None:
    module, x = stirred(2, width=4).train(training), torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)
    module(x).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in module.parameters())
    assert module.point_norm.weight.grad.any() and module.scale_norm.weight.grad.any()


def test_weights_are_taken_in_float32() -> None:
    module = ULSAM(8, groups=1, norm_act=False).half()
    nn.init.zeros_(module.point.weight)
    maps = module.maps(torch.randn(1, 8, 100, 100).half())
    assert maps.dtype == torch.float16
    torch.testing.assert_close(maps.float().sum().item(), 1.0, atol=1e-2, rtol=0)


def test_importing_sets_nothing_global() -> None:
    assert torch.get_default_dtype() == torch.float32 and torch.empty(0).device.type == "cpu"


def test_is_a_mixer_of_tokens_on_a_grid() -> None:
    mixer, x = make_mixer("ulsam(groups=2)", 8, 2).eval(), torch.randn(2, 20, 8)
    wanted = to_tokens(mixer.layer(to_map(x, (4, 5))))
    assert torch.equal(mixer(x, TokenPositions(grid=(4, 5))).out, wanted) and mixer.layer.groups == 2
    model = DiT(depth=1, width=16, heads=2, side=8, channels=3, classes=5, mixer="ulsam")
    assert model(torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 5])).out.isfinite().all()


def test_statistics_of_maps() -> None:
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 0, 0, 0] = maps[0, 1, 0, 0] = 1
    maps[0, 2] = 0.25
    found = map_statistics(maps)
    assert found == pytest.approx({"entropy": 1 / 3, "cosine": 1 / 3, "uniform": 1 / 3})
    assert map_statistics(maps[:, :1])["cosine"] != map_statistics(maps[:, :1])["cosine"]  # NaN: there is one group
    with pytest.raises(ValueError, match=r"maps of shape \(1, 1, 1, 1\) have one position"):
        map_statistics(torch.ones(1, 1, 1, 1))


def test_bad_input() -> None:
    for groups in (0, -1, 3):
        with pytest.raises(ValueError, match=f"groups={groups} must be at least 1 and divide the width=8"):
            ULSAM(8, groups=groups)
    with pytest.raises(ValueError, match=r"momentum=0 must be in \(0, 1\]"):
        ULSAM(8, momentum=0)
    module = ULSAM(8)
    for shape in ((2, 8, 4), (2, 4, 8, 8), (8, 4, 4), (2, 8, 3, 4, 4)):
        with pytest.raises(ValueError, match=r"must be a feature map \(b, 8, h, w\)"):
            module(torch.randn(shape))
    with pytest.raises(ValueError, match=r"x of shape \(1, 8, 1, 1\) has one position to train batch norms on"):
        module(torch.randn(1, 8, 1, 1))
    assert module.eval()(torch.randn(1, 8, 1, 1)).shape == (1, 8, 1, 1)
    mixer, x = make_mixer("ulsam", 8, 2), torch.randn(2, 20, 8)
    with pytest.raises(ValueError, match=r"ulsam needs a grid \(h, w\) of 20 tokens; place.grid=\(\)"):
        mixer(x, TokenPositions())
    with pytest.raises(ValueError, match="ulsam looks at neighbours on all sides; it cannot be causal"):
        mixer(x, TokenPositions(grid=(4, 5), causal=True))
    with pytest.raises(ValueError, match="ulsam works on whole pictures; give place.keep=None"):
        mixer(x, TokenPositions(grid=(4, 5), keep=torch.ones(2, 20, dtype=torch.bool)))


def test_max_pooling_sees_nothing_outside() -> None:
    module, x = stirred(1, norm_act=False), -torch.ones(1, 8, 3, 3, dtype=torch.float64)
    scores = F.conv2d(module.scale(x), module.point.weight)
    torch.testing.assert_close(module.maps(x), scores.flatten(2).softmax(-1).view(1, 1, 3, 3))
