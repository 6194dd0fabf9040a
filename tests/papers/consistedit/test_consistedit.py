"""What ConsistEdit plans, by the paper's own equations."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.errors import ConflictError, StateError
from saccade.core.layout import Layout
from saccade.core.partial import Parts, whole
from saccade.core.rows import Rows
from saccade.core.site import Site, at
from saccade.core.stack import make_plan, run_plan
from saccade.core.state import Memory, Tape
from saccade.mechanisms.shared_operands import SharedOperands
from saccade.ops import reference
from saccade.papers.clear import Clear
from saccade.papers.consistedit import ConsistEdit, Region
from saccade.systems.operand_recorder import OperandRecorder

SITE = Site(name="blocks.0.attn", kind="joint", heads=2)
LAYOUT = Layout.joint(text=3, grid=(1, 3, 4))
IMAGE, TEXT = LAYOUT.span("image"), LAYOUT.span("text")
STEPS = 10
EDIT = torch.zeros(3, 4)
EDIT[1, 1:3] = 1


def act(edit: ConsistEdit, step: int = 0, site: Site = SITE) -> SharedOperands | None:
    planned = edit.plan(site, Clock(step=step, num_steps=STEPS, sigma=1 - step / STEPS))
    assert len(planned) < 2
    item = planned[0] if planned else None
    assert item is None or isinstance(item, SharedOperands)
    return item


def pair(seed: int = 0) -> AttentionCall:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 2, LAYOUT.n, 4, generator=g, dtype=torch.float64) for _ in range(3))
    return plain_call(q, k, v, layout=LAYOUT, site=SITE, rows=Rows.of("source", "target"))


def edited(call: AttentionCall, edit: ConsistEdit, step: int = 0) -> AttentionCall:
    mechanism = act(edit, step)
    return call if mechanism is None else mechanism.operands(call, Memory())


def attention(call: AttentionCall, edit: ConsistEdit, step: int = 0) -> Tensor:
    items = {"consistedit": edit.plan(SITE, Clock(step=step, num_steps=STEPS))}
    plan = make_plan(items, SITE, LAYOUT, LAYOUT, torch.device("cpu"))

    def attend(call: AttentionCall, want_lse: bool, kernel: str | None) -> Parts:
        return whole(reference.run(call, want_lse=want_lse))

    return run_plan(plan, call, {"consistedit": Memory()}, attend).total


@given(strength=st.floats(0, 1), step=st.integers(0, STEPS - 1), seed=st.integers(0, 20))
def test_equals_the_papers_equations(strength: float, step: int, seed: int) -> None:
    edit_region = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed)) > 0.5
    call = pair(seed)
    kept = torch.zeros(LAYOUT.n, dtype=torch.float64)
    kept[IMAGE] = (~edit_region).flatten().double()
    image = LAYOUT.is_("image").double()
    w_qk, w_v = (image if step < int(strength * STEPS) else kept), kept

    def blended(x: Tensor, w: Tensor) -> Tensor:
        return torch.stack((x[0], w[:, None] * x[0] + (1 - w[:, None]) * x[1]))

    q, k, v = blended(call.q, w_qk), blended(call.k, w_qk), blended(call.v, w_v)
    expected = (q @ k.mT * call.q.shape[-1] ** -0.5).softmax(-1) @ v
    out = attention(call, ConsistEdit(strength=strength, mask=edit_region), step)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)


@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_the_number_of_structure_steps_is_the_floor_and_grows_with_strength(a: float, b: float) -> None:
    def steps(strength: float) -> int:
        return sum(act(ConsistEdit(strength=strength), i) is not None for i in range(STEPS))

    assert steps(a) == int(a * STEPS)
    assert steps(min(a, b)) <= steps(max(a, b))


def test_a_phase_gets_one_object_and_there_are_two() -> None:
    edit = ConsistEdit(strength=0.3, mask=EDIT)
    acts = [act(edit, i) for i in range(STEPS)]
    assert all(a is acts[0] for a in acts[:3]) and all(a is acts[3] for a in acts[3:])
    assert acts[0] is not acts[3]


@given(
    mask=st.sampled_from([None, EDIT, EDIT * 0.4, torch.ones(3, 4)]), strength=st.floats(0, 1),
    step=st.integers(0, STEPS - 1),
)  # fmt: skip
def test_twins_stay_twins(mask: Tensor | None, strength: float, step: int) -> None:
    call = pair()
    twins = call.replace(**{name: getattr(call, name)[[0, 0]] for name in "qkv"})
    out = attention(twins, ConsistEdit(mask=mask, strength=strength), step)
    assert torch.equal(out[0], out[1])


def test_nothing_editable_takes_every_visual_operand() -> None:
    call = pair()
    out = edited(call, ConsistEdit(mask=torch.zeros(3, 4), strength=0))
    for name in "qkv":
        new, old = getattr(out, name), getattr(call, name)
        assert torch.equal(new[1, :, IMAGE], old[0, :, IMAGE])
        assert torch.equal(new[1, :, TEXT], old[1, :, TEXT]) and torch.equal(new[0], old[0])


def test_full_strength_everywhere_shares_the_map_among_visual_tokens_and_not_v() -> None:
    call = pair()
    for edit in (ConsistEdit(), ConsistEdit(mask=torch.ones(3, 4))):
        for step in range(STEPS):
            out = edited(call, edit, step)
            scores = out.q[:, :, IMAGE] @ out.k[:, :, IMAGE].mT
            assert torch.equal(scores[1], scores[0])
            assert torch.equal(out.v, call.v)


def test_neutral_settings_plan_nothing() -> None:
    for edit in (
        ConsistEdit(strength=0),
        ConsistEdit(strength=0, mask=torch.ones(3, 4)),
        ConsistEdit(strength=0.09),
        ConsistEdit(structure="", kept="", mask=EDIT),
    ):
        assert act(edit) is None


@pytest.mark.parametrize("operands", ["qk", "v", "qkv", "q", ""])
def test_ablations_choose_operands_in_each_region(operands: str) -> None:
    call, inside = pair(), EDIT.flatten().bool()
    arms = {
        "edit": ConsistEdit(mask=EDIT, structure=operands, kept=""),
        "keep": ConsistEdit(mask=EDIT, structure="", kept=operands),
        "all": ConsistEdit(mask=EDIT, structure=operands, kept=operands),
    }
    regions = {"edit": inside, "keep": ~inside, "all": torch.ones(12, dtype=torch.bool)}
    for name, arm in arms.items():
        out = edited(call, arm)
        for operand in "qkv":
            new, old = getattr(out, operand)[1, :, IMAGE], getattr(call, operand)[:, :, IMAGE]
            copied = regions[name] if operand in operands else torch.zeros(12, dtype=torch.bool)
            assert torch.equal(new, torch.where(copied[:, None], old[0], old[1]))


def test_all_tokens_takes_the_text_along_with_the_structure_only() -> None:
    call = pair()
    out = edited(call, ConsistEdit(tokens="all", mask=EDIT, strength=0.5))
    assert torch.equal(out.q[1], call.q[0]) and torch.equal(out.v[1, :, TEXT], call.v[1, :, TEXT])
    late = edited(call, ConsistEdit(tokens="all", mask=EDIT, strength=0.5), 5)
    assert torch.equal(late.q[1, :, TEXT], call.q[1, :, TEXT])


def test_regions_keep_their_structure_for_as_long_as_each_says() -> None:
    left, right = torch.zeros(3, 4), torch.zeros(3, 4)
    left[:, 0], right[:, 3] = 1, 1
    edit = ConsistEdit(regions=(Region(mask=left, strength=0.2), Region(mask=right, strength=0.6)))
    call = pair()
    outside = (left + right == 0).flatten()
    for step, held in ((0, left + right), (3, right), (8, left * 0)):
        out = edited(call, edit, step)
        copied = outside | held.flatten().bool()
        assert torch.equal(out.q[1, :, IMAGE], torch.where(copied[:, None], call.q[0, :, IMAGE], call.q[1, :, IMAGE]))
        assert torch.equal(out.v[1, :, IMAGE], torch.where(outside[:, None], call.v[0, :, IMAGE], call.v[1, :, IMAGE]))
    assert len({id(act(edit, i)) for i in range(STEPS)}) == 3


def test_one_region_is_the_mask() -> None:
    call = pair()
    for step in range(STEPS):
        one = edited(call, ConsistEdit(regions=(Region(mask=EDIT, strength=0.4),)), step)
        other = edited(call, ConsistEdit(mask=EDIT.bool(), strength=0.4), step)
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in "qkv")


def test_only_the_last_stack_of_blocks_is_edited_unless_asked() -> None:
    double, single = (Site(name=f"x.{i}", kind="joint", index=i, count=2, stage=i, stages=2) for i in (0, 1))
    assert act(ConsistEdit(), site=double) is None and act(ConsistEdit(), site=single) is not None
    assert act(ConsistEdit(where=at()), site=double) is not None
    deep = ConsistEdit(where=at(depth=(0.5, 1.0), during=(0.2, 0.4)))
    chosen = [(i, step) for i, site in enumerate((double, single)) for step in range(STEPS) if act(deep, step, site)]
    assert chosen == [(1, 2), (1, 3)]


def taped(levels: list[float]) -> Tape:
    tape = Tape()
    for i, sigma in enumerate(levels):
        tape.slot(sigma, SITE.name).update({name: torch.full((1, 2, 12, 4), float(i)) for name in "qkv"})
    return tape


def test_a_tape_is_read_at_the_steps_own_level_or_one_off() -> None:
    tape = taped([1.0, 0.9, 0.8])
    for align, step, expected in (("sigma", 1, 1.0), ("official", 1, 2.0), ("official", 0, 1.0)):
        mechanism = act(ConsistEdit(tape=tape, taped="qk", align=align), step)
        assert mechanism is not None and set(mechanism.taped) == {"q", "k"}
        assert mechanism.taped["q"].unique().tolist() == [expected]
    with pytest.raises(StateError, match=r"the tape has nothing at sigma=0.7 .*it holds sigmas \[0.8, 0.9, 1.0\]"):
        act(ConsistEdit(tape=tape), 3)
    with pytest.raises(StateError, match="nothing cleaner than sigma=0.8 for site 'blocks.0.attn'; record to the end"):
        act(ConsistEdit(tape=tape, align="official"), 2)
    with pytest.raises(StateError, match="this forward has none; attach with the flow's scheduler"):
        ConsistEdit(tape=tape).plan(SITE, Clock())


def test_planning_alone_records_nothing() -> None:
    tape = Tape()
    OperandRecorder(tape=tape).plan(SITE, Clock(sigma=0.5))
    assert tape.levels(SITE.name) == []
    with pytest.raises(StateError, match=r"it holds sigmas \[\]"):
        tape.at(0.5, SITE.name)


def test_another_system_that_changes_q_is_a_conflict() -> None:
    items: dict[str, Any] = {
        "consistedit": ConsistEdit().plan(SITE, Clock()),
        "other": (SharedOperands(weights={"q": 1}),),
    }
    plan = make_plan(items, SITE, LAYOUT, LAYOUT, torch.device("cpu"))
    with pytest.raises(ConflictError, match="'consistedit' and 'other' both change q at site 'blocks.0.attn'"):
        run_plan(plan, pair(), dict.fromkeys(items, Memory()), lambda *_: pytest.fail("must not run"))
    assert make_plan({**items, "other": Clear(radius=2).plan(SITE, Clock())}, SITE, LAYOUT, LAYOUT, torch.device("cpu"))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.1}, r"strength=1.1 must be in \[0, 1\], a share of the steps"),
        ({"strength": -0.1}, "strength=-0.1 must be"),
        ({"structure": "qx"}, "structure='qx' must be letters of 'qkv'"),
        ({"kept": "z"}, "kept='z' must be letters"),
        ({"taped": "w"}, "taped='w' must be letters"),
        ({"tokens": "text"}, "tokens='text' must be 'vision' or 'all'"),
        ({"align": "off"}, "align='off' must be 'sigma' or 'official'"),
        ({"mask": EDIT, "regions": (Region(mask=EDIT),)}, "mask and regions both say where to edit"),
        ({"mask": EDIT * 2}, r"mask \(3, 4\) in \[0, 2\] must be \(h w\)"),
        ({"mask": torch.ones(4)}, r"mask \(4,\) in \[1, 1\] must be"),
        ({"where": at(heads=(0,))}, r"where.heads=\(0,\) belongs to attach"),
        ({"regions": (Region(mask=EDIT), Region(mask=torch.ones(2, 2)))}, "masks of regions differ in shape"),
    ],
)
def test_bad_options_say_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConsistEdit(**options)
