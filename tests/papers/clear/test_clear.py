"""CLEAR's formulation is exact: against a plain rewrite in float64, and in everything its paper promises."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.errors import ConflictError
from saccade.core.layout import Grid, Layout, Segment
from saccade.core.partial import Parts, whole
from saccade.core.site import Site, at
from saccade.core.stack import Plan, make_plan, run_plan
from saccade.core.state import Memory
from saccade.ops import reference
from saccade.papers.clear import Clear

CPU = torch.device("cpu")
SITE = Site(name="blocks.0.attn", kind="joint", heads=2)
GRID = (1, 7, 9)
FIRST, LAST, ALONE = (
    Layout.joint(text=3, grid=GRID),
    Layout.joint(text=3, grid=GRID, text_first=False),
    Layout.image_only(GRID),
)
LAYOUTS = {"text first": FIRST, "text last": LAST, "no text": ALONE}
both_sides = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def planned(clear: Clear, layout: Layout, site: Site = SITE) -> Plan:
    return make_plan({"clear": clear.plan(site, Clock())}, site, layout, layout, CPU)


def exact(call: AttentionCall, want_lse: bool, kernel: str | None) -> Parts:
    return whole(reference.run(call, want_lse=want_lse))


def attention(clear: Clear, layout: Layout, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    call = plain_call(q, k, v, layout=layout, site=SITE)
    return run_plan(planned(clear, layout), call, {"clear": Memory()}, exact).total


def operands(layout: Layout, seed: int = 0, channels: int = 4) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, 2, layout.n, channels, generator=g, dtype=torch.float64) for _ in range(3))


def with_grid(layout: Layout, grid: Grid) -> Layout:
    """The same segments with another image grid."""
    picture = Segment("image", "image", math.prod(grid), grid)
    return Layout(tuple(picture if s.kind == "image" else s for s in layout.segments))


def disc_map(layout: Layout, radius: float) -> Tensor:
    """(n n) by hand, token by token: text sees and is seen by all, image sees image within the radius."""
    places = [None] * layout.n
    for i, place in enumerate(torch.cartesian_prod(*map(torch.arange, layout.image.grid or ())).tolist()):
        places[layout.span("image").start + i] = place
    near = [
        [a is None or b is None or sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) < radius**2 for b in places]
        for a in places
    ]
    return torch.tensor(near)


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None, scale: float | None = None) -> Tensor:
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(-1) @ v


@both_sides
@given(radius=st.floats(0.3, 13))
def test_equals_a_plain_rewrite(layout: Layout, radius: float) -> None:
    q, k, v = operands(layout)
    expected = dense(q, k, v, disc_map(layout, radius))
    torch.testing.assert_close(attention(Clear(radius=radius), layout, q, k, v), expected, atol=1e-12, rtol=0)


@both_sides
@pytest.mark.parametrize(("size", "grid"), [(2, (1, 6, 8)), (3, (1, 6, 9))])
def test_equals_a_plain_rewrite_with_pooled_keys(layout: Layout, size: int, grid: Grid) -> None:
    layout = with_grid(layout, grid)
    q, k, v = operands(layout)
    pooled_k, pooled_v = (pooled(x[:, :, layout.span("image")], layout.image.grid, size) for x in (k, v))
    allowed = torch.cat((disc_map(layout, 2.5), layout.is_("image")[:, None].expand(-1, pooled_k.shape[2])), dim=1)
    expected = dense(q, torch.cat((k, pooled_k), 2), torch.cat((v, pooled_v), 2), allowed)
    out = attention(Clear(radius=2.5, pool=size), layout, q, k, v)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)


def pooled(x: Tensor, grid: Grid | None, size: int) -> Tensor:
    """Average pooling by torch itself."""
    assert grid is not None
    picture = x.transpose(2, 3).unflatten(3, grid[1:]).flatten(0, 1)  # (b h n c) -> (bh c y x)
    small = torch.nn.functional.avg_pool2d(picture, kernel_size=size, stride=size)
    return small.flatten(2).mT.unflatten(0, x.shape[:2])


@both_sides
def test_a_radius_that_covers_the_grid_is_dense(layout: Layout) -> None:
    diagonal = math.hypot(GRID[1] - 1, GRID[2] - 1)
    assert planned(Clear(radius=diagonal + 1e-9), layout).mask is None
    assert planned(Clear(radius=diagonal), layout).mask is not None  # the comparison is strict
    q, k, v = operands(layout)
    assert torch.equal(
        attention(Clear(radius=99), layout, q, k, v), reference.run(plain_call(q, k, v, layout=layout)).out
    )


@both_sides
def test_radius_one_leaves_text_and_the_token_itself(layout: Layout) -> None:
    allowed = planned(Clear(radius=1), layout).mask
    assert allowed is not None
    image = layout.is_("image")
    seen = allowed.bound.token()[0, 0]
    assert torch.equal(seen[image], (~image | torch.eye(layout.n, dtype=torch.bool))[image])
    assert seen[~image].all()


@both_sides
@pytest.mark.parametrize("clear", [Clear(radius=2), Clear(radius=2, ntk=1.0, proportional=False)], ids=repr)
def test_text_rows_equal_dense_rows(layout: Layout, clear: Clear) -> None:
    q, k, v = operands(layout)
    text = layout.is_("text")
    out = attention(clear, layout, q, k, v)
    torch.testing.assert_close(out[:, :, text], dense(q, k, v)[:, :, text], atol=1e-13, rtol=0)
    if not text.all():
        assert (out - dense(q, k, v))[:, :, ~text].abs().max() > 1e-2


def test_text_rows_never_see_pooled_keys() -> None:
    layout = Layout.joint(text=3, grid=(1, 6, 8))
    q, k, v = operands(layout)
    out = attention(Clear(radius=2, pool=2), layout, q, k, v)
    torch.testing.assert_close(out[:, :, :3], dense(q, k, v)[:, :, :3], atol=1e-13, rtol=0)


@both_sides
@pytest.mark.parametrize("pool", [None, 2])
def test_weights_of_each_query_sum_to_one(layout: Layout, pool: int | None) -> None:
    layout = with_grid(layout, (1, 6, 8))
    q, k, v = operands(layout)
    ones = attention(Clear(radius=2.2, pool=pool), layout, q, k, torch.ones_like(v))
    torch.testing.assert_close(ones, torch.ones_like(ones), atol=1e-13, rtol=0)


@both_sides
@given(token=st.integers(0, GRID[1] * GRID[2] - 1), radius=st.floats(0.5, 6))
def test_no_gradient_reaches_image_keys_outside_the_disc(layout: Layout, token: int, radius: float) -> None:
    q, k, v = operands(layout)
    k, v = k.requires_grad_(), v.requires_grad_()
    i = layout.span("image").start + token
    attention(Clear(radius=radius), layout, q, k, v)[:, :, i].pow(2).sum().backward()
    seen = disc_map(layout, radius)[i]
    assert k.grad is not None and v.grad is not None
    assert not k.grad[:, :, ~seen].any() and not v.grad[:, :, ~seen].any()
    assert v.grad[:, :, seen].abs().amin() > 0


@given(radius=st.floats(0.5, 9))
def test_the_mask_is_symmetric_and_depends_on_the_offset_alone(radius: float) -> None:
    bound = Clear(radius=radius)._disc.bind(ALONE, ALONE)
    seen = bound.token()[0, 0]
    assert torch.equal(seen, seen.T)
    at_y, at_x = ALONE.coords()[:, 1], ALONE.coords()[:, 2]
    offset = (at_y[:, None] - at_y) * 100 + at_x[:, None] - at_x
    for value in offset.unique():
        assert seen[offset == value].unique().numel() == 1


def test_shifted_content_shifts_the_output_inside_the_border() -> None:
    radius, (down, right) = 2.5, (1, 3)
    q, k, v = (x.unflatten(2, GRID[1:]) for x in operands(ALONE))
    flat = [torch.roll(x, (down, right), (2, 3)).flatten(2, 3) for x in (q, k, v)]
    out = attention(Clear(radius=radius), ALONE, *(x.flatten(2, 3) for x in (q, k, v))).unflatten(2, GRID[1:])
    moved = attention(Clear(radius=radius), ALONE, *flat).unflatten(2, GRID[1:])
    reach = math.ceil(radius) - 1
    h, w = GRID[1:]
    inside = out[:, :, reach : h - reach - down, reach : w - reach - right]
    there = moved[:, :, reach + down : h - reach, reach + right : w - reach]
    assert inside.numel() > 0
    torch.testing.assert_close(inside, there, atol=1e-13, rtol=0)


def test_a_video_is_windowed_by_a_ball() -> None:
    layout = Layout.joint(text=2, grid=(3, 4, 4))
    q, k, v = operands(layout)
    expected = dense(q, k, v, disc_map(layout, 1.9))
    torch.testing.assert_close(attention(Clear(radius=1.9), layout, q, k, v), expected, atol=1e-12, rtol=0)
    assert int(disc_map(layout, 1.9).sum()) == Clear(radius=1.9).pairs(layout)


@pytest.mark.parametrize(("pool", "stretch"), [(None, 1), (2, 10)])
def test_the_proportional_scale_is_the_root_of_a_logarithm(pool: int | None, stretch: int) -> None:
    layout = Layout.joint(text=4, grid=(1, 6, 8))
    q, k, v = operands(layout)
    scale = math.sqrt(math.log(stretch * layout.n, 30) / q.shape[-1])
    plain = attention(Clear(radius=3, pool=pool, proportional=True, trained_tokens=30), layout, q, k, v)
    by_hand = attention(Clear(radius=3, pool=pool), layout, q * scale * q.shape[-1] ** 0.5, k, v)
    torch.testing.assert_close(plain, by_hand, atol=1e-13, rtol=0)


def test_at_the_training_length_the_proportional_scale_changes_nothing() -> None:
    q, k, v = operands(FIRST)
    plain = attention(Clear(radius=3, proportional=True, trained_tokens=FIRST.n), FIRST, q, k, v)
    assert torch.equal(plain, attention(Clear(radius=3), FIRST, q, k, v))


def test_only_chosen_sites_heads_and_steps_are_windowed() -> None:
    cross = Site(name="blocks.0.attn2", kind="cross", heads=2)
    assert Clear(radius=2, where=at(kind="cross")).plan(cross, Clock()) == ()
    assert Clear(radius=2, where=at("*single*")).plan(SITE, Clock()) == ()
    late = Clear(radius=2, where=at(during=(0.5, 1)))
    assert [bool(late.plan(SITE, Clock(step=s, num_steps=4))) for s in range(4)] == [False, False, True, True]
    q, k, v = operands(FIRST)
    out = attention(Clear(radius=2, where=at(heads=(1,))), FIRST, q, k, v)
    torch.testing.assert_close(out[:, 0], dense(q, k, v)[:, 0], atol=1e-13, rtol=0)
    torch.testing.assert_close(out[:, 1], dense(q, k, v, disc_map(FIRST, 2))[:, 1], atol=1e-13, rtol=0)


def test_one_phase_gives_the_same_objects() -> None:
    clear = Clear(radius=2, pool=2, proportional=True)
    first, second = clear.plan(SITE, Clock(step=0, num_steps=2)), clear.plan(SITE, Clock(step=1, num_steps=2))
    assert len(first) == 3 and all(a is b for a, b in zip(first, second, strict=True))


def test_two_pooled_stacks_at_one_site_are_a_conflict() -> None:
    clear = Clear(radius=2, pool=2)
    layout = Layout.joint(text=2, grid=(1, 4, 4))
    with pytest.raises(ConflictError, match="'clear' and 'clear#2' both bring a segment 'pooled'"):
        make_plan({"clear": clear.plan(SITE, Clock()), "clear#2": clear.plan(SITE, Clock())}, SITE, layout, layout, CPU)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clear(radius=0), r"radius=0 must be positive; 1 leaves each image token its own key only"),
        (lambda: Clear(radius=-3), r"radius=-3 must be positive"),
        (lambda: Clear(radius=math.nan), r"radius=nan must be positive"),
        (lambda: Clear(radius=8, pool=1), r"size=1 must be at least 2; leave pooling out"),
        (lambda: Clear(radius=8, ntk=0), r"factor=0 must be positive; 1 leaves the host's base"),
        (lambda: Clear(radius=8, proportional=True, trained_tokens=1), r"trained=1 must be at least 2"),
        (lambda: Clear(radius=8).trainable(["a"]), r"pool=None has no weights to train; .* pool=4"),
        (lambda: Clear(radius=8, weights=Clear(radius=8, pool=2).trainable(["a"]).weights), r"give pool=2 too"),
        (lambda: Clear(radius=8, pool=4, where=at(heads=(0,))), r"where.heads=\(0,\) can choose heads for the disc"),
        (lambda: planned(Clear(radius=8, pool=4), FIRST), r"grid 7 x 9 is not divisible by size=4; resize the image"),
        (lambda: planned(Clear(radius=8), Layout.plain(9)), r"needs an image grid .*text 9.*Layout.joint"),
        (lambda: plain_call(*operands(FIRST), layout=LAST.append(LAST.segments[0])), r"segment names .* must differ"),
        (lambda: plain_call(*operands(FIRST), layout=ALONE), r"q has 66 tokens, the layout 63 \(image 63 \(1x7x9\)\)"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()
