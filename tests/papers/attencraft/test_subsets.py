"""Which concepts a prompt names: how often, in which order, and when all."""

from collections import Counter

import numpy as np
import pytest

from saccade.papers.attencraft import SubsetSampler


def drawn(sampler: SubsetSampler, n: int = 6000, scores: tuple[float, ...] = ()) -> list[tuple[int, ...]]:
    return [sampler.draw(np.random.default_rng([0, step]), 1 + 2 * step, scores) for step in range(n)]


def test_each_alone_and_both_together_are_as_likely() -> None:
    found = Counter("".join(map(str, sorted(chosen))) for chosen in drawn(SubsetSampler(subjects=2, every=20)))
    assert set(found) == {"0", "1", "01"}
    for count in found.values():
        assert abs(count / 6000 - 1 / 3) < 4 * (2 / 9 / 6000) ** 0.5


def test_both_come_in_random_order_but_in_their_own_where_masks_may_be_made_anew() -> None:
    sampler = SubsetSampler(subjects=2)
    orders = Counter(chosen for chosen in drawn(sampler) if len(chosen) == 2)
    assert min(orders[(0, 1)], orders[(1, 0)]) > 0.4 * sum(orders.values())
    for step in range(0, 400, 20):
        assert sampler.draw(np.random.default_rng(step), step) == (0, 1)


def test_equal_scores_are_the_uniform_scheme_draw_by_draw() -> None:
    uniform, weighted = (SubsetSampler(subjects=3, scheme=s) for s in ("uniform", "reweighted"))
    assert weighted.probabilities((0.2, 0.2, 0.2)) == uniform.probabilities() == (0.25,) * 4
    assert drawn(weighted, 500, (0.2, 0.2, 0.2)) == drawn(uniform, 500)
    assert drawn(weighted, 500) == drawn(uniform, 500)  # before any score is known


def test_a_concept_with_half_the_attention_comes_twice_as_often_and_both_as_often_as_before() -> None:
    chances = SubsetSampler(subjects=2, scheme="reweighted").probabilities((0.4, 0.2))
    assert chances == pytest.approx((2 / 9, 4 / 9, 1 / 3))
    found = Counter(drawn(SubsetSampler(subjects=2, scheme="reweighted"), 6000, (0.4, 0.2)))
    assert found[(1,)] / found[(0,)] == pytest.approx(2, rel=0.15)


def test_one_concept_and_the_full_scheme_name_all_there_is() -> None:
    assert set(drawn(SubsetSampler(subjects=1), 50)) == {(0,)}
    assert {tuple(sorted(chosen)) for chosen in drawn(SubsetSampler(subjects=3, scheme="full"), 50)} == {(0, 1, 2)}


@pytest.mark.bad_input
def test_options_out_of_range_are_errors() -> None:
    with pytest.raises(ValueError, match="subjects=0 must be at least 1"):
        SubsetSampler(subjects=0)
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        SubsetSampler(subjects=2, every=0)
    with pytest.raises(ValueError, match="scheme='even' is unknown; choose one of uniform, reweighted, full"):
        SubsetSampler(subjects=2, scheme="even")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scores=\(0.1,\) must be 2 numbers above 0"):
        SubsetSampler(subjects=2, scheme="reweighted").probabilities((0.1,))
