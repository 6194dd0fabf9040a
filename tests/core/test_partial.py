"""Partial attention is a monoid; parts equal the map rewrite."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.biases import BiasSum, DenseBias, LowRank, PerKey
from saccade.core.partial import Partial, Parts, identity, merge, whole


def partial(seed: int, keys: int) -> Partial:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 2, n, 4, generator=g, dtype=torch.float64) for n in (3, keys, keys))
    scores = q @ k.mT
    return Partial(scores.softmax(-1) @ v, scores.logsumexp(-1))


def close(a: Partial, b: Partial) -> bool:
    assert a.lse is not None and b.lse is not None
    return torch.allclose(a.out, b.out, atol=1e-12) and torch.allclose(a.lse, b.lse, atol=1e-12)


@given(st.tuples(st.integers(0, 99), st.integers(100, 199), st.integers(200, 299)), st.integers(1, 6))
def test_merge_is_associative_commutative_and_has_an_identity(seeds: tuple[int, int, int], keys: int) -> None:
    a, b, c = (partial(seed, keys) for seed in seeds)
    assert close(merge(merge(a, b), c), merge(a, merge(b, c)))
    assert close(merge(a, b), merge(b, a))
    nothing = identity(a.out)
    assert torch.equal(merge(a, nothing).out, a.out)
    assert torch.isfinite(merge(nothing, nothing).out).all()


def test_merge_of_disjoint_keys_is_attention_over_all() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, n, 4, generator=g, dtype=torch.float64) for n in (3, 9, 9))

    def over(keys: slice) -> Partial:
        scores = q @ k[:, :, keys].mT
        return Partial(scores.softmax(-1) @ v[:, :, keys], scores.logsumexp(-1))

    assert close(merge(over(slice(0, 4)), over(slice(4, 9))), over(slice(0, 9)))


def test_merge_asks_for_lse() -> None:
    with pytest.raises(ValueError, match="want_lse=True"):
        merge(Partial(torch.ones(1, 1, 1, 1)), partial(0, 1))


def weights_and_parts() -> tuple[Tensor, Tensor, Tensor, Parts]:
    g = torch.Generator().manual_seed(1)
    weights = torch.randn(1, 2, 3, 6, generator=g, dtype=torch.float64).softmax(-1)
    v = torch.randn(1, 2, 6, 4, generator=g, dtype=torch.float64)
    label = torch.tensor([0, 1, 0, 2, 1, 0])
    masses = torch.stack([weights[..., label == i].sum(-1) for i in range(3)])
    outs = torch.stack([weights[..., label == i] @ v[:, :, label == i] for i in range(3)]) / masses[..., None]
    return weights, v, label, Parts(outs, masses)


def test_total_of_parts_is_the_attention() -> None:
    weights, v, _, parts = weights_and_parts()
    torch.testing.assert_close(parts.total, weights @ v)


def test_reweigh_and_gain_equal_the_map_rewrite() -> None:
    weights, v, label, parts = weights_and_parts()
    factors = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)
    rewritten = (weights * factors[label]) @ v
    torch.testing.assert_close(parts.reweigh(parts.mass * factors[:, None, None, None]).total, rewritten)
    gate = torch.tensor([0.25, 4.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(parts.gain(gate).total, (weights @ v) * gate)
    torch.testing.assert_close(parts.plus(v[:, :, :3]).gain(gate).total, (weights @ v + v[:, :, :3]) * gate)


def test_mix_is_bitwise_the_old_output_where_the_weight_is_zero() -> None:
    parts = whole(partial(3, 5))
    weight = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64)[:, None]
    other = torch.randn_like(parts.total)
    mixed = parts.mix(other, weight).total
    assert torch.equal(mixed[:, :, 0], parts.total[:, :, 0])
    torch.testing.assert_close(mixed[:, :, 1], other[:, :, 1])
    torch.testing.assert_close(mixed[:, :, 2], (parts.total + other)[:, :, 2] / 2)


@given(st.integers(0, 99), st.integers(0, 3))
def test_biases_commute_add_and_are_zero_on_appended_keys(seed: int, appended: int) -> None:
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    biases = (LowRank(rand(1, 2, 3, 2), rand(2, 1, 5, 2)), PerKey(rand(2, 1, 5)), DenseBias(rand(1, 2, 3, 5)))
    m = 5 + appended
    maps = [b.materialize(3, m).expand(2, 2, 3, m) for b in biases]
    assert all((x[..., 5:] == 0).all() for x in maps)
    for i, a in enumerate(biases):
        for j, b in enumerate(biases):
            torch.testing.assert_close((a + b).materialize(3, m).expand(2, 2, 3, m), maps[i] + maps[j])
    everything = biases[0] + biases[1] + biases[2] + biases[0]
    assert isinstance(everything, BiasSum) and len(everything.terms) == 4
    torch.testing.assert_close(everything.materialize(3, m).expand(2, 2, 3, m), sum(maps) + maps[0])


def test_low_rank_biases_stay_low_rank_when_added() -> None:
    a, b = (LowRank(torch.randn(1, 1, 3, r), torch.randn(1, 2, 5, r)) for r in (1, 4))
    assert isinstance(a + b, LowRank) and (a + b).rank == 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("q", "k", "message"),
    [
        ((1, 1, 3, 2), (1, 1, 5, 4), "phi_q has 2 columns and phi_k 4"),
        ((1, 2, 3, 2), (1, 3, 5, 2), "must broadcast in their first two dimensions"),
    ],
)
def test_factors_that_do_not_fit_are_refused(q: tuple[int, ...], k: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LowRank(torch.zeros(q), torch.zeros(k))
