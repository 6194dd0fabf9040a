"""The banks: first in, first out, without gradients; the loss that draws from them; and that they are kept."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.papers.dreamrelation import Contrast, RelationalContrast, contrastive_loss
from saccade.papers.dreamrelation.contrast import FifoBank
from saccade.papers.dreamrelation.losses import appearance, dynamics


@given(st.integers(1, 6), st.lists(st.integers(0, 4), max_size=8))
def test_a_bank_keeps_the_newest_rows_in_order(capacity: int, pushes: list[int]) -> None:
    bank, kept, number = FifoBank(capacity, 2), list[float](), 0
    for count in pushes:
        rows = torch.arange(number, number + count).float()[:, None].expand(-1, 2)
        number += count
        bank.push(rows)
        kept = [*kept, *rows[:, 0].tolist()][-capacity:]
        assert len(bank) == len(kept) <= capacity
        assert bank.newest_last[:, 0].tolist() == kept


def test_what_is_stored_carries_no_graph() -> None:
    bank = FifoBank(3, 2)
    x = torch.randn(2, 2, requires_grad=True)
    bank.push(x * 2)
    assert not bank.rows.requires_grad and bank.rows.grad_fn is None
    assert torch.equal(bank.newest_last, 2 * x.detach())


@given(st.integers(0, 5), st.integers(1, 4))
def test_a_draw_repeats_no_row(stored: int, count: int) -> None:
    bank = FifoBank(5, 1)
    bank.push(torch.arange(stored).float()[:, None])
    drawn = bank.draw(count, 6)[..., 0]
    assert drawn.shape == (6, min(count, stored))
    assert all(len(set(row)) == len(row) for row in drawn.tolist())
    assert {int(x) for x in drawn.flatten()} <= set(range(stored))


def test_the_first_video_has_no_loss_and_the_second_meets_it() -> None:
    contrast, (one, two) = RelationalContrast(5, 3), torch.randn(2, 1, 3, 5, 4, 4)
    assert contrast(one) is None
    found = contrast(two)
    features, seen = appearance(two[0]), dynamics(appearance(one[0]))
    old = appearance(one[0])  # n_neg 10: five own frames, and the five stored ones, all
    negatives = torch.cat((features, old)).expand(4, -1, -1)
    torch.testing.assert_close(found, contrastive_loss(dynamics(features)[:, None], seen[:, None], negatives))
    assert len(contrast.relations) == 2 and len(contrast.frames) == 10


def test_positives_are_of_the_same_frame_and_own_negatives_have_gradients() -> None:
    contrast = RelationalContrast(4, 2, Contrast(negatives=0))
    contrast(torch.randn(1, 2, 4, 2, 2))
    video = torch.randn(1, 2, 4, 2, 2, requires_grad=True)
    seen = contrast.relations.newest_last[0]
    features = appearance(video[0])
    wanted = contrastive_loss(dynamics(features)[:, None], seen[:, None], features.expand(3, -1, -1))
    ours = torch.autograd.grad(contrast(video), video, retain_graph=True)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(wanted, video)[0])


def test_rows_of_a_batch_meet_those_before_them() -> None:
    videos = torch.randn(3, 2, 4, 2, 2)
    together, apart = (RelationalContrast(4, 2, Contrast(positives=9, negatives=0)) for _ in range(2))
    losses = [apart(video[None]) for video in videos]
    torch.testing.assert_close(together(videos), torch.stack(losses[1:]).mean())
    assert torch.equal(together.relations.rows, apart.relations.rows)


def test_banks_go_with_the_state_dict() -> None:
    one, two = (RelationalContrast(4, 2) for _ in range(2))
    one(torch.randn(3, 2, 4, 2, 2))
    two.load_state_dict(one.state_dict())
    video = torch.randn(1, 2, 4, 2, 2)
    found = []
    for contrast in (one, two):
        torch.manual_seed(3)
        found.append(contrast(video))
    assert torch.equal(*found) and len(two.relations) == 4


@pytest.mark.parametrize("frames", [12, 5])
def test_own_frames_are_all_negatives_and_stored_ones_fill_up(frames: int) -> None:
    contrast = RelationalContrast(frames, 2)
    for _ in range(2):
        contrast(torch.randn(1, 2, frames, 2, 2))
    drawn = contrast.frames.draw(max(contrast.options.negatives - frames, 0), 3)
    assert drawn.shape[1] == max(10 - frames, 0)
