"""What holds exactly: nothing changed at first, boxes are a set, padding is irrelevant, text never sees the layout."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.siamlayout import LayoutBatch, LayoutStream, box_code
from tests.papers.siamlayout.tiny import HOSTS, TEXT, adapter, host, inputs, layout

pytestmark = pytest.mark.host
SIDED: list[dict[str, Any]] = [{}, {"rank": 2}, {"variant": "adapter"}]
SETS = settings(max_examples=8, deadline=None)


@torch.no_grad()
def drawn(model: Any, made: Any, held: LayoutBatch | None, kind: str, **options: Any) -> Tensor:
    with LayoutStream(model, made, **options) as stream, stream.holding(held):
        return model(**inputs(kind))[0]


def cases() -> list[tuple[str, dict[str, Any]]]:
    return [(kind, options) for kind in HOSTS for options in SIDED if kind != "flux" or "rank" not in options]


@pytest.mark.parametrize(("kind", "options"), cases())
@torch.no_grad()
def test_at_first_and_at_scale_0_and_without_a_layout_it_is_bitwise_the_host(
    kind: str, options: dict[str, Any]
) -> None:
    model = host(kind)
    before, names, text = model(**inputs(kind))[0], set(vars(model)), repr(model)
    fresh, trained = adapter(model, trained=False, **options), adapter(model, **options)
    assert torch.equal(drawn(model, fresh, layout(kind), kind), before)
    assert torch.equal(drawn(model, trained, layout(kind), kind, scale=0), before)
    assert torch.equal(drawn(model, trained, None, kind), before)
    assert (drawn(model, trained, layout(kind), kind) - before).abs().max() > 1e-3
    assert torch.equal(model(**inputs(kind))[0], before)
    assert set(vars(model)) == names and repr(model) == text


@pytest.mark.parametrize("kind", ["sd3", "flux"])
@SETS
@given(order=st.permutations(range(5)), variant=st.sampled_from(["siamese", "adapter", "m3"]))
def test_boxes_are_a_set(kind: str, order: list[int], variant: Any) -> None:
    model = host(kind)
    made, held = adapter(model, variant=variant), layout(kind, (3, 1), slots=5)
    other = LayoutBatch(boxes=held.boxes[:, order], mask=held.mask[:, order], text=held.text[:, order])
    one, two = (drawn(model, made, x, kind) for x in (held, other))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["sd3", "flux"])
@SETS
@given(seed=st.integers(0, 1000), boxes=st.tuples(st.integers(0, 10), st.integers(0, 10)))
def test_what_padding_holds_is_irrelevant(kind: str, seed: int, boxes: tuple[int, int]) -> None:
    model = host(kind)
    made, held, noise = adapter(model), layout(kind, boxes), layout(kind, boxes, seed=seed + 1)
    used = held.mask[:, :, None]
    text = torch.where(used if kind != "flux" else used[..., None], held.text, noise.text)
    other = replace(held, boxes=torch.where(used, held.boxes, noise.boxes), text=text)
    assert torch.equal(drawn(model, made, held, kind), drawn(model, made, other, kind))


@pytest.mark.parametrize("kind", ["sd3", "flux"])
@pytest.mark.parametrize("variant", ["siamese", "adapter"])
def test_padding_takes_part_unless_it_is_masked(kind: str, variant: Any) -> None:
    model = host(kind)
    made, padded = adapter(model, variant=variant), layout(kind, (3, 3))
    bare = replace(padded, boxes=padded.boxes[:, :3], mask=padded.mask[:, :3], text=padded.text[:, :3])
    one, two = (drawn(model, made, x, kind) for x in (padded, bare))
    assert (one - two).abs().max() > 1e-4
    one, two = (drawn(model, made, x, kind, mask_padding=True) for x in (padded, bare))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_a_layout_without_boxes_can_be_masked_whole() -> None:
    model = host("sd3")
    found = drawn(model, adapter(model), layout("sd3", (0, 0)), "sd3", mask_padding=True)
    assert found.isfinite().all()


@pytest.mark.parametrize("kind", ["sd3", "flux"])
@torch.no_grad()
def test_text_does_not_see_the_layout_of_its_own_block(kind: str) -> None:
    model = host(kind)
    seen: list[list[Tensor]] = [[], []]
    for block in [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", ())]:
        block.register_forward_hook(lambda m, a, out: seen[0].append(out[0]) if out[0] is not None else None)
    made = adapter(model)
    for held in (layout(kind), layout(kind, seed=5)):
        seen.insert(0, [])
        drawn(model, made, held, kind)
    one, two = ([each[:, :TEXT] for each in texts] for texts in seen[:2])
    assert torch.equal(one[0], two[0])
    assert (one[1] - two[1]).abs().max() > 1e-6


@pytest.mark.parametrize(("kind", "options"), [case for case in cases() if case[0] != "sd3.5"])
def test_at_first_the_zero_projection_alone_gets_a_gradient(kind: str, options: dict[str, Any]) -> None:
    model = host(kind)
    made = adapter(model, trained=False, **options)
    with LayoutStream(model, made) as stream, stream.holding(layout(kind)):
        model(**inputs(kind))[0].square().sum().backward()
    for name, parameter in made.named_parameters():
        last = ".out.up." in name if "rank" in options else ".out." in name
        moved = parameter.grad is not None and bool(parameter.grad.any())
        assert moved == last, name


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("variant", ["siamese", "m3"])
def test_checkpointing_gives_the_same_gradients_outside_of_the_layout(kind: str, variant: Any) -> None:
    found: list[dict[str, Tensor]] = []
    for checkpointing in (False, True):
        model = host(kind).train()
        made = adapter(model, variant=variant)
        if checkpointing:
            model.enable_gradient_checkpointing()
        with LayoutStream(model, made) as stream:
            with stream.holding(layout(kind)):
                loss = model(**inputs(kind))[0].square().sum()
            loss.backward()
        found.append({name: p.grad for name, p in made.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 20
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


@SETS
@given(boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=10))
def test_codes_lie_in_minus_one_to_one(boxes: list[tuple[float, ...]]) -> None:
    found = box_code(torch.tensor(boxes, dtype=torch.float64)[None])
    assert found.shape == (1, len(boxes), 64) and found.abs().max() <= 1
    c, k = boxes[0][2], 5
    frequency = 100 ** (k / 8)
    wanted = torch.tensor([frequency * c], dtype=torch.float64)
    torch.testing.assert_close(found[0, 0, 8 * k + 2], wanted.sin()[0])
    torch.testing.assert_close(found[0, 0, 8 * k + 6], wanted.cos()[0])


@torch.no_grad()
def test_tokens_are_one_for_each_slot_or_word() -> None:
    one, two = host("sd3"), host("flux")
    assert adapter(one).tokens(layout("sd3"), lambda x: x).shape == (2, 10, 16)
    assert adapter(two).tokens(layout("flux"), two.context_embedder).shape == (2, 20, 16)


@torch.no_grad()
def test_blocks_that_are_not_chosen_leave_the_layout_as_it_is() -> None:
    model = host("flux")
    made, held = adapter(model), layout("flux")
    none = drawn(model, made, held, "flux", blocks=())
    assert torch.equal(none, model(**inputs("flux"))[0])
    one = drawn(model, made, held, "flux", blocks=("single_transformer_blocks.1",))
    assert (one - none).abs().max() > 1e-4


@torch.no_grad()
def test_other_arguments_for_attention_and_skipped_layers_still_work() -> None:
    model = host("sd3.5")
    made = adapter(model)
    plain = drawn(model, made, layout("sd3.5"), "sd3.5")
    with LayoutStream(model, made) as stream, stream.holding(layout("sd3.5")):
        scaled = model(**inputs("sd3.5"), joint_attention_kwargs={"scale": 1.0})[0]
        skipped = model(**inputs("sd3.5"), skip_layers=[1])[0]
    assert torch.equal(scaled, plain)
    assert skipped.isfinite().all() and not torch.equal(skipped, plain)
