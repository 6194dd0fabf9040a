"""The memory encoder against a plain float64 rewrite, and what holds exactly of it and of its filters."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.papers.dit_mem import FreqFilter, MemoryEncoder, MemoryEncoderConfig, MemoryTokens, frequency_weights
from saccade.papers.dit_mem.encoder import pooled_in_time
from saccade.papers.dit_mem.frequency import distances

SMALL: dict[str, Any] = {
    "dim": 12, "channels": 3, "widths": (4, 5), "length": 4, "heads": 3, "latent": (6, 9, 10), "stride": (1, 2, 2),
    "pools": ((2, 1, 2), (1, 2, 1)),
}  # fmt: skip


def encoder(**changes: Any) -> MemoryEncoder:
    torch.manual_seed(0)
    made = MemoryEncoder(**SMALL | changes).double()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made.eval()


def latents(k: int = 3, b: int = 2) -> Tensor:
    return torch.randn(b, k, 3, 6, 9, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def plain(made: MemoryEncoder, x: Tensor) -> Tensor:
    """As released, token by token: nothing merged."""
    said, outs = made.config, []
    for branch in made.branches.values():
        y = x.flatten(0, 1)
        for block, pool in zip((branch.block1, branch.block2), said.pools, strict=True):
            y = block.conv(y)
            spectrum = torch.fft.fftn(y, dim=(2, 3, 4))[..., : y.shape[4] // 2 + 1]
            weight = torch.complex(*block.filter.weight.double().unbind(-1))
            kept = torch.fft.irfftn(spectrum * weight, s=y.shape[2:], dim=(2, 3, 4))
            norm = block.filter.norm
            centred = (kept + y - norm.running_mean.view(-1, 1, 1, 1)) / (
                norm.running_var.view(-1, 1, 1, 1) + norm.eps
            ).sqrt()
            y = F.max_pool3d((centred * norm.weight.view(-1, 1, 1, 1) + norm.bias.view(-1, 1, 1, 1)).relu(), pool)
        y = F.adaptive_avg_pool1d(y.movedim(1, 2).flatten(2).mT, said.length).mT
        z = branch.proj(y).reshape(len(x), -1, said.dim)
        at = made.attention
        q, k = (
            part / (part.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
            for part, norm in ((at.q(z), at.norm_q), (at.k(z), at.norm_k))
        )
        q, k, v = (part.unflatten(-1, (said.heads, -1)).transpose(1, 2) for part in (q, k, at.v(z)))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        outs.append(at.o((weights @ v).transpose(1, 2).flatten(2)))
    return torch.cat(outs, dim=1)


@pytest.mark.parametrize("length", [1, 2, 4, 7, 12])
def test_it_equals_the_plain_rewrite(length: int) -> None:
    """With fewer frames than tokens, as many, and more."""
    made, x = encoder(length=length), latents()
    found = made(x)
    assert found.shape == (2, 2 * 3 * length, 12)
    torch.testing.assert_close(found, plain(made, x), rtol=1e-9, atol=1e-10)


def test_merged_tokens_stand_for_equal_ones() -> None:
    made, x = encoder(length=12), latents()
    memory = made.memory(x)
    assert made.config.grids == ((6, 5, 5), (3, 5, 2), (3, 2, 2))
    assert memory.n == 2 * 3 * 3 and memory.counts == (4,) * 18
    still = encoder(length=100, pools=((6, 1, 2), (1, 2, 1)))
    memory = still.memory(x)
    assert memory.n == 6 and memory.counts == (100,) * 6  # one frame is left, as at full size
    again = MemoryTokens(plain(still, x).float()).merged()
    torch.testing.assert_close(again.expanded().sum(1), plain(still, x).float().sum(1))
    torch.testing.assert_close(memory.expanded(), plain(still, x), rtol=1e-9, atol=1e-10)


@given(frames=st.integers(1, 9), length=st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_windows_are_those_of_adaptive_pooling(frames: int, length: int) -> None:
    y = torch.randn(2, frames, 3, dtype=torch.float64)
    found, counts = pooled_in_time(y, length)
    assert sum(counts) == length
    torch.testing.assert_close(found.repeat_interleave(torch.tensor(counts), 1), F.adaptive_avg_pool1d(y.mT, length).mT)


@pytest.mark.parametrize("tokens", ["time", "grid", "fine_grid"])
@pytest.mark.parametrize("training", [False, True])
def test_the_order_of_the_videos_does_not_matter(tokens: str, training: bool) -> None:
    """Nor in training, so that the released shuffle changes nothing."""
    made, x = encoder(tokens=tokens, dropout=0.0).train(training), latents()
    order = torch.tensor([2, 0, 1])
    m = made.config.tokens_of_a_video
    one = made(x).unflatten(1, (2, 3, m))[:, :, order]
    two = made(x[:, order]).unflatten(1, (2, 3, m))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10)


def test_each_prompt_is_encoded_by_itself() -> None:
    made, x = encoder(), latents()
    torch.testing.assert_close(made(x)[1:], made(x[1:]), rtol=1e-9, atol=1e-10)


def test_grids_become_tokens() -> None:
    for tokens, count in (("grid", 3 * 2 * 2), ("fine_grid", 3 * 5 * 2)):
        made = encoder(tokens=tokens)
        found = made.memory(latents())
        assert made.config.tokens_of_a_video == count and found.n == 2 * 3 * count and found.log_counts is None
        distinct = MemoryTokens(found.tokens[:1]).merged().n  # but where ReLU leaves nothing
        assert distinct > 0.9 * found.n


def test_one_branch_is_what_it_is_beside_the_other() -> None:
    both, high = encoder(), encoder(branches=("high",))
    high.load_state_dict({k: v for k, v in both.state_dict().items() if ".low." not in k})
    torch.testing.assert_close(high(latents()), both(latents())[:, : 3 * 4], rtol=1e-12, atol=0)


def test_no_video_gives_no_token() -> None:
    assert encoder()(latents()[:, :0]).shape == (2, 0, 12)


def test_parameters_of_the_published_sizes() -> None:
    for size, count, latent in (("Wan2.1-1.3B", 78_782_976, (1, 3, 6)), ("Wan2.2-5B", 149_574_144, (1, 3, 6))):
        with torch.device("meta"):
            made = MemoryEncoder.of(size)
        assert sum(p.numel() for p in made.parameters()) == count and made.config.final == latent
        assert sum(p.numel() for p in made.parameters() if not p.requires_grad) == 5120  # stored and unused
        shapes = {name: tuple(b.shape) for name, b in made.named_buffers() if name.endswith("filter.weight")}
        assert shapes["branches.high.block1.filter.weight"] == (512, 6, 15, 14, 2)
        assert shapes["branches.low.block2.filter.weight"] == (768, 3, 7, 7, 2)
        assert made.config.grids == ((6, 15, 26), (3, 7, 13), (1, 3, 6))


def test_half_precision_takes_its_spectrum_in_single(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = encoder().float(), latents().float()
    wanted, seen, own = made(x), [], torch.fft.rfftn
    monkeypatch.setattr(torch.fft, "rfftn", lambda y, **k: (seen.append(y.dtype), own(y, **k))[1])
    found = made.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16 and seen == [torch.float32] * 4
    assert (found.float() - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_only_parameters_learn_and_filters_stay() -> None:
    made = encoder().train()
    before = {name: value.clone() for name, value in made.named_buffers() if name.endswith("filter.weight")}
    optimiser = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    made(latents()).square().sum().backward()
    optimiser.step()
    assert all(p.grad is not None for p in made.parameters() if p.requires_grad)
    assert len(before) == 4 and all(torch.equal(made.get_buffer(name), value) for name, value in before.items())
    assert not any("unused" in name for name, p in made.named_parameters() if p.requires_grad)


def test_gradients_reach_the_latents_as_those_of_the_plain_rewrite() -> None:
    made, x = encoder(length=7), latents().requires_grad_()
    weigh = torch.randn(2, 42, 12, dtype=torch.float64)
    (one,) = torch.autograd.grad((made(x) * weigh).sum(), x)
    (two,) = torch.autograd.grad((plain(made, x) * weigh).sum(), x)
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


def test_filters_are_stored_with_the_model_and_drawn_by_seed(tmp_path: Any) -> None:
    made = MemoryEncoder(**SMALL | {"seed": 3})
    made.save_pretrained(tmp_path)
    again = MemoryEncoder.from_pretrained(tmp_path)
    assert again.config == made.config
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), again.state_dict().values(), strict=True))
    name = "branches.high.block1.filter.weight"
    assert torch.equal(MemoryEncoder(**SMALL | {"seed": 3}).get_buffer(name), made.get_buffer(name))
    assert not torch.equal(MemoryEncoder(**SMALL).get_buffer(name), made.get_buffer(name))


def test_another_size_is_asked_for_and_never_taken_silently() -> None:
    made = encoder()
    before = made.get_buffer("branches.high.block1.filter.weight").clone()
    bigger = torch.randn(1, 2, 3, 8, 13, 14, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"drawn for .*take encoder.resized\(\(8, 13, 14\)\), which draws other"):
        made(bigger)
    assert torch.equal(made.get_buffer("branches.high.block1.filter.weight"), before)
    other = made.resized((8, 13, 14), seed=5)
    assert other.config.final == made.config.final and other(bigger).shape == (1, 2 * 2 * 4, 12)
    assert torch.equal(other.branches.high.proj.weight, made.branches.high.proj.weight)
    with pytest.raises(ValueError, match=r"filter.weight .*complex_weight\) \(4, 6, 5, 3, 2\) for \(4, 8, 7, 4, 2\)"):
        other.load_official(made.official_state())
    with pytest.raises(ValueError, match=r"features of grid \(2, 2, 2\) do not fit the filter's weights"):
        FreqFilter(2, (2, 2, 3), "low")(torch.zeros(1, 2, 2, 2, 2))


@pytest.mark.bad_input
def test_bad_options_and_latents_are_named() -> None:
    with pytest.raises(ValueError, match=r"must be \(prompts, videos, 3, frames, height, width\)"):
        encoder()(latents()[:, :, :2])
    with pytest.raises(ValueError, match=r"latent=\(2, 9, 10\) is too small.*larger latents"):
        encoder(latent=(2, 9, 10), pools=((4, 1, 1), (1, 1, 1)))
    for options, said in (
        ({"heads": 5}, "dim=12 must be a multiple of heads=5"),
        ({"branches": ("middle",)}, "must be 'high', 'low' or both"),
        ({"tokens": "none"}, "tokens='none' is unknown"),
        ({"freq_layout": "x"}, "freq_layout='x' is unknown"),
        ({"length": 0}, "length=0 must be at least 1"),
    ):
        with pytest.raises(ValueError, match=said):
            MemoryEncoderConfig(**SMALL | options)
    with pytest.raises(ValueError, match="band='mid' is unknown"):
        frequency_weights(2, (2, 2, 2), "mid")


# the filter alone


def filtering(weight: Tensor, grid: tuple[int, int, int], c: int) -> FreqFilter:
    made = FreqFilter(c, grid, "high", dropout=0.0).double().eval()
    made.weight = weight
    return made


SIDES = st.integers(1, 6)


@given(d=SIDES, h=SIDES, w=SIDES, seed=st.integers(0, 100))
@settings(deadline=None, max_examples=25)
def test_a_filter_of_ones_doubles_and_a_constant_is_scaled(d: int, h: int, w: int, seed: int) -> None:
    grid, rng = (d, h, w), torch.Generator().manual_seed(seed)
    y = torch.randn(2, 3, d, h, w, dtype=torch.float64, generator=rng)
    ones = torch.stack((torch.ones(3, d, h, w // 2 + 1), torch.zeros(3, d, h, w // 2 + 1)), -1).double()
    norm = (1 + 1e-5) ** -0.5  # a fresh BatchNorm
    torch.testing.assert_close(filtering(ones, grid, 3)(y), 2 * y * norm)
    drawn = frequency_weights(3, grid, "low", generator=rng).double()
    level = torch.randn(2, 3, 1, 1, 1, dtype=torch.float64, generator=rng).expand(-1, -1, d, h, w)
    found = filtering(drawn, grid, 3)(level)
    scale = drawn[:, 0, 0, 0, 0].reshape(3, 1, 1, 1)  # the imaginary part at 0 is dropped
    torch.testing.assert_close(found, (1 + scale) * level * norm)
    assert not found.is_complex() and found.shape == y.shape


@given(n=st.integers(2, 9))
@settings(deadline=None, max_examples=10)
def test_layouts_differ_in_negative_frequencies(n: int) -> None:
    by_index, by_size = distances((n, 1, 1))[:, 0, 0], distances((n, 1, 1), "symmetric")[:, 0, 0]
    assert by_index.argmax() == n - 1 and (by_index.diff() > 0).all()  # frequency -1 counts as the highest
    torch.testing.assert_close(by_size[1:], by_size[1:].flip(0))
    wide = distances((1, 1, n), "symmetric")[0, 0]
    assert (wide.diff() > 0).all()


@pytest.mark.parametrize("layout", ["official", "symmetric"])
def test_high_passes_grow_and_low_passes_fall_with_frequency(layout: Any) -> None:
    rho = distances((4, 5, 6), layout).flatten().argsort()
    for band, sign in (("high", 1), ("low", -1)):
        real = frequency_weights(5, (4, 5, 6), band, layout=layout, noise=0)[..., 0].flatten(1)[:, rho]
        assert (sign * real.diff() >= -1e-6).all() and real.min() >= 0.2 and real.max() <= 1.2 + 1e-6
    noisy = frequency_weights(64, (4, 5, 6), "high", layout=layout)
    assert noisy[..., 0].min() >= 0.05 and noisy[..., 0].max() <= 1.2
    assert 0.04 < noisy[..., 1].std() < 0.06


def test_a_grid_of_one_place_has_weights_too() -> None:
    assert FreqFilter(3, (1, 1, 1), "high").weight[..., 0].abs().min() > 0
