"""PT-DiT: counts, its block against a plain rewrite, official names, positions, videos, words, PixArt."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel, PixArtTransformer2DModel
from diffusers.models.attention_processor import AttnProcessor2_0

from saccade.models import Architecture
from saccade.models.macs import macs
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_mixer
from saccade.papers import PTDiT
from saccade.papers.pt_dit.config import PTDiTConfig, window_at
from saccade.papers.pt_dit.conversion import from_pixart, replace_by_proxies
from saccade.papers.pt_dit.proxies import mixing_pairs
from saccade.papers.pt_dit.video_positions import video_table
from saccade.papers.pt_dit.windows import merge, partition

TINY = PTDiTConfig(depth=2, width=32, heads=2, side=8, words_width=12, window=(1, 2, 2))
PLACE = TokenPositions(grid=(1, 4, 4))
SMALL_HOST: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 24, "num_layers": 2, "sample_size": 8}


def _stirred(model: Any) -> Any:
    """Weights that are no longer zero anywhere."""
    torch.manual_seed(0)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model.eval()


def _batch(side: int = 8, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(rows, 4, side, side), torch.rand(rows), torch.randn(rows, 5, 12)


# ---- counts


def test_parameters() -> None:
    with torch.device("meta"):
        model = PTDiT.of("T2I-1B")
    assert [sum(p.numel() for p in block.parameters()) for block in model.blocks] == [39_854_592] * 28
    assert round(28 * 39_854_592 / 1e9, 3) == 1.116
    assert f"{sum(p.numel() for p in model.parameters()) / 1e9:.1f}B" == "1.1B"


def test_windows_grow_with_the_picture() -> None:
    assert [window_at(side) for side in (256, 512, 1024, 2048)] == [(1, 2, 2), (1, 4, 4), (1, 8, 8), (1, 16, 16)]
    assert window_at(512, video=True) == (4, 4, 4)
    with pytest.raises(ValueError, match="side=200 must be a multiple of 128"):
        window_at(200)


# ---- the block


def _modulated(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    return x * (1 + scale) + shift


def _attended(layer: Any, x: torch.Tensor, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    q, k, v = layer.q(x), layer.k(source), layer.v(source)
    heads = []
    for each in torch.arange(q.shape[1]).chunk(layer.heads):
        scores = q[:, each] @ k[:, each].T / len(each) ** 0.5
        heads.append(scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v[:, each])
    return layer.out(torch.cat(heads, dim=1))


def _plain_block(block: Any, x: torch.Tensor, e: torch.Tensor, words: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """One sample (16 d) on a 4 x 4 grid in windows of 2 x 2, step by step as the paper lists them."""
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation.bias + e
    shift3, scale3, gate3 = block.far_modulation.bias + e[:3]
    every = torch.ones(1, 1, dtype=torch.bool)
    home = places[:, 0] // 2 * 2 + places[:, 1] // 2
    y = torch.stack([x[home == window].mean(0) for window in range(4)])
    normed = _modulated(y, *torch.zeros(2, 1))
    y = y + _attended(block.proxies.attention, normed, normed, every)
    attended = _attended(
        block.proxies.cross, _modulated(x, *torch.zeros(2, 1)), _modulated(y, *torch.zeros(2, 1)), every
    )
    x = x + block.proxies.out(attended)
    u = _modulated(x, shift1, scale1)
    x = x + gate1 * _attended(block.near.attention, u, u, home[:, None] == home)
    moved = (places + 1) // 2
    u = _modulated(x, shift3, scale3)
    x = x + block.far_out(gate3 * _attended(block.far.attention, u, u, (moved[:, None] == moved).all(-1)))
    x = x + _attended(block.words, x, words, keep[None])
    return x + gate2 * block.ffn(_modulated(x, shift2, scale2)[None], PLACE).out[0]


def test_block_against_a_plain_rewrite() -> None:
    block = _stirred(PTDiT(TINY)).blocks[0].double()
    x, e, words = (torch.randn(2, *shape).double() for shape in ((16, 32), (6, 32), (5, 32)))
    keep = torch.tensor([[True] * 5, [True, True, True, False, False]])
    hidden = torch.where(keep, 0.0, -10000.0).double()[:, None, None]
    found = block(x, e.flatten(1), PLACE, words, hidden).out
    for row in range(2):  # times differ, so each row needs its own modulation
        torch.testing.assert_close(found[row], _plain_block(block, x[row], e[row], words[row], keep[row]))


def test_fresh_block_needs_neither_proxies_nor_shifted_windows() -> None:
    block: Any = PTDiT(TINY).blocks[0]
    x, shared, words = torch.randn(2, 16, 32), torch.randn(2, 192), torch.randn(2, 5, 32)
    out = block(x, shared, PLACE, words).out
    without: Any = copy.deepcopy(block)
    without.proxies = without.far = None
    assert torch.equal(without(x, shared, PLACE, words).out, out)
    out.square().sum().backward()
    for layer in (block.proxies.out, block.far_out):
        assert layer.weight.grad.any() and layer.bias.grad.any()


def test_modulated_proxies_hear_the_time() -> None:
    x, words = torch.randn(1, 16, 32), torch.randn(1, 5, 32)
    for modulated in (False, True):
        block = _stirred(PTDiT(TINY, proxies_modulated=modulated, steps=("proxies",))).blocks[0]
        shared = torch.zeros(1, 6, 32)
        shared[:, 2] = 5.0  # the first gate
        same = torch.equal(
            block(x, shared.flatten(1), PLACE, words).out, block(x, 0 * shared.flatten(1), PLACE, words).out
        )
        assert same is not modulated


# ---- the model


def test_fresh_model_answers_zero_in_shape() -> None:
    x, t, words = _batch()
    out, losses = PTDiT(TINY)(x, t, words)
    assert out.shape == (3, 8, 8, 8) and not out.any() and losses == {}
    video = PTDiT(TINY, window=(2, 2, 2), frames=4, learned_variance=False)
    assert video(torch.randn(3, 4, 6, 8, 4), t, words).out.shape == (3, 4, 6, 8, 4)


@pytest.mark.parametrize("choice", ["mean", "first", "random"])
def test_rows_do_not_see_each_other(choice: str) -> None:
    model, (x, t, words) = _stirred(PTDiT(TINY, choice=choice)), _batch()
    whole = model(x, t, words).out
    torch.testing.assert_close(whole[1:2], model(x[1:2], t[1:2], words[1:2]).out)
    assert torch.equal(whole, model(x, t, words).out)


def test_blocks_draw_each_for_themselves() -> None:
    blocks: Any = PTDiT(TINY, choice="random", seed=7).blocks
    assert [block.proxies.proxies.seed for block in blocks] == [7, 8]


def test_a_video_of_one_frame_is_a_picture() -> None:
    model, (x, t, words) = _stirred(PTDiT(TINY)), _batch()
    assert torch.equal(model(x[:, :, None], t, words).out[:, :, 0], model(x, t, words).out)


def test_patches_return_to_their_places() -> None:
    """Without blocks that mix and without positions the model is one linear map of each patch."""
    model, (_, t, words) = _stirred(PTDiT(TINY, frames=2, window=(1, 2, 2))), _batch()
    model.blocks, video = torch.nn.ModuleList(), torch.randn(1, 4, 2, 8, 8)
    changed = video.clone()
    changed[0, :, 1, 2:4, 6:8] += 1
    moved = (model(video, t[:1], words[:1]).out != model(changed, t[:1], words[:1]).out).any(1)[0]
    assert moved[1, 2:4, 6:8].any() and int(moved.sum()) == int(moved[1, 2:4, 6:8].sum())


def test_padding_words_are_not_seen() -> None:
    model, (x, t, words) = _stirred(PTDiT(TINY)), _batch()
    keep = torch.tensor([[True, True, False, False, False]] * 3)
    torch.testing.assert_close(model(x, t, words, keep).out, model(x, t, words[:, :2]).out)
    torch.testing.assert_close(model(x, t, words, keep | True).out, model(x, t, words).out)


def test_stored_and_read(tmp_path: Path) -> None:
    model = _stirred(PTDiT(TINY, inner=(1, 1, 2), order="strided", choice="first", steps=("proxies", "near")))
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path).eval()
    assert again.config == model.config
    assert torch.equal(again(*_batch()).out, model(*_batch()).out)


# ---- positions


def test_positions_are_time_then_column_then_row() -> None:
    table = video_table((3, 2, 5), 32, step=0.5)
    rates = 10000 ** -(torch.arange(4.0) / 4)
    cell = table[2].view(2, 5, 32)[1, 3]
    torch.testing.assert_close(cell[:8], torch.cat(((2 * rates).sin(), (2 * rates).cos())))
    rates = 10000 ** -(torch.arange(6.0) / 6)
    torch.testing.assert_close(cell[8:20], torch.cat(((1.5 * rates).sin(), (1.5 * rates).cos())))
    torch.testing.assert_close(cell[20:], torch.cat(((0.5 * rates).sin(), (0.5 * rates).cos())))


def test_swapped_positions_run_through_columns_of_the_height() -> None:
    grid = (1, 4, 6)
    table = PTDiT(TINY, swapped=True).config.table(grid)[0]
    proper = PTDiT(TINY).config.table((1, 6, 4))[0].view(6, 4, 32)
    for token in range(24):
        assert torch.equal(table[token], proper[token // 4, token % 4])
    square = (1, 4, 4)
    assert torch.equal(PTDiT(TINY, swapped=True).config.table(square), PTDiT(TINY).config.table(square))


def test_positions_follow_the_picture() -> None:
    small, large = _stirred(PTDiT(TINY)), PTDiT(TINY, side=16)
    weights = small.state_dict() | {"positions": large.positions}
    large.load_state_dict(weights)
    batch = _batch(side=16)
    assert torch.equal(small(*batch).out, large.eval()(*batch).out)
    halved = PTDiT(TINY, side=128, sized=False).config.table((1, 4, 4))
    assert torch.equal(halved, video_table((1, 4, 4), 32, step=0.5))


# ---- resolution and aspect


def test_size_is_told_at_side_128_and_ignored_at_first() -> None:
    sized = PTDiT(TINY, width=48, side=128, depth=1)
    assert not hasattr(PTDiT(TINY), "resolution") and sized.resolution.outer.out_features == 16
    x, t, words = _batch()
    video, size = x[:, :, None], torch.tensor([[64.0, 64.0]]).expand(3, 2)
    assert torch.equal(sized._condition(t, video, None), sized.time(t))
    _stirred(sized)
    usual = sized(x, t, words).out
    assert torch.equal(sized(x, t, words, size=size).out, usual)
    assert not torch.equal(sized(x, t, words, size=2 * size).out, usual)


# ---- official names


def test_official_names() -> None:
    model, other = _stirred(PTDiT(TINY, side=128, width=48)), PTDiT(TINY, side=128, width=48)
    state = model.official_state()
    assert other.load_official(state).complete
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    layers = [f"{a}.{b}" for a in ("proxy_attn1", "pvisual_attn2", "attn1", "attn3", "attn2")
              for b in ("to_q", "to_k", "to_v", "to_out.0")]  # fmt: skip
    layers += ["linear_1_visual", "linear_2", "ff.net.0.proj", "ff.net.2"]
    block = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    block |= {"scale_shift_table", "proxy_scale_shift_table"}
    begin = "transformer_blocks.1."
    assert {name.removeprefix(begin) for name in state if name.startswith(begin)} == block
    embedders = [f"adaln_single.emb.{name}.linear_{i}" for i in (1, 2)
                 for name in ("timestep_embedder", "resolution_embedder", "aspect_ratio_embedder")]  # fmt: skip
    embedders += ["adaln_single.linear", "caption_projection.linear_1", "caption_projection.linear_2", "pos_embed.proj",
                  "proj_out"]  # fmt: skip
    rest = {f"{name}.{part}" for name in embedders for part in ("weight", "bias")}
    assert {name for name in state if "blocks" not in name} == rest | {"scale_shift_table", "pos_embed.pos_embed"}
    assert state["pos_embed.pos_embed"].shape == (1, 1, 64 * 64, 48)


# ---- from PixArt and DiT


class _InWindows:
    """Diffusers' own attention, window by window."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, **given: Any) -> torch.Tensor:
        parts = partition(hidden_states, (4, 4), (2, 2))
        seen = AttnProcessor2_0()(attn, parts.flatten(0, 1))
        return merge(seen.unflatten(0, parts.shape[:2]), (4, 4), (2, 2))


