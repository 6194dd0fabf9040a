"""Variants inside a language model: memories, causality, streams, layouts, skip, parameters, and what is refused."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.models import CausalLM
from saccade.models.sizing import parameters
from saccade.nn import make_mixer
from saccade.nn.part import TokenPositions
from saccade.papers.deconstructing_attention.layouts import LAYOUTS, kinds, standard_layers
from saccade.papers.deconstructing_attention.mixers import map_of
from saccade.papers.deconstructing_attention.model import (
    VARIANTS,
    DeconstructedLM,
    DeconstructedLMConfig,
    maps,
    skipped,
)
from saccade.runs import decode

TINY: dict[str, Any] = {
    "vocabulary": 11, "depth": 2, "width": 16, "heads": 2, "ffn": "swiglu(hidden=16)", "context": 24,
    "sequence": (3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4),
}  # fmt: skip
FORMS = ("mlp", "approx", "approx(reading='per_order')", "nonapprox", *VARIANTS[3:])
MIXING = tuple(form for form in FORMS if form != "mlp")
SHAPED = pytest.mark.filterwarnings("ignore:first-order sums came within")


def ids(rows: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(11, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def model(variant: str, layout: Any = "even", **changes: Any) -> DeconstructedLM:
    torch.manual_seed(0)
    made = DeconstructedLM(**TINY | {"variant": variant, "layout": layout} | changes).double().eval()
    with torch.no_grad():
        for weight in made.parameters():  # norms too, and far from alike
            weight.add_(0.3 * torch.randn_like(weight))
    return made


@SHAPED
@pytest.mark.parametrize("layout", ["uniform", "even"])
@pytest.mark.parametrize("variant", FORMS)
def test_a_text_in_pieces_is_the_whole_text(variant: str, layout: str) -> None:
    tiny, text = model(variant, layout), ids(2, 12)
    memories, found = tiny.fresh_memories(), []
    for piece in text.split([5, 1, 1, 3, 2], dim=1):
        found.append(tiny(piece, memories).out)
    torch.testing.assert_close(torch.cat(found, 1), tiny(text).out, rtol=1e-9, atol=1e-9)
    start = ids(2, 3)
    assert torch.equal(decode(tiny, start, tokens=6, memories=tiny.fresh_memories()), decode(tiny, start, tokens=6))


@SHAPED
@pytest.mark.parametrize("variant", FORMS)
def test_no_token_sees_those_behind_it(variant: str) -> None:
    tiny, text = model(variant, "uniform"), ids(1, 8)
    other = text.clone()
    other[:, 5:] = (text[:, 5:] + 1) % 11
    torch.testing.assert_close(tiny(text).out[:, :5], tiny(other).out[:, :5], rtol=0, atol=1e-12)
    assert not torch.allclose(tiny(text).out[:, 5:], tiny(other).out[:, 5:])


@pytest.mark.parametrize("variant", MIXING)
@SHAPED
def test_tokens_see_those_before(variant: str) -> None:
    tiny, text = model(variant, "uniform"), ids(1, 8)
    other = text.clone()
    other[:, 0] = (text[:, 0] + 1) % 11
    assert ((tiny(text).out - tiny(other).out)[0].abs().amax(-1) > 1e-6).all()


def test_mlp_sees_its_own_token_alone() -> None:
    tiny, text = model("mlp", "uniform"), ids(1, 6)
    jacobian = torch.autograd.functional.jacobian(lambda x: mixer_out(tiny, x), torch.randn(6, 16).double())
    seen = jacobian.abs().sum((1, 3))
    assert (seen.diagonal() > 0).all() and not (seen - torch.diag(seen.diagonal())).any()
    short = torch.cat([tiny(part).out for part in text.split(1, dim=1)], 1)
    torch.testing.assert_close(tiny(text).out, short, rtol=0, atol=1e-12)  # whatever the length of the context


def mixer_out(tiny: DeconstructedLM, x: Tensor) -> Tensor:
    return tiny.blocks[0].mixer(x[None], TokenPositions(causal=True)).out[0]


@pytest.mark.parametrize("variant", ["rnd_emb_qk", "fixed_seq_qk"])
def test_the_stream_gives_one_map_whatever_the_text(variant: str) -> None:
    tiny = model(variant, "uniform")
    one, other = maps(tiny, ids(3, 7)), maps(tiny, ids(2, 7, seed=1))
    for a, b in zip(one, other, strict=True):
        assert a is not None and b is not None and torch.equal(a, b) and len(a) == 1
        torch.testing.assert_close(a.sum(-1), torch.ones(1, 2, 7, dtype=torch.float64))
    assert not torch.allclose(one[0], one[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", ["rnd_emb_qk", "fixed_seq_qk"])
@pytest.mark.parametrize("layout", ["uniform", "even", "odd"])
def test_the_stream_is_a_text_of_its_own(variant: str, layout: str) -> None:
    """What the stream's tokens become is what a plain model makes of them; the text's maps are those."""
    tiny = model(variant, layout, depth=4)
    plain = CausalLM(**{name: TINY[name] for name in ("vocabulary", "width", "heads", "ffn")}, depth=4).double().eval()
    for block, own in zip(plain.blocks, tiny.blocks, strict=True):
        inside = {name.replace("mixer.attention.", "mixer."): value for name, value in own.state_dict().items()}
        block.load_state_dict(inside)
    x = (
        tiny.get_buffer("table")[:, :9]
        if variant == "rnd_emb_qk"
        else tiny.embedding(torch.tensor(TINY["sequence"][:9]))[None]
    )
    wanted = []
    for block in plain.blocks:
        place = TokenPositions(causal=True)
        wanted.append(map_of(block.mixer, block.norm1(x), place))  # type: ignore[operator, arg-type]
        x = block(x, place).out
    found = maps(tiny, ids(2, 9))
    for i, replaced in enumerate(tiny.config.replaced):
        if replaced:
            torch.testing.assert_close(found[i], wanted[i], rtol=0, atol=1e-12)


def test_static_maps_do_not_change_with_the_blocks_before() -> None:
    tiny, text = model("static_emb_qk", "uniform", depth=3), ids(2, 7)
    before = maps(tiny, text)
    with torch.no_grad():
        for block in tiny.blocks[:2]:
            for weight in block.parameters():
                weight.add_(torch.randn_like(weight))
    after = maps(tiny, text)
    assert before[2] is not None and torch.equal(before[2], after[2])  # type: ignore[arg-type]
    assert not torch.allclose(before[1], after[1])  # type: ignore[arg-type]


def test_gradients_reach_the_blocks_through_the_stream_and_not_its_table() -> None:
    tiny = model("rnd_emb_qk", "uniform")
    assert "table" in tiny.state_dict() and "table" not in dict(tiny.named_parameters())
    tiny(ids(2, 6)).out.square().sum().backward()
    queries = tiny.blocks[1].mixer.attention.qkv.weight.grad[:32]  # type: ignore[union-attr, index]
    assert queries.abs().min() > 0
    other = model("rnd_emb_qk", "uniform")
    other.get_buffer("table").mul_(2)
    assert not torch.allclose(other(ids(2, 6)).out, tiny(ids(2, 6)).out)


@pytest.mark.parametrize("variant", FORMS)
def test_parameters_are_those_of_attention(variant: str) -> None:
    for options in ("", "qk_norm=True, bias=False", "bias=True"):
        if variant == "mlp" and "qk_norm" in options:
            continue  # has no q and k
        name, _, own = variant.partition("(")
        text = f"{name}({', '.join(filter(None, (own.rstrip(')'), options)))})"
        standard = make_mixer(f"attention({options or 'bias=False'})", 24, 4)
        assert parameters(make_mixer(text, 24, 4)) == parameters(standard)


def test_mlp_without_an_output_projection_is_as_large_to_rounding() -> None:
    assert parameters(make_mixer("mlp(keep_out_proj=False)", 24, 4)) == 3 * 24 * 32 == 4 * 24**2
    assert abs(parameters(make_mixer("mlp(keep_out_proj=False)", 32, 4)) / (4 * 32**2) - 1) < 0.02


@pytest.mark.parametrize(
    ("size", "counted"),
    [("70M", (512, 2048, 6)), ("160M", (768, 3072, 12)), ("500M", (896, 4864, 24)), ("1.7B", (2048, 6144, 28))],
)
def test_published_sizes(size: str, counted: tuple[int, int, int]) -> None:
    width, hidden, depth = counted
    wanted = 2 * 50304 * width + depth * (4 * width**2 + 3 * width * hidden + 2 * width) + width
    assert DeconstructedLM.parameters_of(DeconstructedLM.sizes[size]) == wanted


def test_multiply_adds_of_a_block() -> None:
    found = {}
    for variant in ("mlp", "nonapprox", "static_emb_qk"):
        tiny = DeconstructedLM(**TINY | {"variant": variant, "layout": "uniform", "depth": 1}).to("meta")
        found[variant] = tiny.macs(torch.zeros(2, 16, dtype=torch.long, device="meta"))
    rest = 2 * 16 * (16 * 16 + 3 * 16 * 16 + 16 * 11)  # output projection, feed-forward, logits
    assert found["mlp"] - rest == 2 * 16 * 3 * 16**2
    assert found["static_emb_qk"] - rest == 2 * (3 * 16 * 16**2 + 2 * 16**2 * 16)


def test_layouts_of_24_layers() -> None:
    wanted = {
        "even": range(2, 25, 2), "odd": range(1, 24, 2), "top": range(1, 13), "bottom": range(13, 25),
        "middle": [*range(1, 7), *range(19, 25)], "25%": range(4, 25, 4), "first": [1], "last": [24],
        "bilateral": [1, 24], "uniform": [], "standard": range(1, 25),
    }  # fmt: skip
    assert {name: standard_layers(name, 24) for name in LAYOUTS} == {name: tuple(each) for name, each in wanted.items()}
    assert kinds("mlp", (3, 1), 3) == ("standard", "mlp", "standard")
    assert standard_layers("bilateral", 1) == (1,)


@given(st.sampled_from(sorted(LAYOUTS)), st.integers(1, 40))
def test_layouts_name_layers_that_there_are(layout: str, layers: int) -> None:
    found = standard_layers(layout, layers)
    assert found == tuple(sorted({*found})) and all(1 <= layer <= layers for layer in found)


def test_skip_leaves_the_standard_blocks() -> None:
    tiny, text = model("mlp", "even", depth=4), ids(2, 6)
    short = skipped(tiny)
    assert short.config.depth == 2 and [*short.blocks] == [tiny.blocks[1], tiny.blocks[3]]
    x = tiny.embedding(text)
    for block in (tiny.blocks[1], tiny.blocks[3]):
        x = block(x, TokenPositions(causal=True)).out
    torch.testing.assert_close(short(text).out, tiny.logits(x), rtol=0, atol=0)


@pytest.mark.parametrize("variant", ["approx", "nonapprox", "static_emb_qk"])
def test_padding_on_the_left_is_not_seen(variant: str) -> None:
    tiny, text = model(variant, "uniform"), ids(2, 6)
    padded, there = torch.cat((ids(2, 3, 1), text), 1), torch.arange(9).expand(2, 9) >= 3
    wanted, near = tiny(text).out, {"rtol": 0, "atol": 1e-6}  # tables of rotation are single precision
    torch.testing.assert_close(tiny(padded, keep=there).out[:, 3:], wanted, **near)
    memories = tiny.fresh_memories()
    tiny(padded[:, :7], memories, keep=there[:, :7])
    torch.testing.assert_close(tiny(padded[:, 7:], memories, keep=there[:, 7:]).out, wanted[:, 4:], **near)


@SHAPED
def test_memories_hold_what_the_tables_say() -> None:
    held = {}
    for variant in FORMS:
        tiny = model(variant, "uniform", depth=1)
        memories = tiny.fresh_memories()
        tiny(ids(3, 10), memories)
        held[variant] = [each.size // 8 for each in memories]
    width, heads, rows, tokens = 16, 2, 3, 10
    assert held["mlp"] == [0] and held["nonapprox"] == [rows * (width + heads)]
    assert held["approx(reading='per_order')"] == [rows * (3 * width + 2 * width**2 // heads) + 1]
    assert held["static_emb_qk"] == [2 * rows * tokens * width]
    assert held["rnd_emb_qk"][0] == held["fixed_seq_qk"][0] == (rows + 1) * tokens * width


def test_without_a_past_position_scores_pool_all_tokens_alike() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 16)
    for text in ("nonapprox", "approx", "approx(reading='per_order')", "mlp"):
        part = make_mixer(text, 16, 2)
        out = part(x, TokenPositions()).out
        assert out.shape == x.shape
        if text != "mlp":
            wanted = map_of(part, x, TokenPositions())
            v = part.attention.qkv(x)[..., 32:].unflatten(-1, (2, 8)).transpose(1, 2)  # type: ignore[union-attr, operator]
            torch.testing.assert_close(out, part.attention.out((wanted @ v).transpose(1, 2).flatten(2)))  # type: ignore
        if text == "nonapprox":
            torch.testing.assert_close(out, out[:, :1].expand_as(out))


def test_normalised_sides_keep_scores_bounded() -> None:
    torch.manual_seed(0)
    plain, normal = make_mixer("nonapprox", 16, 2), make_mixer("nonapprox(qk_norm=True)", 16, 2)
    x = 1e3 * torch.randn(1, 9, 16)
    from saccade.papers.deconstructing_attention.position_scores import scores

    assert scores(*plain.operands(x)[:2]).abs().max() > 1e3  # type: ignore[operator]
    assert scores(*normal.operands(x)[:2]).abs().max() <= 8**0.5 + 1e-4  # type: ignore[operator]


def test_it_is_stored_with_its_table(tmp_path: Any) -> None:
    tiny = model("rnd_emb_qk").float()
    tiny.save_pretrained(tmp_path)
    assert torch.equal(DeconstructedLM.from_pretrained(tmp_path).eval()(ids(1, 5)).out, tiny(ids(1, 5)).out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "linear"}, "variant='linear' is unknown; choose one of mlp, approx, nonapprox, rnd_emb_qk"),
        ({"layout": "hybrid"}, "layout='hybrid' is unknown; choose one of standard, uniform, even, odd, top"),
        ({"layout": (0, 1)}, r"layout=\(0, 1\) has layer 0; layers are counted from 1 to 2"),
        ({"layout": (3,)}, r"layout=\(3,\) has layer 3; layers are counted from 1 to 2"),
        ({"variant": "fixed_seq_qk", "sequence": ()}, "sequence=\\(\\) holds no token"),
        ({"sequence": (11,)}, "sequence has a token outside 0 to 10"),
        ({"context": 0}, "context=0 must be at least 1"),
    ],
)
def test_bad_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeconstructedLMConfig(**TINY | changes)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="25 tokens are more than the 24 of context; give a longer one"):
        model("rnd_emb_qk")(ids(1, 25))
    tiny = model("fixed_seq_qk")
    memories = tiny.fresh_memories()
    tiny(ids(1, 18), memories)
    with pytest.raises(ValueError, match="21 tokens are more than the 20 of the fixed sequence"):
        tiny(ids(1, 3), memories)
    with pytest.raises(ValueError, match="where the fixed stream is not padded; pad on the right"):
        tiny(ids(1, 3), keep=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="memories holds 2, not 4; make them by this model's fresh_memories"):
        tiny(ids(1, 3), memories[:2])
    with pytest.raises(ValueError, match="layout='uniform' leaves no standard layer"):
        skipped(model("mlp", "uniform"))
    with pytest.raises(ValueError, match="there is none; DeconstructedLM gives the embeddings"):
        CausalLM(**{"vocabulary": 11, "depth": 1, "width": 16, "heads": 2}, mixer="static_emb_qk")(ids(1, 3))
    with pytest.raises(ValueError, match="LinearAttention is no mixer whose map is known"):
        map_of(make_mixer("linear", 16, 2), torch.zeros(1, 3, 16), TokenPositions())
    for text in ("approx", "nonapprox", "rnd_emb_qk"):
        with pytest.raises(ValueError, match="packs sequences"):
            make_mixer(text, 16, 2)(torch.zeros(1, 4, 16), TokenPositions(causal=True, lengths=(2, 2)))
    for text in ("approx", "nonapprox"):
        with pytest.raises(ValueError, match="padding in a sequence without causal order"):
            there = torch.ones(1, 4, dtype=torch.bool)
            make_mixer(text, 16, 2)(torch.zeros(1, 4, 16), TokenPositions(keep=there))
    place = TokenPositions(source=torch.zeros(1, 4, 16))
    with pytest.raises(ValueError, match="a source of one row takes causal texts without padding"):
        make_mixer("rnd_emb_qk", 16, 2)(torch.zeros(2, 4, 16), place)
