"""The pointer head against its definition; permutation, items that are not there, gradients."""

import pytest
import torch

from saccade.nn import PointerHead


def made(heads: int = 2, **options: int) -> tuple[PointerHead, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return PointerHead(8, heads=heads, **options).double(), torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("scale_width", [None, 32])
def test_it_is_its_definition(heads: int, scale_width: int | None) -> None:
    head, x, items = made(heads, **({"scale_width": scale_width} if scale_width else {}))
    found = head(x, items)
    for b in range(2):
        for t in range(3):
            for i in range(6):
                scores = [
                    (each.query(x[b, t]) @ each.key(items[b, i])) / (scale_width or 8) ** 0.5
                    if i < 5
                    else x.new_zeros(())
                    for each in head.heads
                ]
                wanted = scores[0] if head.readout is None else head.readout(torch.stack(scores))[0]
                torch.testing.assert_close(found[b, t, i], wanted)


def test_permuting_items_permutes_their_logits_and_the_last_stays() -> None:
    head, x, items = made()
    order = torch.randperm(5)
    torch.testing.assert_close(head(x, items[:, order]), head(x, items)[..., [*order.tolist(), 5]])


def test_items_that_are_not_there_have_no_logit_and_no_gradient() -> None:
    head, x, items = made()
    keep = torch.tensor([[True, False, True, True, False]] * 2)
    items.requires_grad_()
    found = head(x, items, keep)
    assert (found[..., [1, 4]] == -torch.inf).all() and found[..., [0, 2, 3, 5]].isfinite().all()
    found.log_softmax(-1)[..., 0].sum().backward()
    assert (items.grad[:, [1, 4]] == 0).all() and (items.grad[:, 0] != 0).any()


def test_gradients_are_right() -> None:
    head, x, items = made()
    x.requires_grad_()
    items.requires_grad_()
    assert torch.autograd.gradcheck(head, (x, items))


@pytest.mark.parametrize("options", [{"heads": 0}, {"scale_width": -1}])
def test_bad_sizes_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        PointerHead(8, **options)