def _pixart(**changes: Any) -> Any:
    usual = SMALL_HOST | {"cross_attention_dim": 48, "caption_channels": 12}
    return _stirred(PixArtTransformer2DModel(**usual | changes))


def _in_windows(model: Any) -> Any:
    for block in model.transformer_blocks:
        block.attn1.set_processor(_InWindows())
    return model


@pytest.mark.parametrize("sized", [False, True])
@torch.no_grad()
def test_converted_pixart_is_pixart_in_windows(sized: bool) -> None:
    pixart, (x, t, words) = _pixart(use_additional_conditions=sized), _batch()
    model = from_pixart(pixart, window=(1, 2, 2)).eval()
    keep, size = torch.tensor([[True, True, True, False, True]] * 3), torch.tensor([[64.0, 32.0]] * 3)
    added = {"resolution": size, "aspect_ratio": size[:, :1] / size[:, 1:]} if sized else None
    found = model(x, 999 * t, words, keep, size=size).out
    wanted = _in_windows(pixart)(x, words, 999 * t, added, encoder_attention_mask=keep.float()).sample
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_converted_pixart_at_another_size() -> None:
    pixart, (x, t, words) = _pixart(), _batch(side=16)
    model = from_pixart(pixart, window=(1, 8, 8)).eval()  # one window: attention is whole on both sides
    torch.testing.assert_close(model(x, t, words).out, pixart(x, words, t).sample)
    x = torch.randn(3, 4, 16, 32)
    model = from_pixart(pixart, window=(1, 8, 16)).eval()
    torch.testing.assert_close(model(x, t, words).out, pixart(x, words, t).sample)


