"""LAMIC's groups: the tables, which tokens are whose, and masks that agree with the released code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from saccade.core.clock import Clock
from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.mechanisms.token_groups import by_groups
from saccade.papers.lamic import Box, Entity, GroupIsolation, Lamic, group_table

GOLDENS = Path(__file__).parents[2] / "goldens" / "lamic"
TABLES = load_file(GOLDENS / "case_group_tables.safetensors")
MASKS = load_file(GOLDENS / "case_mask_two_boxes.safetensors")
SITE = Site(name="blocks.0.attn", kind="joint", heads=2)
FIRST = "101110010 011101001 111100011 111111111 100110010 010101001 000100100 101110010 011101001"
SECOND = "101110010 011101001 111111111 111111111 101111110 011111101 001111100 101110010 011101001"
LEFT, RIGHT = Box(x0=0, y0=0, x1=0.5, y1=1), Box(x0=0.5, y0=0, x1=1, y1=1)
WIDE = Box(x0=0.25, y0=0, x1=1, y1=1)


def layout(*references: tuple[int, int], text: int = 8, grid: tuple[int, int] = (4, 8)) -> Layout:
    shown = (Segment(f"reference{i}", "extra", h * w, (1, h, w)) for i, (h, w) in enumerate(references, start=1))
    return Layout((*Layout.joint(text=text, grid=(1, *grid)).segments, *shown))


def entity(number: int, region: Box | Tensor | None, **more: object) -> Entity:
    words = (2 * number, 2 * number + 1)
    return Entity(words=words, region=region, reference=f"reference{number + 1}", **more)  # type: ignore[arg-type]


def mask(system: Lamic, tokens: Layout, step: int = 0) -> Tensor:
    """Of one step of two, the first stage being the first."""
    (planned,) = system.plan(SITE, Clock(step=step, num_steps=2))
    return planned.materialize(tokens, tokens)[0, 0]  # type: ignore[union-attr]


def two(first: Box | Tensor | None, second: Box | Tensor | None, **more: object) -> Lamic:
    apart = more.pop("apart", ())
    entities = (entity(0, first, apart=apart), entity(1, second))
    return Lamic(**{"entities": entities, "interaction": (4, 5), "first_stage": 0.5, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_released_code(name: str) -> None:
    r, has = int(name[7]), {flag: int(name[name.index(flag) + len(flag)]) for flag in ("cei", "pad", "ureg")}
    groups = ["text"] * r + ["cei", "pad"] + ["region"] * r + ["ureg"] + ["reference"] * r
    there = [i for i, group in enumerate(groups) if has.get(group, 1)]
    for stage, wanted in zip((1, 2), TABLES[name], strict=True):
        assert torch.equal(group_table(r, stage)[there][:, there], wanted.bool())


@pytest.mark.parametrize(("stage", "rows"), [(1, FIRST), (2, SECOND)])
def test_the_tables_of_two_references_are_as_written(stage: int, rows: str) -> None:
    wanted = torch.tensor([[cell == "1" for cell in row] for row in rows.split()])
    assert torch.equal(group_table(2, stage), wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("entities", [1, 2, 3, 4])
def test_tables_are_symmetric_have_a_diagonal_and_open_up(entities: int) -> None:
    first, second = (group_table(entities, stage) for stage in (1, 2))
    for table in (first, second):
        assert torch.equal(table, table.T) and table.diagonal().all()
    assert (first <= second).all() and not torch.equal(first, second)


@pytest.mark.parametrize(("step", "stage"), [(0, 1), (1, 2), (19, 2)])
def test_masks_are_those_of_the_released_code(step: int, stage: int) -> None:
    words = [tuple(MASKS[f"group{i}_tokens"].tolist()) for i in range(3)]
    boxes = (0.0, 0.1, 0.55, 0.95), (0.4, 0.3, 0.8, 1.0)
    entities = tuple(
        Entity(words=words[i], region=Box.parse(box, (96, 128)), reference=f"reference{i + 1}")
        for i, box in enumerate(boxes)
    )
    system = Lamic(entities=entities, interaction=words[2])
    tokens = layout((2, 3), (3, 2), text=24, grid=(6, 8))
    assert tokens.n == int(MASKS["N"])
    packed = MASKS[f"mask_stage{stage}_packed"].numpy()
    wanted = torch.from_numpy(np.unpackbits(packed, axis=1)[:, : tokens.n].astype(bool))
    (planned,) = system.plan(SITE, Clock(step=step, num_steps=20))
    assert isinstance(planned, GroupIsolation)
    assert torch.equal(planned.materialize(tokens, tokens)[0, 0], wanted)
    groups = planned.members(tokens)
    assert all(torch.equal(groups[i].nonzero()[:, 0], MASKS[f"group{i}_tokens"]) for i in range(9))


corner = st.floats(min_value=0, max_value=0.7)
boxes = st.builds(lambda x, y: Box(x0=x, y0=y, x1=x + 0.3, y1=y + 0.3), corner, corner)


@given(boxes, boxes, st.booleans())
def test_masks_are_symmetric_see_themselves_and_open_up(first: Box, second: Box, shared: bool) -> None:
    system = two(first, second, interaction=(4, 5) if shared else ())
    tokens = layout((2, 2), (3, 1), grid=(8, 8))
    one, then = (mask(system, tokens, step) for step in (0, 1))
    for found in (one, then):
        assert torch.equal(found, found.T) and found.diagonal().all()
    assert (one <= then).all()


@given(boxes, boxes)
def test_a_region_that_stays_apart_opens_up_too_and_its_overlap_is_the_others(first: Box, second: Box) -> None:
    tokens = layout((2, 2), (3, 1), grid=(8, 8))
    system, plain = two(first, second, apart=(1,)), two(first, second)
    whole = [GroupIsolation(entities=plain.entities, words=((0, 1), (2, 3))).members(tokens)[row] for row in (4, 5)]
    overlap = whole[0] & whole[1]
    if torch.equal(overlap, whole[0]):
        with pytest.raises(ValueError, match=r"entity 0 keeps nothing of its region apart from those of \[1\]"):
            mask(system, tokens)
        return
    one, then = (mask(system, tokens, step) for step in (0, 1))
    assert one.diagonal().all() and (one <= then).all()
    assert torch.equal(then, mask(plain, tokens, 1))  # the second stage has the regions as they were
    assert not one[overlap][:, tokens.span("reference1")].any() and one[overlap][:, tokens.span("reference2")].all()


def test_without_shared_text_the_stages_reach_what_they_should() -> None:
    """Influence after any number of layers, by powers of the mask: none across entities but through hubs."""
    tokens = layout((2, 2), (3, 1), text=4)
    bare, shared = two(LEFT, RIGHT, interaction=()), layout((2, 2), (3, 1))
    for system, on, step, crosses in (
        (bare, tokens, 0, False), (bare, tokens, 1, True), (bare, shared, 0, True),
        (two(LEFT, RIGHT), layout((2, 2), (3, 1), text=6), 0, True),
    ):  # fmt: skip
        reach = torch.linalg.matrix_power(mask(system, on, step).double(), 4) > 0
        own = on.coords()[:, 2] < 4
        left = own & on.is_("image")
        assert bool(reach[left][:, on.span("reference2")].any()) is crosses
        assert bool(reach[left][:, on.span("reference1")].all())


def test_isolated_padding_reaches_nobody() -> None:
    tokens = layout((2, 2), (3, 1))
    for step in (0, 1):
        found = mask(two(LEFT, RIGHT, padding="isolated"), tokens, step)
        pads = torch.arange(tokens.n).clamp(max=8) - 6
        padding = (pads >= 0) & (torch.arange(tokens.n) < 8)
        assert not found[~padding][:, padding].any() and found.diagonal().all()


def test_one_entity_on_the_whole_canvas_sees_all() -> None:
    tokens = layout((2, 2))
    alone = Lamic(entities=(entity(0, None),), first_stage=0.5)
    assert mask(alone, tokens, 0).all() and mask(alone, tokens, 1).all()
    spoken = Lamic(entities=(entity(0, None),), interaction=(4,), first_stage=0.5)
    assert not mask(spoken, tokens, 0).all() and mask(spoken, tokens, 1).all()


def test_swapping_entities_permutes_the_mask() -> None:
    tokens, other = layout((2, 2), (3, 1)), layout((3, 1), (2, 2))
    swapped = Lamic(
        entities=(
            Entity(words=(2, 3), region=RIGHT, reference="reference1"),
            Entity(words=(0, 1), region=LEFT, reference="reference2"),
        ),
        interaction=(4, 5), first_stage=0.5,
    )  # fmt: skip
    first, second = tokens.span("reference1"), tokens.span("reference2")
    order = torch.cat(
        [torch.arange(first.start), torch.arange(second.start, tokens.n), torch.arange(first.start, first.stop)]
    )
    for step in (0, 1):
        found = mask(two(LEFT, RIGHT), tokens, step)
        assert torch.equal(mask(swapped, other, step), found[order][:, order])


def test_the_first_stage_is_a_whole_number_of_steps() -> None:
    tokens = layout((2, 2), (3, 1))
    found = [
        mask_at(two(LEFT, RIGHT, first_stage=share), tokens, step, 10)
        for share, step in ((0.05, 0), (0.1, 0), (0.1, 1))
    ]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def mask_at(system: Lamic, tokens: Layout, step: int, steps: int) -> Tensor:
    (planned,) = system.plan(SITE, Clock(step=step, num_steps=steps))
    return planned.materialize(tokens, tokens)[0, 0]  # type: ignore[union-attr]


def test_videos_have_the_region_in_every_frame_and_image_only_sites_the_regions_alone() -> None:
    system = Lamic(entities=(Entity(words=(0,), region=LEFT), Entity(words=(1,), region=RIGHT)), first_stage=1.0)
    video = Layout.joint(text=3, grid=(3, 2, 4))
    found, own = mask(system, video), video.coords()[:, 2] < 2
    image = video.is_("image")
    assert torch.equal(found[image & own][0], found[image & own][-1]) and not found[image & own][:, image & ~own].any()
    only = mask(system, Layout.image_only((1, 2, 4)))
    assert torch.equal(only, torch.tensor([[a == b for b in (0, 0, 1, 1) * 2] for a in (0, 0, 1, 1) * 2]))


def test_blocks_are_known_without_a_search_and_appended_keys_stay_open() -> None:
    tokens = layout((2, 2), (3, 1))
    (planned,) = two(LEFT, RIGHT).plan(SITE, Clock(num_steps=2))
    assert isinstance(planned, GroupIsolation)
    bound = planned.bind(tokens, tokens)
    assert bound.regions is not None and bound.pairs() == int(planned.materialize(tokens, tokens).sum())
    more = tokens.append(Segment("memory", "extra", 3))
    assert planned.materialize(tokens, more)[..., -3:].all()
    assert planned.bind(tokens, tokens).regions.partition is bound.regions.partition  # type: ignore[union-attr]


def test_a_token_may_be_in_several_groups_but_not_in_none() -> None:
    member = torch.tensor([[1, 1, 0], [0, 1, 1]]).bool()
    found = by_groups(member, torch.eye(2).bool()).materialize(Layout.plain(3), Layout.plain(3))[0, 0]
    assert torch.equal(found, torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool())
    with pytest.raises(ValueError, match="token 2 is in no group"):
        by_groups(member[:1], torch.eye(1).bool())


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("system", "message"),
    [
        (two(Box(x0=0, y0=0, x1=0.1, y1=0.1), RIGHT), r"region=\(0, 0, 0.1, 0.1\) of entity 0 covers no image token"),
        (two(torch.zeros(4, 8), RIGHT), "region=its mask of entity 0 covers no image token by more than half"),
        (two(LEFT, RIGHT, interaction=(8,)), r"words=\[8\] of the interaction lie beyond the 8 text tokens of text 8"),
        (Lamic(entities=(entity(0, LEFT),)), "segment 'reference2' is no entity's; name it"),
        (Lamic(entities=(*two(LEFT, RIGHT).entities, Entity(words=(6,), reference="reference3", name="a dog"))),
         "reference='reference3' is no segment of text 8"),
        (Lamic(entities=(entity(0, LEFT), Entity(words=(9,), reference="reference2", name="a dog"))),
         r"words=\[9\] of entity 1 \('a dog'\) lie beyond"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_tokens_is_named(system: Lamic, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask(system, layout((2, 2), (3, 1)))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_stage": 1.5}, r"first_stage=1.5 must be in \[0, 1\]"),
        ({"padding": "open"}, "padding='open' is unknown; choose one of hub, isolated"),
        ({"negative": ((),)}, "holds words of 1 entities for 2"),
        ({"entities": (entity(0, LEFT, apart=(0,)),)}, r"apart=\[0\] of entity 0 must be numbers among \[\]"),
        ({"entities": (entity(0, LEFT, apart=(1, 2)), entity(1, None))}, r"apart=\[2\] of entity 0 must be .* \[1\]"),
        ({"entities": (entity(0, LEFT), entity(0, RIGHT))}, "reference='reference1' belongs to two entities"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two(LEFT, RIGHT, **options)
    with pytest.raises(ValueError, match="negative prompt is a text of its own; give .* negative="):
        two(LEFT, RIGHT).plan(SITE, Clock(branch="uncond"))


def test_a_negative_prompt_has_words_of_its_own() -> None:
    tokens, system = layout((2, 2), (3, 1)), two(LEFT, RIGHT, negative=((), (7,)))
    (planned,) = system.plan(SITE, Clock(branch="uncond", num_steps=2))
    assert isinstance(planned, GroupIsolation)
    members = planned.members(tokens)
    assert members[:3].sum(1).tolist() == [0, 1, 0] and members[3, :7].all() and members[1, 7]
