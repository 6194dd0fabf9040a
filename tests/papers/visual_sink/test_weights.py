"""Laws of sinks, of the choice of heads, and of weight that moves."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.visual_sink import (
    find_sinks,
    highest_share,
    image_centric,
    masses_of,
    redistributed,
    sink_values,
)

seeds = st.integers(0, 10**6)
shares = st.floats(0, 1)
IMAGE, SINK = (3, 4, 5, 6, 7, 8), (0, 4, 7, 10)


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def causal_map(seed: int, rows: int = 2, n: int = 13) -> Tensor:
    scores = 2 * torch.randn(rows, 3, n, n, generator=noise(seed), dtype=torch.float64)
    return scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1)


def marked(*rows: tuple[int, ...], n: int = 13) -> Tensor:
    marks = torch.zeros(len(rows), n, dtype=torch.bool)
    for row, places in enumerate(rows):
        marks[row, list(places)] = True
    return marks


def drawn(seed: int, rows: int = 2, n: int = 13) -> tuple[Tensor, Tensor]:
    """Pictures and sinks of each row, some without."""
    image = torch.rand(rows, n, generator=noise(seed)) < 0.6
    return image, torch.rand(rows, n, generator=noise(seed + 1)) < 0.3


def by_loops(alpha: Tensor, image: Tensor, sinks: Tensor, rho: float, take: float, queries: Tensor) -> Tensor:
    made = alpha.clone()
    for b in range(alpha.shape[0]):
        visual = [j for j in range(alpha.shape[3]) if image[b, j]]
        every = [j for j in range(alpha.shape[3]) if sinks[b, j]]
        clear = [j for j in visual if j not in every]
        for h in range(alpha.shape[1]):
            for i in range(alpha.shape[2]):
                row = alpha[b, h, i]
                v, r = sum(row[j] for j in visual), sum(row[j] for j in clear)
                if len(clear) == len(visual) or v < 0.2 or not r or r / v < rho or not queries[0, i]:
                    continue
                freed = take * sum(row[j] for j in every)
                for j in every:
                    made[b, h, i, j] = (1 - take) * row[j]
                for j in clear:
                    made[b, h, i, j] = row[j] + freed * row[j] / r
    return made


@given(seed=seeds, rho=st.sampled_from([0.0, 0.3, 0.6, 0.9]), take=shares)
def test_it_is_a_loop_over_heads_and_queries(seed: int, rho: float, take: float) -> None:
    alpha, (image, sinks) = causal_map(seed), drawn(seed)
    queries = torch.rand(1, 13, generator=noise(seed + 2)) < 0.7
    made = redistributed(alpha, image, sinks, rho=rho, take=take, queries=queries)
    torch.testing.assert_close(made, by_loops(alpha, image, sinks, rho, take, queries))
    rows = [redistributed(alpha[b : b + 1], image[b : b + 1], sinks[b : b + 1], rho=rho, take=take, queries=queries)
            for b in range(2)]  # fmt: skip
    assert torch.equal(made, torch.cat(rows))


@given(seed=seeds, rho=shares, take=shares)
def test_rows_keep_their_sum_and_order_and_no_weight_is_negative(seed: int, rho: float, take: float) -> None:
    alpha, (image, sinks) = causal_map(seed), drawn(seed)
    made = redistributed(alpha, image, sinks, rho=rho, take=take)
    torch.testing.assert_close(made.sum(-1), alpha.sum(-1))
    assert (made >= 0).all() and not made[..., torch.ones(13, 13).triu(1).bool()].any()


@given(seed=seeds, take=shares)
def test_the_picture_gains_what_sinks_of_the_text_give(seed: int, take: float) -> None:
    alpha, image, sinks = causal_map(seed), marked(IMAGE), marked(SINK)
    masses, made = masses_of(alpha, image, sinks), redistributed(alpha, image, sinks, rho=0.3, take=take)
    chosen = image_centric(masses, image, sinks, rho=0.3)
    gained = masses_of(made, image, sinks)
    seen, now = masses.clear + masses.image_sinks, gained.clear + gained.image_sinks
    torch.testing.assert_close(now, seen + take * chosen * masses.text_sinks)
    alone = redistributed(alpha, image, sinks & image, rho=0.3, take=take)
    kept = masses_of(alone, image, sinks)
    torch.testing.assert_close(kept.clear + kept.image_sinks, seen)
    assert (masses.clear[chosen] >= 0.3 * 0.2).all()


@given(seed=seeds, take=st.floats(0.05, 0.95))
def test_shares_among_sinks_and_among_the_rest_of_the_picture_stay(seed: int, take: float) -> None:
    alpha, image, sinks = causal_map(seed), marked(IMAGE), marked(SINK)
    made = redistributed(alpha, image, sinks, rho=0.3, take=take)
    for keys in (sinks[0], (image & ~sinks)[0]):
        was, now = alpha[..., keys], made[..., keys]
        torch.testing.assert_close(now / now.sum(-1, keepdim=True), was / was.sum(-1, keepdim=True), equal_nan=True)
    rest = ~(sinks | image)[0]
    assert torch.equal(made[..., rest], alpha[..., rest])


@given(seed=seeds)
def test_all_may_be_taken_and_nothing(seed: int) -> None:
    alpha, image, sinks = causal_map(seed), marked(IMAGE), marked(SINK)
    chosen = image_centric(masses_of(alpha, image, sinks), image, sinks, rho=0.3)
    made = redistributed(alpha, image, sinks, rho=0.3, take=1.0)
    assert not made[..., sinks[0]][chosen.expand(2, -1, -1)].any()
    for options in ({"take": 0.0, "rho": 0.0}, {"rho": 1.01}, {"rho": 0.0, "least": 1.01}):
        assert torch.equal(redistributed(alpha, image, sinks, **options), alpha)
    nobody = torch.zeros(1, 13, dtype=torch.bool)
    for other in (nobody, sinks & ~image):
        assert torch.equal(redistributed(alpha, image, other, rho=0.0), alpha)
    assert torch.equal(redistributed(alpha, image, sinks, rho=0.0, queries=nobody), alpha)


def test_a_second_time_moves_more() -> None:
    alpha, image, sinks = causal_map(0), marked(IMAGE), marked(SINK)
    once = redistributed(alpha, image, sinks, rho=0.3)
    assert (redistributed(once, image, sinks, rho=0.3) - once).abs().max() > 1e-3


def test_a_picture_of_sinks_alone_stays() -> None:
    alpha, image = causal_map(1), marked(IMAGE)
    assert torch.equal(redistributed(alpha, image, image, rho=0.0), alpha)


def test_gradients_are_those_of_the_formula() -> None:
    scores = torch.randn(1, 2, 5, 7, generator=noise(3), dtype=torch.float64, requires_grad=True)
    image, sinks = marked((1, 2, 3, 4), n=7), marked((0, 2), n=7)

    def moved(x: Tensor) -> Tensor:
        return redistributed(x.softmax(-1), image, sinks, rho=0.2, take=0.5)

    assert torch.autograd.gradcheck(moved, scores)
    lone = torch.zeros(1, 1, 1, 7, dtype=torch.float64, requires_grad=True)
    alpha = (lone + torch.tensor([0.0] + [-1e4] * 6)).softmax(-1)  # nothing on the picture
    redistributed(alpha, image, sinks, rho=0.0).square().sum().backward()
    assert lone.grad is not None and torch.isfinite(lone.grad).all()


def test_rho_is_the_complement_of_the_released_one() -> None:
    alpha, image, sinks = causal_map(4), marked(IMAGE), marked(SINK)
    masses = masses_of(alpha, image, sinks)
    seen = masses.clear + masses.image_sinks
    chosen = image_centric(masses, image, sinks, rho=0.8)
    assert torch.equal(chosen, (masses.image_sinks / seen <= 0.2) & (seen >= 0.2)) and chosen.any()
    assert not torch.equal(chosen, image_centric(masses, image, sinks, rho=0.2))


@given(seed=seeds, scale=st.floats(0.5, 50))
def test_values_forget_scale_and_the_order_of_other_channels(seed: int, scale: float) -> None:
    x = torch.randn(2, 5, 12, generator=noise(seed), dtype=torch.float64)
    values = sink_values(x, (2, 9))
    torch.testing.assert_close(sink_values(scale * x, (2, 9)), values, rtol=1e-4, atol=1e-4)
    others = [i for i in range(12) if i not in (2, 9)]
    order = torch.arange(12)
    order[others] = torch.tensor(others)[torch.randperm(10, generator=noise(seed))]
    torch.testing.assert_close(sink_values(x[..., order], (2, 9)), values)
    torch.testing.assert_close(values, x[..., [2, 9]].abs().amax(-1) / (x.square().mean(-1) + 1e-6).sqrt())


def test_half_precision_is_widened_before_it_is_squared() -> None:
    x = torch.zeros(1, 2, 600, dtype=torch.float16)
    x[0, 0, 7] = 3000.0  # whose square is no half
    assert find_sinks(x, (7,))[0].tolist() == [True, False]
    torch.testing.assert_close(sink_values(x, (7,))[0, 0], torch.tensor(600**0.5))


def test_the_highest_share_is_no_threshold() -> None:
    values = torch.tensor([[1.0, 9.0, 3.0, 4.0, 5.0, 2.0, 8.0, 0.0, 6.0, 7.0]])
    assert highest_share(values, 0.2)[0].nonzero().flatten().tolist() == [1, 6]
    assert not find_sinks(torch.ones(1, 3, 4), (0,), tau=float("inf")).any()


@pytest.mark.bad_input
def test_what_cannot_be_is_refused() -> None:
    x, alpha = torch.zeros(1, 2, 4), causal_map(0)
    calls: tuple[tuple[Any, str], ...] = (
        (lambda: sink_values(x, (4,)), r"dims=\(4,\) must be channels of a stream of 4; find this model's by"),
        (lambda: sink_values(x, (-1,)), "dims=-1 must be a whole number of at least 0"),
        (lambda: find_sinks(x, (0,), tau=-1.0), "tau=-1.0 must be above 0; the paper takes 20"),
        (lambda: highest_share(x[..., 0], 0.0), r"share=0.0 must be in \(0, 1\)"),
        (lambda: redistributed(alpha, marked(IMAGE), marked(SINK), take=1.1), r"take=1.1 must be in \[0, 1\]"),
    )
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()