def test_pixart_of_another_build() -> None:
    with pytest.raises(
        ValueError, match="this PixArt is not built as PT-DiT is: one of them has no blocks.0.near.attention.q.bias"
    ):
        from_pixart(_pixart(attention_bias=False), window=(1, 2, 2))
    with pytest.raises(ValueError, match="one of them has no caption.up.weight"):
        from_pixart(_pixart(caption_channels=None), window=(1, 2, 2))
    with pytest.raises(ValueError, match="interpolation_scale=2 of this PixArt is not PT-DiT's; it must be 1"):
        from_pixart(_pixart(interpolation_scale=2), window=(1, 2, 2))


@torch.no_grad()
def test_mixer_in_the_place_of_self_attention() -> None:
    model = _stirred(DiTTransformer2DModel(**SMALL_HOST, num_embeds_ada_norm=10))
    labels = torch.tensor([1, 2, 3])
    x, t, _ = _batch()
    before, wanted = model(x, t, labels).sample, _in_windows(copy.deepcopy(model))(x, t, labels).sample
    with replace_by_proxies(model, "proxy(window=(2, 2))"):
        torch.testing.assert_close(model.eval()(x, t, labels).sample, wanted)
    assert torch.equal(model(x, t, labels).sample, before)
    pixart, (x, t, words) = _pixart(), _batch()
    wanted = _in_windows(copy.deepcopy(pixart))(x, words, t).sample
    replace_by_proxies(pixart)
    torch.testing.assert_close(pixart.eval()(x, words, t).sample, wanted)
    with pytest.raises(ValueError, match="mixer='dico' has no windows to take the attention over"):
        replace_by_proxies(model, "dico")
    assert hasattr(model.transformer_blocks[0].attn1, "to_q")


