"""Boxes as values: what is refused, with the entry's number, and how they are padded."""

import numpy as np
import pytest
import torch

from saccade.papers.siamlayout import CaptionedBox, LayoutBatch, captioned

GOOD = (0.1, 0.2, 0.5, 0.6)


def test_captions_and_boxes_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="captions=1 and boxes=2 must be as many"):
        captioned(["a"], [GOOD, GOOD])


def test_more_than_ten_boxes_are_refused_everywhere() -> None:
    with pytest.raises(ValueError, match="boxes=11 are more than slots=10; leave out 1"):
        captioned(["a"] * 11, [GOOD] * 11)
    asked = captioned(["a"] * 3, [GOOD] * 3)
    with pytest.raises(ValueError, match="boxes=3 are more than slots=2"):
        LayoutBatch.of([asked], [torch.zeros(3, 4)], slots=2)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.5, 0.2, 0.1, 0.6), r"boxes\[1\]=.*must be 0 <= x0 < x1 <= 1"),
        ((0.1, 0.2, 0.1, 0.6), r"boxes\[1\]=.*must be 0 <= x0 < x1 <= 1"),
        ((-0.1, 0.2, 0.3, 0.6), r"boxes\[1\]=.*must be 0 <= x0 < x1 <= 1"),
        ((10, 20, 300, 400), r"boxes\[1\]=.*reaches beyond 1, as pixels do; divide by the width"),
        ((0.1, 0.2, 0.3), r"boxes\[1\]=.*not enough values"),
        ((float("nan"), 0.2, 0.3, 0.4), r"boxes\[1\]=.*must be 0 <= x0"),
    ],
)
def test_a_box_that_is_none_is_named_by_its_number(box: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        captioned(["a", "b"], [GOOD, box])


def test_an_empty_caption_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty; say what is there"):
        CaptionedBox(caption=" ", box=GOOD)


def test_padding_and_rounding() -> None:
    asked = captioned(["a", "b"], [(0.12345, 0.2, 0.5, 0.6), GOOD])
    found = LayoutBatch.of([asked, asked[:1], []], [torch.ones(2, 3), torch.ones(1, 3), torch.ones(0, 3)], slots=4)
    assert found.boxes[0, 0, 0] == pytest.approx(0.123, abs=1e-7) and found.rows == 3
    assert found.mask.tolist() == [[True, True, False, False], [True, False, False, False], [False] * 4]
    assert not found.text[~found.mask].any() and not found.boxes[~found.mask].any()
    assert not found.null().mask.any() and found.null().text is found.text
    chosen = found.chosen([1, None, 0])
    assert chosen.mask.sum(1).tolist() == [1, 0, 2]


def test_tensors_are_checked_where_slots_are_used() -> None:
    boxes, mask = torch.tensor([[GOOD, (0.5, 0.5, 0.2, 0.9)]]), torch.tensor([[True, False]])
    LayoutBatch(boxes=boxes, mask=mask, text=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"boxes\[0, 1\]=\(0.5, 0.5, 0.2, 0.9\) must be"):
        LayoutBatch(boxes=boxes, mask=~mask, text=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="give one of each for every slot"):
        LayoutBatch(boxes=boxes, mask=mask, text=torch.zeros(1, 3, 3))


def test_of_more_boxes_than_slots_a_random_subset_is_taken() -> None:
    asked = [
        captioned([str(i) for i in range(k)], [(0, 0, (i + 1) / 20, 1) for i in range(k)], most=14) for k in (12, 2)
    ]
    held = LayoutBatch.of(asked, [torch.arange(k)[:, None].float() for k in (12, 2)], slots=14)
    assert held.sampled(14, np.random.default_rng(0)) is held
    found = [held.sampled(5, np.random.default_rng(seed)) for seed in range(20)]
    for each in found:
        assert each.mask.sum(1).tolist() == [5, 2]
        kept = each.text[0, :, 0].long()
        assert len(kept.unique()) == 5 and torch.equal(each.boxes[0], held.boxes[0, kept])
    assert {int(i) for each in found for i in each.text[0, :, 0]} == {*range(12)}
