"""MMFace-DiT against a plain rewrite, its counts, its start, and what may depend on what."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.models import Architecture
from saccade.nn.embedders import Patchify, unpatchify
from saccade.nn.positions import rotate
from saccade.papers import MMFaceDiT, MMFaceDiTConfig
from saccade.papers.mmface_dit.config import SIZES
from saccade.papers.mmface_dit.joint_attention import JointBlock
from saccade.papers.mmface_dit.model import joint_rotation
from tests.papers.mmface_dit.tiny_mmface import SIZES as SMALL
from tests.papers.mmface_dit.tiny_mmface import given, made, plain

FEW = settings(max_examples=6, deadline=None)


@pytest.mark.parametrize("order", ["zero", "sequence"])
@pytest.mark.parametrize("sides", [(8, 8), (4, 6)])
def test_equals_a_plain_rewrite_gradients_too(order: str, sides: tuple[int, int]) -> None:
    """Also in grids that are not square, where the released code would put every patch at (0, 0)."""
    model, (x, t, condition) = made(text_positions=order).double(), given(sides=sides)
    state = {name: value.detach().requires_grad_() for name, value in model.official_state().items()}
    wanted = plain(state, x, t, condition, heads=2, order=order)
    condition |= {name: condition[name].double() for name in ("picture", "words", "pooled")}
    out = model(x.double(), t, condition).out
    torch.testing.assert_close(out, wanted, rtol=1e-6, atol=1e-6)
    out.square().sum().backward()
    wanted.square().sum().backward()
    theirs = {name: value.grad for name, value in state.items()}
    for weight in model.parameters():
        weight.data = torch.zeros_like(weight) if weight.grad is None else weight.grad
    for name, value in model.official_state().items():
        other = theirs[name]
        torch.testing.assert_close(value, torch.zeros_like(value) if other is None else other, rtol=1e-5, atol=1e-5)


def test_steps_of_ddpm_are_not_scaled() -> None:
    model, (x, _, condition) = made(objective="ddpm"), given()
    for t in (torch.tensor([1.0, 0.0]), torch.tensor([731.0, 12.0])):  # a batch of all t <= 1 is one as any other
        wanted = plain(model.official_state(), x, t, condition, heads=2, scale=1).float()
        torch.testing.assert_close(model(x, t, condition).out, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", ["256px", "512px", "256px-ddpm"])
def test_published_sizes_have_the_published_numbers_of_weights(size: str) -> None:
    assert MMFaceDiT.parameters_of(SIZES[size]) == 1_345_298_624
    with torch.device("meta"):
        block = JointBlock(1152, 16, ratio=4)
    assert sum(weight.numel() for weight in block.parameters()) == 36 * 1152**2 + 22 * 1152 == 47_801_088


def macs_of(config: MMFaceDiTConfig) -> int:
    """As the model counts them, with the 77 words of CLIP; and as they are by hand."""
    with torch.device("meta"):
        x, words, pooled = torch.zeros(1, 16, config.side, config.side), torch.zeros(1, 77, 1024), torch.zeros(1, 1024)
        condition = {"picture": x, "modality": torch.zeros(1).long(), "words": words, "pooled": pooled}
        found = MMFaceDiT(config).macs(x, torch.zeros(1), condition)
    width, patches = config.width, config.side**2 // 4
    tokens = patches + 77
    block = 12 * width**2 * tokens + 12 * width**2 + 2 * width * tokens**2
    around = patches * 128 * width + 77 * 1024 * width + patches * 64 * width + width * (256 + width + 1024 + 2 * width)
    assert found == config.depth * block + around
    return found


def test_macs_of_a_block_and_of_what_is_around() -> None:
    assert macs_of(replace(SIZES["256px"], depth=1)) == 5_727_432_960


@pytest.mark.slow
@pytest.mark.parametrize(("size", "macs"), [("256px", 156_239_502_336), ("512px", 569_913_744_384)])
def test_macs_of_published_sizes(size: str, macs: int) -> None:
    assert macs_of(SIZES[size]) == macs


def test_outputs_are_zero_and_blocks_the_identity_at_first() -> None:
    model, (x, t, condition) = MMFaceDiT(**SMALL), given()
    seen: list[bool] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, i, o: seen.append(torch.equal(i[0], o[0]) and torch.equal(i[1], o[1])))
    assert not model(x, t, condition).out.any() and seen == [True, True]
    assert not model.pooled.null.any() and model.modality.weight.any()


def test_a_patch_goes_back_where_it_came_from() -> None:
    patches, x = Patchify(3, 2, 12), torch.randn(2, 3, 4, 6)
    weight = torch.zeros(12, 3, 2, 2)
    for row, column, channel in ((i, j, c) for i in range(2) for j in range(2) for c in range(3)):
        weight[(row * 2 + column) * 3 + channel, channel, row, column] = 1
    patches.conv.weight.data, patches.conv.bias = weight, None
    assert torch.equal(unpatchify(patches(x), (2, 3), 2), x)


@pytest.mark.parametrize("streams", ["dual", "single"])
def test_picture_and_words_depend_on_one_another_after_one_block(streams: str) -> None:
    block, c = made(streams=streams).blocks[0], torch.randn(1, 16)
    tokens, words = torch.randn(1, 4, 16, requires_grad=True), torch.randn(1, 3, 16, requires_grad=True)
    image, text = block(tokens, words, c, None)
    for out, other in ((image, words), (text, tokens)):
        (grad,) = torch.autograd.grad(out.sum(), other, retain_graph=True)
        assert grad.abs().amax(-1).gt(1e-6).all()


def test_streams_are_independent_where_the_gates_of_attention_are_closed() -> None:
    block, c = made().blocks[0], torch.randn(1, 16)
    vectors = block.modulation.linear
    for first in (2 * 16, 8 * 16):  # gate of the attention, of picture and of words
        nn.init.zeros_(vectors.weight[first : first + 16])
        nn.init.zeros_(vectors.bias[first : first + 16])
    tokens, words = torch.randn(1, 4, 16), torch.randn(1, 3, 16)
    image, text = block(tokens, words, c, None)
    assert torch.equal(image, block(tokens, words + 1, c, None)[0])
    assert torch.equal(text, block(tokens * 2, words, c, None)[1])
    assert not torch.equal(image, tokens) and not torch.equal(text, words)


def test_the_last_block_updates_the_words_too() -> None:
    model, (x, t, condition) = made(), given()
    seen: list[tuple[Tensor, Tensor]] = []
    model.blocks[-1].register_forward_hook(lambda _, i, o: seen.append((i[1], o[1])))
    model(x, t, condition)
    ((before, after),) = seen
    assert not torch.equal(before, after)


@FEW
@cases(rows=st.integers(2, 5), columns=st.integers(2, 5), words=st.integers(0, 4), pairs=st.integers(1, 4))
def test_rotations_are_orthonormal_and_products_depend_on_the_way_between(
    rows: int, columns: int, words: int, pairs: int
) -> None:
    size = 4 * pairs
    table = joint_rotation((rows, columns), words, size, "zero")
    assert torch.allclose(table.square().sum(0), torch.ones(rows * columns + words, size), atol=1e-6)
    assert torch.equal(table[0, rows * columns :], torch.ones(words, size)) and not table[1, rows * columns :].any()
    q, k = torch.randn(2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    turned = [rotate(each.expand(rows * columns, -1), table[:, : rows * columns]) for each in (q, k)]
    products = (turned[0] @ turned[1].T).unflatten(1, (rows, columns)).unflatten(0, (rows, columns))
    moved = products[:-1, :-1, :-1, :-1] - products[1:, 1:, 1:, 1:]
    assert moved.abs().max() < 1e-5


def test_words_in_another_order_change_the_picture_only_where_their_order_is_known() -> None:
    x, t, condition = given()
    mixed = condition | {"words": condition["words"][:, [3, 0, 4, 1, 2]]}
    for order, matters in (("zero", False), ("sequence", True)):
        model, seen = made(text_positions=order), []
        model.blocks[-1].register_forward_hook(lambda _, i, o, seen=seen: seen.append(o[1]))
        one, two = (model(x, t, each).out for each in (condition, mixed))
        assert torch.allclose(one, two, atol=1e-4) is not matters
        assert torch.allclose(seen[0][:, [3, 0, 4, 1, 2]], seen[1], atol=1e-4) is not matters


def test_the_modality_acts_through_c_alone() -> None:
    model, (x, t, condition) = made(), given()
    other = condition | {"modality": 1 - condition["modality"]}
    assert not torch.equal(model(x, t, condition).out, model(x, t, other).out)
    tokens, seen = [], []
    model.blocks[0].register_forward_pre_hook(lambda _, i: (tokens.append(i[:2]), seen.append(i[2])) and None)
    for each in (condition, other):
        model(x, t, each)
    assert all(torch.equal(a, b) for a, b in zip(*tokens, strict=True))
    table = model.modality.weight
    torch.testing.assert_close(seen[1] - seen[0], table[other["modality"]] - table[condition["modality"]])
    model.modality.weight.data[1] = table[0]
    assert torch.equal(model(x, t, condition).out, model(x, t, other).out)


def test_recomputed_blocks_give_the_same_loss_and_gradients() -> None:
    found = []
    for recompute in (False, True):
        model, (x, t, condition) = made(recompute=recompute, pooled_drop=0.5).train(), given()
        torch.manual_seed(3)
        loss = model(x, t, condition).out.square().mean()
        loss.backward()
        found.append([loss.detach(), *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    assert len(found[0]) > 20 and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_training_replaces_pooled_vectors_by_the_learned_null() -> None:
    x, t, condition = given()
    without = {name: value for name, value in condition.items() if name != "pooled"}
    model = made(pooled_drop=1.0)
    kept, null = model(x, t, condition).out, model(x, t, without).out
    assert not torch.equal(kept, null)
    assert torch.equal(model.train()(x, t, condition).out, null)
    assert torch.equal(made(pooled_drop=0.0).train()(x, t, condition).out, kept)
    torch.manual_seed(0)
    half, rows = made(pooled_drop=0.05).pooled.train(), 4000
    dropped = (half(torch.ones(rows, 6), rows) - half(None, rows)).abs().amax(1) == 0
    assert 0.03 < dropped.float().mean() < 0.07


def test_words_that_are_not_given_are_one_word_of_zeros() -> None:
    model, (x, t, condition) = made(), given()
    del condition["words"]
    seen: list[Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda _, i: seen.append(i[1]))
    model(x, t, condition)
    assert seen[0].shape == (2, 1, 16) and not seen[0].any()


def test_a_single_stream_twice_as_deep_has_as_many_weights() -> None:
    """The ablation sets out from it, with positions that are added."""
    sizes = {"width": 64, "heads": 4, "channels": 3, "picture_channels": 3, "words_width": 64}
    one = MMFaceDiTConfig(depth=8, streams="single", positions="sincos", **sizes)
    two = replace(one, depth=4, streams="dual")
    assert MMFaceDiT.parameters_of(one) == MMFaceDiT.parameters_of(two)
    (x, t, condition), model = given(), made(positions="sincos", streams="single", modalities=0)
    del condition["modality"]
    assert not torch.equal(model(x, t, condition).out, made(streams="single", modalities=0)(x, t, condition).out)
    with pytest.raises(ValueError, match="have no official name"):
        model.official_state()


def test_a_model_with_words_of_its_own_reads_captions_as_numbers(tmp_path: Path) -> None:
    model, (x, t, condition) = made(classes=9, words=4, words_width=6), given()
    ids = torch.tensor([[1, 2, 9, 9], [9, 9, 9, 9]])
    numbered = {"picture": condition["picture"], "modality": condition["modality"], "ids": ids}
    words, pooled = model.own_words(ids)
    table, place = model.own_words.table.word.table.weight, model.own_words.table.place
    torch.testing.assert_close(pooled, torch.stack(((table[1] + place[0] + table[2] + place[1]) / 2, torch.zeros(6))))
    assert torch.equal(words, table[ids] + place)
    model.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path).eval()
    assert torch.equal(again(x, t, numbered).out, model(x, t, numbered).out)