# ---- the same parts in a model and in a mixer


@pytest.mark.parametrize(
    ("options", "mixer", "counts"),
    [
        ({}, "proxy(window=(8, 8))", {}),
        ({"inner": (1, 4, 4)}, "proxy(window=(8, 8), inner=(4, 4))", {"proxies": 4}),
        ({"steps": ("near", "far")}, "proxy(window=(8, 8), proxies='none')", {"proxies": 0}),
        ({"steps": ("proxies", "near")}, "proxy(window=(8, 8), shifted=False)", {"windows": 1}),
    ],
)
def test_a_mixer_spends_the_pairs_that_are_counted_for_the_model(
    options: dict[str, Any], mixer: str, counts: dict[str, int]
) -> None:
    with torch.device("meta"):
        model, mixed = PTDiT.of("T2I-1B", depth=1, window=(1, 8, 8), **options), make_mixer(mixer, 64, 4)
        place = TokenPositions(grid=(16, 16))
        spent = [macs(mixed, torch.zeros(1, 256, 64), place, attention=on) for on in (True, False)]
    pairs = mixing_pairs((1, 16, 16), (1, 8, 8), **counts)
    assert model.config.steps == options.get("steps", model.config.steps)
    assert model.config.inner == options.get("inner")
    assert spent[0] - spent[1] == 2 * 64 * pairs
    assert mixing_pairs((1, 16, 16), (1, 8, 8), **counts, text=10) == pairs + 2560


