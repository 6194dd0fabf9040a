"""Scores of finished texts by a mask predictor."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.metrics.language import agreement, draw_masked, masked_bound, pseudo_nll

MASK, WORDS = 0, 5
IDS = torch.tensor([[1, 2, 3, 4, 2, 1], [4, 4, 1, 2, 3, 3]])


def predictor(*, input_ids: Tensor) -> Tensor:
    """Logits that hang on all tokens and their places."""
    noise = torch.Generator().manual_seed(0)
    table, mixing = torch.randn(WORDS, WORDS, generator=noise), torch.randn(6, 6, generator=noise)
    return torch.einsum("nm,bmv->bnv", mixing, table[input_ids])


def uniform(*, input_ids: Tensor) -> Tensor:
    return torch.zeros(*input_ids.shape, WORDS)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_the_pseudo_likelihood_masks_one_token_at_a_time(rows: int) -> None:
    wanted = []
    for row in IDS.tolist():
        losses = []
        for i in range(2, 6):
            given = torch.tensor([[*row[:i], MASK, *row[i + 1 :]]])
            losses.append(-predictor(input_ids=given)[0, i].double().log_softmax(0)[row[i]])
        wanted.append(sum(losses) / len(losses))
    found = pseudo_nll(predictor, IDS, mask_id=MASK, after=2, rows=rows)
    torch.testing.assert_close(found.double(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("score", [pseudo_nll, masked_bound])
def test_who_knows_nothing_pays_the_logarithm_of_the_vocabulary(score: Callable[..., Tensor]) -> None:
    found = score(uniform, IDS, mask_id=MASK, after=1)
    torch.testing.assert_close(found, torch.full((2,), WORDS).log())


def test_the_bound_is_the_integral_over_masking_rates() -> None:
    """The mean over k equals the integral of 1/t over t, both summed over every set of masked tokens."""
    row = IDS[0, :]
    sets = torch.tensor([[bool(code >> i & 1) for i in range(6)] for code in range(1, 64)])
    nll = -predictor(input_ids=row.masked_fill(sets, MASK)).double().log_softmax(-1)
    summed = (nll.gather(-1, row.expand(63, 6)[..., None])[..., 0] * sets).sum(1)
    times = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    sizes = sets.sum(1)
    chances = times[:, None] ** (sizes - 1) * (1 - times[:, None]) ** (6 - sizes)
    integral = (chances.mean(0) * summed).sum() / 6
    found = masked_bound(predictor, IDS[:1], mask_id=MASK, draws=6000, generator=torch.Generator().manual_seed(0))
    per_draw = summed / sizes
    assert (found.double() - integral).abs() < 4 * per_draw.std() / 6000**0.5


def test_numbers_of_masked_tokens_are_spread_evenly_behind_the_openings() -> None:
    openings = torch.tensor([0, 3] * 20)
    masked = draw_masked(10, openings, torch.Generator().manual_seed(0))
    assert not (masked & (torch.arange(10) < openings[:, None])).any()
    assert masked.any(1).all()
    even = draw_masked(10, torch.zeros(40, dtype=torch.long), torch.Generator().manual_seed(1)).sum(1)
    assert even.bincount().tolist() == [0, *[4] * 10]


def test_agreement_is_the_share_of_equal_tokens() -> None:
    other = IDS.clone()
    other[0, 3] = 1
    other[1, 0] = 1
    assert agreement(IDS, other, after=2).tolist() == [0.75, 1.0]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pseudo_nll(uniform, IDS, mask_id=MASK, after=6), "after=6 must leave some of the 6 tokens"),
        (lambda: pseudo_nll(uniform, IDS, mask_id=MASK, rows=0), "rows=0 must be at least 1"),
        (lambda: masked_bound(uniform, IDS, mask_id=MASK, draws=0), "draws=0 must be at least 1"),
        (lambda: agreement(IDS, IDS[:, :4]), r"ids \(2, 6\) and reference \(2, 4\) must have one shape"),
    ],
)
def test_bad_input_is_answered(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
