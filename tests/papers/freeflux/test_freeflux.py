"""FreeFlux's edits by the specification's own sentences, on random operands."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.analysis.layers import LayerSets
from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.layout import Layout
from saccade.core.rows import Rows
from saccade.core.site import Site, at
from saccade.core.state import Memory
from saccade.papers.freeflux import AddObject, FreeFlux, KeepRegion, Reshape

NAMES = tuple(f"blocks.{i}.attn" for i in range(5))
SETS = LayerSets.numbered(NAMES, position=(1, 3), content=(0, 4))
SITES = [Site(name=name, index=i, count=5, layer=i, kind="joint", heads=2) for i, name in enumerate(NAMES)]
LAYOUT = Layout.joint(text=3, grid=(1, 4, 5))
PAIR = Rows.of("source", "target")
IMAGE = LAYOUT.span("image")


def made(rows: Rows = PAIR) -> AttentionCall:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(rows.n, 2, LAYOUT.n, 4, generator=g, dtype=torch.float64) for _ in "qkv")
    return plain_call(q, k, v, layout=LAYOUT, rows=rows)


def edited(edit: Any, call: AttentionCall | None = None, site: int = 0) -> AttentionCall:
    """A call under the plan of a layer, as it was where nothing is planned."""
    call = made() if call is None else call
    for item in FreeFlux(edit=edit, layers=SETS).plan(SITES[site], Clock(num_steps=50)):
        item.check(LAYOUT, LAYOUT)
        call = item.operands(call, Memory())
    return call


def chosen(edit: Any, step: int = 0, of: int = 50) -> list[int]:
    """Layers with a plan at a step."""
    system = FreeFlux(edit=edit, layers=SETS)
    return [site.layer for site in SITES if system.plan(site, Clock(step=step, num_steps=of))]


def some(seed: int, *shape: int) -> Tensor:
    return torch.rand(*(shape or (4, 5)), generator=torch.Generator().manual_seed(seed)) > 0.5


def test_each_kind_shares_in_its_own_layers_and_steps() -> None:
    assert chosen(AddObject()) == chosen(AddObject(), 49) == [1, 3]
    assert chosen(Reshape()) == chosen(Reshape(), 49) == [0, 4]
    keep = KeepRegion(keep=some(0))
    assert chosen(keep) == chosen(keep, 44) == [0, 1, 2, 3, 4] and chosen(keep, 45) == []
    assert chosen(Reshape(layers="position")) == [1, 3]


def test_an_empty_set_of_layers_steps_or_operands_plans_nothing() -> None:
    bare = FreeFlux(edit=Reshape(), layers=LayerSets(sites=NAMES))
    assert [site for site in SITES if bare.plan(site, Clock())] == []
    assert chosen(Reshape(steps=0)) == chosen(Reshape(operands="")) == []


def test_reshape_takes_k_and_v_of_all_image_tokens_and_nothing_else() -> None:
    out = edited(Reshape(), call := made())
    for name in "kv":
        before, after = getattr(call, name), getattr(out, name)
        assert torch.equal(after[1, :, IMAGE], before[0, :, IMAGE])
        assert torch.equal(after[1, :, :3], before[1, :, :3]) and torch.equal(after[0], before[0])
    assert out.q is call.q


@given(seed=st.integers(0, 1000))
def test_add_takes_k_and_v_where_the_object_may_not_be(seed: int) -> None:
    free, call = some(seed), made()
    out, inside = edited(AddObject(free=free), site=1), free.flatten()
    for name in "kv":
        before, after = getattr(call, name)[:, :, IMAGE], getattr(out, name)[:, :, IMAGE]
        assert torch.equal(after[1, :, inside], before[1, :, inside])
        assert torch.equal(after[1, :, ~inside], before[0, :, ~inside])


def test_all_free_is_no_sharing_and_nothing_free_is_the_first_pass() -> None:
    call = made()
    open_, shut, first = (edited(AddObject(free=free), site=1) for free in (torch.ones(4, 5), torch.zeros(4, 5), None))
    for name in "kv":
        assert torch.equal(getattr(open_, name), getattr(call, name))
        assert torch.equal(getattr(shut, name), getattr(first, name))


@given(seed=st.integers(0, 1000))
def test_keep_takes_v_alone_so_the_attention_is_the_targets_own(seed: int) -> None:
    keep, call = some(seed), made()
    out, inside = edited(KeepRegion(keep=keep), call), keep.flatten()
    assert out.q is call.q and out.k is call.k
    assert torch.equal(out.v[1, :, IMAGE][:, inside], call.v[0, :, IMAGE][:, inside])
    assert torch.equal(out.v[1, :, IMAGE][:, ~inside], call.v[1, :, IMAGE][:, ~inside])
    assert torch.equal(edited(KeepRegion(keep=keep, by=(0, 0))).v, out.v)


@given(seed=st.integers(0, 1000), down=st.integers(-1, 1), across=st.integers(-1, 1))
def test_a_kept_region_that_moves_takes_v_from_where_it_was(seed: int, down: int, across: int) -> None:
    keep = torch.zeros(4, 5, dtype=torch.bool)
    keep[1:3, 1:4] = some(seed, 2, 3)
    call, out = made(), edited(KeepRegion(keep=keep, by=(down, across)))
    expected = call.v[1, :, IMAGE].clone()
    for y, x in keep.nonzero().tolist():
        expected[:, (y + down) * 5 + x + across] = call.v[0, :, IMAGE][:, y * 5 + x]
    assert torch.equal(out.v[1, :, IMAGE], expected)
    assert torch.equal(out.v[0], call.v[0]) and torch.equal(out.v[1, :, :3], call.v[1, :, :3])


def test_every_sample_has_its_own_place_and_move() -> None:
    rows = Rows.of("source", "target", samples=2)
    keep = torch.zeros(2, 1, 4, 5)
    keep[0, 0, 0, 0] = keep[1, 0, 2, 2] = 1
    call, out = made(rows), edited(KeepRegion(keep=keep, by=(1, 1)), made(rows))
    assert torch.equal(out.v[2, :, IMAGE][:, 6], call.v[0, :, IMAGE][:, 0])
    assert torch.equal(out.v[3, :, IMAGE][:, 18], call.v[1, :, IMAGE][:, 12])
    changed = (out.v != call.v).any(-1).any(1)
    assert changed.nonzero().tolist() == [[2, 3 + 6], [3, 3 + 18]]


def test_equal_phases_get_the_same_object() -> None:
    system = FreeFlux(edit=Reshape(), layers=SETS)
    (first,), (later,), (elsewhere,) = (
        system.plan(SITES[i], Clock(step=step, num_steps=50)) for i, step in ((0, 0), (0, 7), (4, 3))
    )
    assert first is later is elsewhere


def test_gradients_go_to_the_row_that_was_taken_from() -> None:
    call = made()
    call.v.requires_grad_()
    edited(Reshape(), call).v[1].sum().backward()
    assert call.v.grad[0, :, IMAGE].eq(1).all() and call.v.grad[1, :, IMAGE].eq(0).all()
    assert call.v.grad[1, :, :3].eq(1).all()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FreeFlux(edit=Reshape()), "layers=None says nothing of which layers hang on content; probe the model"),
        (lambda: FreeFlux(layers=SETS, where=at(heads=(0,))), r"where.heads=\(0,\) belongs to attach"),
        (lambda: Reshape(steps=1.5), r"steps=1.5 must be in \[0, 1\], a share of the steps"),
        (lambda: Reshape(steps=float("nan")), "steps=nan"),
        (lambda: AddObject(operands="kx"), "operands='kx' must be letters of 'qkv'"),
        (lambda: Reshape(layers="deep"), "layers='deep' must be 'position', 'content' or 'all'"),
        (lambda: AddObject(free=torch.ones(4)), r"free \(4,\) in \[1, 1\] must be \(h w\)"),
        (lambda: AddObject(free=2 * torch.ones(4, 4)), r"free \(4, 4\) in \[2, 2\]"),
        (lambda: KeepRegion(keep=torch.ones(4, 5), by=(0, 1)), r"by=\(0, 1\) \(rows, columns\) moves a region out of"),
        (lambda: edited(KeepRegion(by=(0, 1))), r"by=\(0, 1\) moves a region, and keep=None is all of the picture"),
        (lambda: edited(KeepRegion(keep=torch.ones(3, 3))), r"a mask over \(1, 3, 3\) .* does not fit v of a grid"),
        (lambda: edited(KeepRegion(keep=torch.eye(3), by=(0, 0)), site=1), "make it on the grid of the latents"),
    ],
)
def test_what_cannot_be_is_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_layers_of_another_model_are_refused() -> None:
    with pytest.raises(SelectorError, match="layer sets of 5 layers do not know layer 5, 'blocks.5.attn'"):
        FreeFlux(layers=SETS).plan(Site(name="blocks.5.attn", layer=5, kind="joint"), Clock())


def test_a_map_of_tokens_taken_must_fit_the_grid() -> None:
    (shared,) = FreeFlux(edit=KeepRegion(keep=some(0, 4, 4) & False, by=(1, 0))).plan(SITES[0], Clock())
    with pytest.raises(ValueError, match="does not fit v of a grid|taken is for 16 image tokens"):
        shared.check(LAYOUT, LAYOUT)
