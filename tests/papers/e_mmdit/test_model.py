"""E-MMDiT: counts, sizes, official names, what each part leaves alone, and messages."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.models import Architecture
from saccade.papers import EMMDiT
from saccade.papers.e_mmdit.config import SIZES, EMMDiTConfig
from saccade.papers.e_mmdit.joint_attention import JointAttention, JointBlock
from saccade.papers.e_mmdit.subregions import FULL, group_of

TINY = EMMDiTConfig(groups=(1, 2, 2), width=32, heads=2, side=16, channels=3, words_width=24)


def _stirred(model: nn.Module) -> Any:
    torch.manual_seed(0)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.2)
    return model.eval()


def _batch(h: int = 16, w: int = 16, words: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 3, h, w), torch.tensor([0.2, 0.9]), torch.randn(2, words, 24)


def _count(*modules: nn.Module) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())


def test_parameters_part_by_part() -> None:
    with torch.device("meta"):
        model = EMMDiT()
    *usual, last = [block for group in model.blocks for block in group]
    assert {_count(block) for block in usual} == {11_830_400} and len(usual) == 23
    assert _count(last) == 7_688_576
    assert (_count(model.compressor), _count(model.reconstructor)) == (12_979_200, 3_727_872)
    assert (_count(model.time, model.shared), _count(model.words)) == (4_331_520, 1_573_632)
    assert (_count(model.patches), _count(model.final)) == (25_344, 24_608)
    assert _count(model) == EMMDiT.parameters_of(SIZES["512px"]) == 302_449_952
    assert EMMDiT.parameters_of(SIZES["1024px"]) == 302_449_952


@pytest.mark.parametrize(("kind", "count"), [("affine", 9_216), ("single", 4_608), ("zero", 3_543_552)])
def test_modulation_costs(kind: Any, count: int) -> None:
    with torch.device("meta"):
        block = JointBlock(768, 24, modulation=kind)
    assert _count(block.image.modulation) == _count(block.text.modulation) == count


def test_pairs() -> None:
    both, squeezed = EMMDiTConfig(), EMMDiTConfig(patterns=FULL)
    full = EMMDiTConfig(patterns=FULL, compress=False)
    assert (full.pairs(), squeezed.pairs(), both.pairs()) == (3_538_944, 1_871_872, 961_984)
    assert both.tokens((16, 16)) == (256,) * 4 + (80,) * 16 + (256,) * 4


def test_pairs_are_those_that_are_attended(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, plain = [], nn.functional.scaled_dot_product_attention

    def counting(q: Tensor, k: Tensor, v: Tensor, **more: Any) -> Tensor:
        counted.append(k.shape[0] // 2 * k.shape[2] ** 2)
        return plain(q, k, v, **more)

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", counting)
    EMMDiT(TINY)(*_batch())
    assert sum(counted) == TINY.pairs(32)


def test_the_same_positions_twice() -> None:
    model, seen = _stirred(EMMDiT(TINY)), []
    at = torch.arange(16) / 6 + 40 / 6  # the middle of a table of 96
    rates = 10000.0 ** -(torch.arange(8) / 8)
    line = torch.cat(((at[:, None] * rates).sin(), (at[:, None] * rates).cos()), dim=-1)
    table = torch.cat((line.expand(16, 16, 16), line[:, None].expand(16, 16, 16)), dim=-1).flatten(0, 1)
    torch.testing.assert_close(model.places((16, 16)), table)
    whole = model.positions
    assert torch.equal(model.places((8, 32)), whole[44:52, 32:64].flatten(0, 1))  # the middle of 96 x 96
    assert not whole.requires_grad and "positions" not in model.state_dict()
    model.blocks[0][0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.blocks[2][0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.patches.register_forward_hook(lambda _, __, out: seen.append(out))
    model.reconstructor.register_forward_hook(lambda _, __, out: seen.append(out))
    model(*_batch())
    patches, first, rebuilt, last = seen
    assert torch.equal(first, patches + model.places((16, 16))) and torch.equal(last, rebuilt + model.places((16, 16)))


def test_the_1024_px_table_holds_the_512_px_one() -> None:
    small, large = EMMDiTConfig(width=16, heads=1), EMMDiTConfig(width=16, heads=1, side=32, patterns=FULL)
    assert torch.equal(EMMDiT(small).places((16, 16)), EMMDiT(large).places((16, 16)))


@pytest.mark.parametrize(("h", "w"), [(16, 16), (8, 32), (32, 16)])
def test_any_picture_that_can_be_grouped(h: int, w: int) -> None:
    model = _stirred(EMMDiT(TINY))
    x, t, words = _batch(h, w)
    out, losses = model(x, t, words)
    assert out.shape == x.shape and losses == {} and torch.equal(out, model(x, t, words).out)
    torch.testing.assert_close(out[:1], model(x[:1], t[:1], words[:1]).out)


def test_wide_and_high_pictures_are_not_confused() -> None:
    """A transposed picture in a model whose tables are swapped likewise gives the transposed answer."""
    wide = EMMDiT(TINY, patterns=FULL, compress=False)
    high = EMMDiT(TINY, patterns=FULL, compress=False)
    high.load_state_dict(_stirred(wide).state_dict())
    high.positions = high.positions.transpose(0, 1)
    x, t, words = _batch(8, 32)
    torch.testing.assert_close(wide(x, t, words).out.mT, high.eval()(x.mT, t, words).out)


def test_every_weight_learns_but_what_the_last_words_would_ask() -> None:
    model = _stirred(EMMDiT(TINY))
    model(*_batch()).out.square().sum().backward()
    idle = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert idle == {f"blocks.2.1.attention.text.{part}" for part in ("q.weight", "q.bias", "norm_q.weight")}
    assert all(weight.grad.any() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize(("regions", "run"), [(4, 1), (4, 4)])
def test_a_group_hears_its_own_picture_and_words_alone(regions: int, run: int) -> None:
    attention = _stirred(JointAttention(16, 2, regions=regions, run=run))
    x, words = torch.randn(1, 32, 16), torch.randn(1, 16, 16)
    here = [group_of(n, regions, run) == 1 for n in (32, 16)]
    answers = attention(x, words)
    for given in range(2):
        changed = [x.clone(), words.clone()]
        changed[given][:, here[given]] += 1
        for answer, again, mine in zip(answers, attention(*changed), here, strict=True):
            assert torch.equal((answer == again).all(-1)[0], ~mine)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("regions", "run"), [(1, 1), (4, 1), (4, 4)])
def test_joint_attention_equals_one_masked_map(regions: int, run: int, last: bool) -> None:
    attention = _stirred(JointAttention(16, 2, regions=regions, run=run, last=last)).double()
    x, words = torch.randn(2, 48, 16, dtype=torch.double), torch.randn(2, 16, 16, dtype=torch.double)
    keep = torch.rand(2, 16) > 0.4
    sides = [attention.image(x), attention.text(words)]
    q, k, v = (torch.cat([side[i] for side in sides], dim=2) for i in range(3))
    label = torch.cat([group_of(n, regions, run) for n in (48, 16)])
    allowed = (label[:, None] == label) & torch.cat((torch.ones(2, 48).bool(), keep), dim=1)[:, None, None]
    scores = (q @ k.mT * 8**-0.5).masked_fill(~allowed, -torch.inf)
    wanted = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2).split([48, 16], dim=1)
    seen, text = attention(x, words, keep)
    torch.testing.assert_close(seen, attention.image.out(wanted[0]))
    assert text is None if last else torch.allclose(text, attention.text.out(wanted[1]))


@pytest.mark.parametrize("last", [False, True])
def test_a_block_equals_a_plain_rewrite(last: bool) -> None:
    block = _stirred(JointBlock(16, 2, regions=4, last=last)).double()
    x, words, c = torch.randn(2, 16, 16), torch.randn(2, 8, 16), torch.randn(2, 96)
    x, words, c = x.double(), words.double(), c.double()

    def vectors(stream: Any) -> list[Tensor]:
        tables = zip(stream.modulation.bias, stream.modulation.scale, c.split(16, dim=1), strict=True)
        return [bias + condition[:, None] * (1 + scale) for bias, scale, condition in tables]

    def normed(each: Tensor) -> Tensor:
        return (each - each.mean(-1, keepdim=True)) / (each.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()

    def halves(stream: Any, each: Tensor, seen: Tensor) -> Tensor:
        _, _, gate1, shift2, scale2, gate2 = vectors(stream)
        each = each + gate1 * seen
        inner = stream.ffn.up(normed(each) * (1 + scale2) + shift2)
        return each + gate2 * stream.ffn.down(nn.functional.gelu(inner, approximate="tanh"))

    given = []
    for stream, each in ((block.image, x), (block.text, words)):
        if isinstance(stream, nn.LayerNorm):
            given.append(stream(each))
        else:
            shift1, scale1, *_ = vectors(stream)
            given.append(stream.norm1(each) * (1 + scale1) + shift1)
    seen = block.attention(*given)
    answers = block(x, words, c)
    torch.testing.assert_close(answers[0], halves(block.image, x, seen[0]))
    assert answers[1] is None if last else torch.allclose(answers[1], halves(block.text, words, seen[1]))


def test_closed_gates_leave_both_streams() -> None:
    block = _stirred(JointBlock(16, 2, modulation="affine", regions=4))
    for stream in (block.image, block.text):
        for vectors, value in ((stream.modulation.bias, 0.0), (stream.modulation.scale, -1.0)):
            vectors.data[[2, 5]] = value
    x, words = torch.randn(2, 16, 16), torch.randn(2, 8, 16)
    seen, text = block(x, words, torch.randn(2, 96))
    assert torch.equal(seen, x) and torch.equal(text, words)


def test_no_scale_is_adaln_single() -> None:
    affine, single = _stirred(EMMDiT(TINY)), EMMDiT(TINY, modulation="single")
    state = affine.state_dict()
    for name in [name for name in state if name.endswith("modulation.scale")]:
        state[name].zero_()
    missing, unexpected = single.load_state_dict(state, strict=False)
    assert not missing and all(name.endswith("modulation.scale") for name in unexpected)
    assert torch.equal(affine(*_batch()).out, single.eval()(*_batch()).out)


def test_tables_start_as_the_paper_says() -> None:
    block = JointBlock(256, 4)
    for stream in (block.image, block.text):
        for table in (stream.modulation.bias, stream.modulation.scale):
            assert table.shape == (6, 256) and 0.9 < float(table.detach().std()) * 16 < 1.1


def test_one_region_is_full_attention() -> None:
    full = EMMDiT(TINY, patterns=FULL)
    alone = EMMDiT(TINY, patterns=((1, 4), (1, 1)))
    alone.load_state_dict(_stirred(full).state_dict())
    assert torch.equal(full(*_batch()).out, alone.eval()(*_batch()).out)


def test_words_that_are_not_there() -> None:
    model, (x, t, words) = _stirred(EMMDiT(TINY)), _batch()
    keep = torch.arange(32).expand(2, 32) < 20
    other = torch.where(keep[..., None], words, 7.0)
    assert torch.equal(model(x, t, words, keep).out, model(x, t, other, keep).out)
    assert not torch.allclose(model(x, t, words).out, model(x, t, other).out)
    torch.testing.assert_close(model(x, t, words, torch.ones_like(keep)).out, model(x, t, words).out)


def test_stored_and_read(tmp_path: Path) -> None:
    model = _stirred(EMMDiT(TINY, modulation="single", reinforce=False))
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    assert again.config == model.config and torch.equal(again.eval()(*_batch()).out, model(*_batch()).out)


def test_official_names_round_trip() -> None:
    model, other = _stirred(EMMDiT(TINY)), EMMDiT(TINY)
    state = model.official_state()
    assert {
        "pos_embed.proj.weight", "pos_embed.pos_embed", "context_embedder.bias", "adaln_single.linear.weight",
        "adaln_single.emb.timestep_embedder.linear_1.weight", "block_groups.1.0.scale_shift_scale_c",
        "block_groups.0.0.attn.to_out.0.weight", "block_groups.0.0.attn.norm_added_k.weight",
        "block_groups.0.0.ff_context.net.0.proj.bias", "block_groups.2.1.norm1_context.weight",
        "block_groups.2.1.attn.add_q_proj.weight", "tokencompressor.0.0.body4x.3.weight",
        "tokenreconstructor.0.0.body2x.1.bias", "tokenreconstructor.0.0.mergers.2.weight", "proj_out.bias",
    } <= set(state)  # fmt: skip
    assert other.load_official(state).complete
    assert torch.equal(other.eval()(*_batch()).out, model(*_batch()).out)
    with pytest.raises(ValueError, match=r"pos_embed.pos_embed of shape .* change side or table"):
        EMMDiT(TINY, table=64).load_official(state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 18}, "grid=(18, 18) of tokens must have sides that are multiples of 4 to be compressed"),
        ({"side": 12}, "45 tokens of grid=(12, 12) in block 1 must be a multiple of 4, 4 regions of runs of 1"),
        ({"side": 4, "patterns": ((4, 4),)}, "5 tokens of grid=(4, 4) in block 1 must be a multiple of 16"),
        ({"side": 128}, "grid=(128, 128) exceeds the table of positions, 96 x 96"),
        ({"heads": 5}, "width=32 must be a multiple of heads=5"),
        ({"groups": (1, 0, 1)}, "groups=(1, 0, 1) must be three numbers of blocks, each at least 1"),
        ({"patterns": ()}, "patterns=() names no (regions, run)"),
        ({"patterns": ((4, 0),)}, "regions=4, run=0 must be at least 1"),
        ({"patch": 3}, "side=16 must be a multiple of patch=3"),
        ({"width": 0}, "width=0 must be at least 1"),
    ],
)
def test_bad_configs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        EMMDiT(TINY, **changes)
    assert message in str(raised.value)


@pytest.mark.bad_input
def test_bad_input() -> None:
    model, (x, t, words) = EMMDiT(TINY), _batch()
    with pytest.raises(ValueError, match="24 words must be a multiple of 16, 4 regions of runs of 4"):
        model(x, t, words[:, :24])
    with pytest.raises(ValueError, match=r"words of shape \(2, 32, 23\) must be \(2, length, words_width=24\)"):
        model(x, t, words[..., :23])
    with pytest.raises(ValueError, match=r"words of shape \(1, 32, 24\) must be \(2, length"):
        model(x, t, words[:1])
    with pytest.raises(ValueError, match=r"x of shape \(2, 2, 16, 16\) must have channels=3"):
        model(x[:, :2], t, words)
    with pytest.raises(ValueError, match=r"grid=\(16, 6\) of tokens must have sides that are multiples of 4"):
        model(x[..., :6], t, words)
    with pytest.raises(ValueError, match=r"words_keep of shape \(2, 3\) must be \(2, 32\), as the words"):
        model(x, t, words, torch.ones(2, 3, dtype=torch.bool))
