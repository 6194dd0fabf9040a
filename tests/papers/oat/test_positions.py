"""Position codes: cosines of tokens, every ablation, places between whole numbers, tables of one's own."""

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import cosine_similarity

from saccade.nn import distance_table, optimised_table
from saccade.papers.oat.positions import PositionCode, PositionKind, frequencies, share, sharpened, time_code, waves

KINDS: tuple[PositionKind, ...] = get_args(PositionKind)


def code(kind: PositionKind, places: Tensor, centre: tuple[int, int] = (2, 5), **options: object) -> Tensor:
    return PositionCode(kind, 14, 256, **options)(places[None], centre)[0]


def every(rows: int = 6, columns: int = 14) -> Tensor:
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns), torch.arange(2)).float()


@pytest.mark.parametrize("rotation", [None, 0])
def test_the_cosine_of_two_tokens_is_the_mean_of_three(rotation: int | None) -> None:
    """Exact where the two channels that are cut off are zeros, as without a rotation."""
    places = every()
    found = code("gaussian", places, rotation=rotation).double()
    apart = (places[:, None] - places).double()
    wanted = (-apart.square() / 8).exp().mean(-1)
    close = 1e-6 if rotation is None else 0.05
    torch.testing.assert_close(cosine_similarity(found[:, None], found, dim=-1), wanted, atol=close, rtol=0)


def test_widths_are_a_third_each_even_and_cut() -> None:
    assert [share(width) for width in (256, 16, 12, 64)] == [86, 6, 4, 22]
    assert code("gaussian", every()).shape == (168, 256)


@pytest.mark.parametrize("kind", ["sinusoid", "exp1", "exp2", "linear"])
def test_sinusoids_are_their_frequency_law(kind: PositionKind) -> None:
    place = torch.tensor([[3.0, 7.0, 1.0]])
    rates = {
        "sinusoid": lambda k: 10000 ** (-k / 86),
        "exp1": lambda k: k**0.9 / 86,
        "exp2": lambda k: (k / 86) ** 0.9,
        "linear": lambda k: 0.9 * k / 86,
    }[kind]
    axes = [[f(at * rates(k)) for k in range(0, 86, 2) for f in (np.sin, np.cos)] for at in place[0].tolist()]
    torch.testing.assert_close(code(kind, place)[0], torch.tensor(sum(axes, [])[:256]).float(), atol=1e-5, rtol=0)


def test_sharpening_takes_cosines_to_their_power_and_keeps_lengths() -> None:
    places = every()
    old, new = code("sinusoid", places), code("original_update", places)
    middle = torch.tensor([[2.0, 5.0]]).expand(len(places), 2)
    centre = code("sinusoid", torch.cat((middle, places[:, 2:]), dim=-1))
    wanted = cosine_similarity(old.double(), centre.double(), dim=-1) ** 7.5
    torch.testing.assert_close(cosine_similarity(new.double(), centre.double(), dim=-1), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(new.norm(dim=-1), old.norm(dim=-1))
    at_centre = (places[:, :2] == torch.tensor([2.0, 5.0])).all(-1)
    torch.testing.assert_close(new[at_centre], old[at_centre])


def test_sharpening_reaches_what_descent_from_the_old_code_reaches() -> None:
    """The released loss, minimised by the released minimiser, in double precision."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=8) + 2, rng.normal(size=8) + 2

    def cosine(x: np.ndarray) -> float:
        return float(x @ b / (np.linalg.norm(x) * np.linalg.norm(b)))

    wanted = minimize(lambda x: (cosine(x) ** 2 - cosine(a) ** 15) ** 2, a, options={"gtol": 1e-12}).x
    found = sharpened(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert cosine(found) == pytest.approx(cosine(wanted), abs=1e-3) == pytest.approx(cosine(a) ** 7.5, abs=1e-3)
    unit = [each / np.linalg.norm(each) for each in (found, wanted)]
    np.testing.assert_allclose(*unit, atol=1e-2)  # in the plane of both, to which its gradients are bound


def test_a_negative_cosine_becomes_zero_and_lengths_stay_defined() -> None:
    x, centre = torch.tensor([[1.0, 0.5], [0.0, 0.0]]), torch.tensor([[-1.0, 0.0]])
    found = sharpened(x, centre)
    assert found[0] @ centre[0] == pytest.approx(0, abs=1e-6) and found.isfinite().all()


def test_without_positions_all_codes_are_zero() -> None:
    assert not code("none", every()).any() and not code("none", every(), continuous=True).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_is_nowhere_has_no_row_and_column(kind: PositionKind) -> None:
    for continuous in (False, True):
        if kind != "original_update":
            found = code(kind, torch.tensor([[-1.0, -1.0, 1.0], [0.0, 0.0, 1.0]]), continuous=continuous)
            assert not found[0, : 2 * 86].any() and torch.equal(found[0, 2 * 86 :], found[1, 2 * 86 :])


@pytest.mark.parametrize("kind", KINDS)
def test_at_whole_numbers_both_ways_agree_and_between_them_one_is_cut(kind: PositionKind) -> None:
    places = every()
    torch.testing.assert_close(
        code(kind, places, continuous=True),
        code(kind, places),
        atol=2e-3 if kind == "original_update" else 1e-4,
        rtol=0,
    )
    half = torch.tensor([[1.5, 3.5, 0.0]])
    assert torch.equal(code(kind, half), code(kind, half.floor()))
    assert kind == "none" or not torch.allclose(code(kind, half, continuous=True), code(kind, half), atol=1e-2)


def test_cosines_between_whole_numbers_are_gaussian_too() -> None:
    places = torch.rand(20, 3) * torch.tensor([5.0, 13.0, 0.0])
    found = code("gaussian", places, continuous=True, rotation=None).double()
    wanted = (-(places[:, None] - places).double().square() / 8).exp().mean(-1)
    torch.testing.assert_close(cosine_similarity(found[:, None], found, dim=-1), wanted, atol=2e-3, rtol=0)


def test_a_table_of_one_s_own_is_taken_with_zeros_behind() -> None:
    made = PositionCode("gaussian", 5, 32)
    table = optimised_table(6, share(32), steps=5)
    made.set_table(table)
    assert torch.equal(made.table[:5], table[:5]) and not made.table[5:].any() and len(made.table) == 9


@pytest.mark.bad_input
@pytest.mark.parametrize("shape", [(4, 12), (5, 11), (5,)])
def test_a_table_shorter_than_rows_and_columns_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(5, 12\): a row for each row and column of the layout"):
        PositionCode("gaussian", 5, 32).set_table(torch.ones(shape))


def test_steps_have_the_standard_sinusoid() -> None:
    found = time_code(7, 10)
    for t in range(7):
        for k in range(0, 10, 2):
            angle = t * 10000 ** (-k / 10)
            assert found[t, k] == pytest.approx(np.sin(angle), abs=1e-5)
            assert found[t, k + 1] == pytest.approx(np.cos(angle), abs=1e-5)
    assert waves(torch.zeros(2), frequencies("sinusoid", 4, 0.9)).tolist() == [[0, 1, 0, 1]] * 2


def test_the_default_table_is_the_closed_form_turned_by_its_seed() -> None:
    assert torch.equal(PositionCode("gaussian", 14, 256).table[:14], distance_table(14, 86, rotation=0))
