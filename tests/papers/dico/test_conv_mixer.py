"""The Conv Module, its gates, and the convolution that a caption writes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from saccade.models import DiT
from saccade.nn.block import DiTBlock
from saccade.nn.feedforward import Mlp
from saccade.nn.part import TokenPositions, to_map, to_tokens
from saccade.papers.dico.channel_attention import GATES, CompactChannelAttention, make_gate, mean_over
from saccade.papers.dico.conv_mixer import ConvMixer
from saccade.papers.dico.text_conv import TextConv, convolve_each, padded_words

WIDTH = 6


def _stirred(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.5)
    return module.double()


def _pictures(h: int = 4, w: int = 5) -> torch.Tensor:
    return torch.randn(2, h * w, WIDTH, dtype=torch.float64)


@given(h=st.integers(1, 6), w=st.integers(1, 6), kernel=st.sampled_from((1, 3, 5)), gated=st.booleans())
@settings(deadline=None, max_examples=10)
def test_equals_convolutions_on_maps(h: int, w: int, kernel: int, gated: bool) -> None:
    mixer, x = _stirred(ConvMixer(WIDTH, gate="cca" if gated else "none", kernel=kernel)), _pictures(h, w)
    enter, out = (layer.weight[..., None, None] for layer in (mixer.enter, mixer.out))
    y = F.conv2d(x.mT.reshape(2, WIDTH, h, w), enter, mixer.enter.bias)
    y = F.gelu(F.conv2d(y, mixer.depthwise.weight, mixer.depthwise.bias, padding=kernel // 2, groups=WIDTH))
    if gated:
        gate = mixer.gate.linear
        y = y * F.conv2d(F.adaptive_avg_pool2d(y, 1), gate.weight[..., None, None], gate.bias).sigmoid()
    y = F.conv2d(y, out, mixer.out.bias)
    torch.testing.assert_close(mixer(x, TokenPositions(grid=(h, w))).out, y.flatten(2).mT)
    torch.testing.assert_close(mixer.on_map(to_map(x, (h, w))), y)


@given(p=st.integers(0, 19), gate=st.sampled_from(sorted(GATES)))
@settings(deadline=None, max_examples=12)
def test_without_a_gate_only_neighbours_are_seen(p: int, gate: str) -> None:
    mixer, x = _stirred(ConvMixer(WIDTH, gate=gate)), _pictures()[:1]
    y = x.clone()
    y[0, p] += 1
    place = TokenPositions(grid=(4, 5))
    changed = (mixer(x, place).out != mixer(y, place).out).any(-1)[0].view(4, 5)
    rows, columns = torch.arange(4)[:, None], torch.arange(5)
    near = ((rows - p // 5).abs() <= 1) & ((columns - p % 5).abs() <= 1)
    assert torch.equal(changed, near if gate == "none" else torch.ones_like(near))


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_gate_sees_the_mean_only(seed: int) -> None:
    gate, x = _stirred(CompactChannelAttention(WIDTH)), _pictures()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(gate(x[:, order]), gate(x)[:, order])
    others = x + (y := torch.randn_like(x)) - y.mean(1, keepdim=True)
    torch.testing.assert_close(gate(others) / others, gate(x) / x)
    share = gate.gate(x.mean(1))
    assert ((share > 0) & (share < 1)).all()
    torch.testing.assert_close(gate(x), x * share[:, None])


def test_gate_of_zero_weights_halves() -> None:
    gate, x = CompactChannelAttention(WIDTH), torch.randn(2, 20, WIDTH)
    nn.init.zeros_(gate.linear.weight)
    nn.init.zeros_(gate.linear.bias)
    assert torch.equal(gate(x), 0.5 * x)


def test_means_over_large_maps_are_taken_in_float32() -> None:
    x = torch.full((1, 2**16, 1), 3.0, dtype=torch.float16)  # the sum is beyond half precision
    assert mean_over(x).item() == 3 and mean_over(x).dtype == torch.float16
    assert mean_over(x, torch.ones(1, 2**16, dtype=torch.bool)).item() == 3
    assert mean_over(x, torch.zeros(1, 2**16, dtype=torch.bool)).item() == 0


def test_squeeze_and_excitation_is_two_layers() -> None:
    gate, x = _stirred(make_gate("se", 32)), torch.randn(2, 5, 32, dtype=torch.float64)
    narrow, _, wide = gate.linear.children()
    assert narrow.out_features == 2
    torch.testing.assert_close(gate(x), x * wide(narrow(x.mean(1)).relu()).sigmoid()[:, None])


def test_channel_self_attention_by_loops() -> None:
    gate, x = _stirred(make_gate("channels", 3)), torch.randn(1, 7, 3, dtype=torch.float64)
    q, k, v = gate.qkv(x)[0].split(3, dim=-1)
    for i in range(3):
        scores = torch.stack([F.cosine_similarity(q[:, i], k[:, j], dim=0) for j in range(3)])
        mixed = sum(weight * v[:, j] for j, weight in enumerate((gate.sharpness * scores).softmax(0)))
        torch.testing.assert_close(gate(x)[0, :, i], mixed)


@pytest.mark.parametrize("gate", sorted(GATES))
def test_tokens_that_are_not_there_are_outside_the_picture(gate: str) -> None:
    mixer, x = _stirred(ConvMixer(WIDTH, gate=gate)), _pictures()
    keep = torch.ones(2, 4, 5, dtype=torch.bool)
    keep[..., 3:] = False
    part = to_tokens(to_map(x, (4, 5))[..., :3])
    cut = to_map(mixer(x, TokenPositions(grid=(4, 5), keep=keep.flatten(1))).out, (4, 5))[..., :3]
    torch.testing.assert_close(to_tokens(cut), mixer(part, TokenPositions(grid=(4, 3))).out)


def test_gradients() -> None:
    mixer, x = _stirred(ConvMixer(2)), torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mixer(x, TokenPositions(grid=(2, 3))).out, x)
    mixer(x, TokenPositions(grid=(2, 3))).out.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in mixer.parameters())


def test_starts_xavier_uniform() -> None:
    mixer = ConvMixer(64)
    mixer.reset()
    bound = (6 / (9 + 9 * 64)) ** 0.5
    assert 0.9 * bound < mixer.depthwise.weight.abs().max() <= bound
    assert not any(layer.bias.any() for layer in (mixer.enter, mixer.depthwise, mixer.gate.linear, mixer.out))


def test_fresh_block_is_the_identity() -> None:
    block, x = DiTBlock(WIDTH, ConvMixer(WIDTH), Mlp(WIDTH)), torch.randn(2, 20, WIDTH)
    assert torch.equal(block(x, torch.randn(2, WIDTH), TokenPositions(grid=(4, 5))).out, x)


@pytest.mark.parametrize("mixer", ["dico", "dico(gate='none', kernel=5)"])
def test_mixes_inside_dit(mixer: str) -> None:
    model = _stirred(DiT(depth=2, width=16, heads=2, side=8, channels=3, classes=5, mixer=mixer, positions="none"))
    out = model(torch.randn(2, 3, 8, 8).double(), torch.rand(2).double(), torch.tensor([0, 5])).out
    assert out.shape == (2, 6, 8, 8) and out.isfinite().all()


def test_kernel_that_is_one_at_the_centre_is_the_identity() -> None:
    x, kernels = torch.randn(2, 3, 4, 6), torch.zeros(2, 9, 9, 3)
    kernels[:, 4, 4] = 1
    assert torch.equal(convolve_each(x, kernels), x)


@given(words=st.integers(1, 9), h=st.integers(1, 5), w=st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_caption_writes_kernels_by_loops(words: int, h: int, w: int) -> None:
    conv = _stirred(TextConv(2, 4, kernel=3))
    x, condition = torch.randn(2, h * w, 2).double(), torch.randn(2, words, 4).double()
    cells = conv.outer(F.gelu(conv.inner(condition)))
    wanted = torch.zeros_like(x)
    for b in range(2):
        for p in range(h * w):
            for cell in range(9):
                row, column = p // w + cell // 3 - 1, p % w + cell % 3 - 1
                if 0 <= row < h and 0 <= column < w:
                    wanted[b, p] += x[b, row * w + column] * cells[b, min(cell, words - 1)]
    torch.testing.assert_close(conv(x, condition, TokenPositions(grid=(h, w))), wanted)


def test_clip_captions_fill_nine_by_nine() -> None:
    words = torch.randn(1, 77, 3)
    cells = padded_words(words, 81)
    assert torch.equal(cells[:, :77], words) and torch.equal(cells[:, 77:], words[:, -1:].expand(1, 4, 3))
    assert torch.equal(padded_words(words, 77), words)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="gate='eca' is unknown; choose one of cca, se, channels, none"):
        ConvMixer(WIDTH, gate="eca")
    with pytest.raises(ValueError, match="kernel=4 must be odd, such as 3"):
        ConvMixer(WIDTH, kernel=4)
    with pytest.raises(ValueError, match="kernel=8 must be odd, such as 9"):
        TextConv(WIDTH, 4, kernel=8)
    mixer, x = ConvMixer(WIDTH), torch.randn(2, 20, WIDTH)
    with pytest.raises(ValueError, match=r"dico needs a grid \(h, w\) of 20 tokens; place.grid=\(4, 4\)"):
        mixer(x, TokenPositions(grid=(4, 4)))
    with pytest.raises(ValueError, match="it cannot be causal"):
        mixer(x, TokenPositions(grid=(4, 5), causal=True))
    with pytest.raises(ValueError, match=r"words of shape \(1, 82, 3\) must be 1 to 81 to a caption"):
        padded_words(torch.randn(1, 82, 3), 81)
    with pytest.raises(ValueError, match=r"words of shape \(1, 0, 3\)"):
        padded_words(torch.randn(1, 0, 3), 81)
