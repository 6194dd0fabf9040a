"""Step 3: anchoring is convex, copies are rows of the source, and nothing else is touched."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.papers.diffuhaul import Blob
from saccade.papers.diffuhaul.anchors import NearestCopy, SoftAnchor, nearest, tokens
from saccade.papers.diffuhaul.carrying import carried
from tests.papers.diffuhaul.hauling import outputs, pair_call

OLD, NEW = Blob(x=0.3, y=0.3, a=0.25, b=0.25), Blob(x=0.7, y=0.7, a=0.3, b=0.2)


def anchored(mechanism: SoftAnchor | NearestCopy, text: int = 0, parts: Parts | None = None) -> tuple[Tensor, Tensor]:
    """Outputs before and after."""
    call = pair_call(text=text)
    parts = outputs(call) if parts is None else parts
    mechanism.check(call.layout_q, call.layout_k)
    return parts.total, mechanism.blend(call, parts, Memory()).total


@given(st.floats(0, 1))
def test_a_share_of_the_source_is_convex_and_linear(weight: float) -> None:
    before, after = anchored(SoftAnchor(weight=torch.tensor(weight)))
    torch.testing.assert_close(after[1], (1 - weight) * before[1] + weight * before[0])
    low, high = torch.minimum(before[0], before[1]), torch.maximum(before[0], before[1])
    assert ((after[1] >= low - 1e-6) & (after[1] <= high + 1e-6)).all() and torch.equal(after[0], before[0])


def test_none_and_all_of_the_source_are_so_to_the_bit_and_text_stays() -> None:
    for weight, row in ((0.0, 1), (1.0, 0)):
        before, after = anchored(SoftAnchor(weight=torch.tensor(weight)), text=3)
        assert torch.equal(after[1, :, 3:], before[row, :, 3:]) and torch.equal(after[1, :, :3], before[1, :, :3])


def test_every_copied_row_is_a_row_of_the_source_and_others_keep_their_bits() -> None:
    before, after = anchored(NearestCopy(source=OLD, target=NEW), text=2)
    inside, there = NEW.on((6, 6)).flatten(), before[0, :, 2:][:, OLD.on((6, 6)).flatten()]
    image = after[1, :, 2:]
    assert torch.equal(image[:, ~inside], before[1, :, 2:][:, ~inside]) and torch.equal(after[0], before[0])
    for token in image[:, inside].unbind(1):
        assert (token[:, None] == there).all(-1).all(0).any()


def test_copying_is_idempotent_and_knows_no_order() -> None:
    copy = NearestCopy(source=OLD, target=NEW)
    _, once = anchored(copy)
    _, twice = anchored(copy, parts=Parts(once[None]))
    assert torch.equal(once, twice)
    own, theirs = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    order = torch.randperm(7)
    taken = theirs[:, order].gather(1, nearest(own, theirs[:, order])[..., None].expand(-1, -1, 8))
    assert torch.equal(taken, theirs.gather(1, nearest(own, theirs)[..., None].expand(-1, -1, 8)))


def test_a_token_is_its_own_nearest() -> None:
    theirs = torch.randn(1, 2, 9, 4)
    assert torch.equal(nearest(tokens(theirs), tokens(theirs)), torch.arange(9)[None])


def test_features_of_another_forward_stand_for_source_rows() -> None:
    call = pair_call()
    parts = outputs(call)
    one = SoftAnchor(weight=torch.tensor(0.3))
    alone = call.replace(q=call.q[1:], k=call.k[1:], v=call.v[1:], rows=type(call.rows).of("target"))  # type: ignore[union-attr]
    kept = SoftAnchor(weight=torch.tensor(0.3), taken={"o": parts.total[:1]})
    found = kept.blend(alone, Parts(parts.outs[:, 1:]), Memory()).total
    assert torch.equal(found[0], one.blend(call, parts, Memory()).total[1])


def test_a_grid_without_the_object_is_skipped_with_one_warning() -> None:
    small = NearestCopy(source=Blob(x=0.5, y=0.5, a=0.02, b=0.02, name="mote"), target=NEW)
    with pytest.warns(UserWarning, match=r"blob 'mote' covers no token of a grid \(1, 6, 6\)"):
        before, after = anchored(small)
    assert torch.equal(before, after)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anchored(small)


def test_carried_features_come_from_the_old_place_and_leave_it_its_own() -> None:
    to = OLD.moved((OLD.x + 2 / 6, OLD.y + 1 / 6))
    before, after = anchored(SoftAnchor(weight=torch.tensor(1.0), way=(OLD, to)))
    moved = carried(OLD, to, (1, 6, 6))
    old, new = OLD.touched((6, 6)), torch.roll(OLD.touched((6, 6)), (1, 2), (0, 1))
    left = (old & ~new).flatten()
    assert torch.equal(moved.weight.flatten() == 0, left)
    assert torch.equal(after[1, :, left], before[1, :, left])
    assert torch.equal(after[1][:, new.flatten()], before[0][:, old.flatten()])
    same = carried(OLD, OLD, (2, 6, 6))
    assert torch.equal(same.taken, torch.arange(72)) and (same.weight == 1).all()