# ---- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 0}, "side=0 must be at least 1"),
        ({"side": 9}, "side=9 must be a multiple of patch=2"),
        ({"width": 24}, "width=24 must be a multiple of 16"),
        ({"modulation": "zero"}, "modulation='zero' is none of PT-DiT's"),
        ({"positions": "none"}, "positions='none' must be 'video' or 'picture'"),
        ({"steps": ("near", "text")}, "must be some of proxies, near, far"),
        ({"steps": ()}, "must be some of proxies, near, far"),
        ({"window": (2, 2)}, r"window=\(2, 2\) must be \(frames, height, width\)"),
        ({"choice": "last"}, "choice='last' must be one of mean, first, random"),
        ({"inner": (1, 3, 1)}, r"inner=\(1, 3, 1\) does not fit into window=\(1, 2, 2\): height of 2"),
        ({"inject": "sum"}, "inject='sum' must be one of cross"),
        ({"heads": 3}, "width=32 must be a multiple of heads=3"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PTDiT(TINY, **changes)


def test_side_must_be_said() -> None:
    with pytest.raises(ValueError, match="side=0 must be at least 1"):
        PTDiTConfig()


def test_bad_input() -> None:
    model, (x, t, words) = PTDiT(TINY), _batch()
    with pytest.raises(ValueError, match=r"x of shape \(3, 4, 64\) must be \(b, 4, h, w\), or \(b, 4, f, h, w\)"):
        model(x.flatten(2), t, words)
    with pytest.raises(ValueError, match=r"x of shape \(3, 3, 8, 8\) must be"):
        model(x[:, :3], t, words)
    with pytest.raises(ValueError, match=r"keep of shape \(3, 4\) must be \(3, 5\), as words are"):
        model(x, t, words, torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"width of 3 tokens does not divide into 2s: grid=\(1, 4, 3\)"):
        model(x[..., :6], t, words)
    with pytest.raises(ValueError, match=r"frames of 3 tokens does not divide into 2s"):
        PTDiT(TINY, frames=2, window=(2, 2, 2))(torch.randn(3, 4, 3, 8, 8), t, words)
