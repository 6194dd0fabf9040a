"""Maps of words: stretched, the largest of a set, spread by the affinity."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.mechanisms.attention_maps import RecordedMaps
from saccade.papers.attencraft import extract_maps
from saccade.papers.attencraft.maps import affinity, columns, minmax, propagate, resized
from tests.papers.attencraft import plain


def random_maps(side: int = 6, words: int = 4, small: int = 3, dtype: torch.dtype = torch.float64) -> RecordedMaps:
    torch.manual_seed(0)
    image = torch.randn(1, side**2, side**2, dtype=dtype).softmax(-1)
    heat = torch.rand(1, words, small, small, dtype=dtype)
    return RecordedMaps(words=heat, tokens=tuple(range(2, 2 + words)), image=image, size=(side, side))


def test_stretched_maps_lie_in_0_to_1_and_constants_become_zeros() -> None:
    x = torch.stack([torch.randn(4, 5), torch.full((4, 5), 3.0)])
    found = minmax(x)
    assert (found[0].min(), found[0].max()) == (0, 1)
    assert torch.equal(found[1], torch.zeros(4, 5))
    assert minmax(torch.randn(4, 5).half()).dtype == torch.float32


def test_a_constant_has_a_gradient_that_is_a_number() -> None:
    x = torch.ones(3, 3, requires_grad=True)
    minmax(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_an_affine_change_of_a_column_changes_nothing(scale: float, shift: float) -> None:
    x = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(minmax(scale * x + shift), minmax(x), atol=1e-12, rtol=0)


def test_maps_are_those_of_the_plain_reference() -> None:
    maps = random_maps()
    assert maps.image is not None
    found = extract_maps(maps, ((2,), (3, 4), (5,)))
    raw = maps.words[:, [0, 1, 3]].clone()
    raw[:, 1] = maps.words[:, 1].maximum(maps.words[:, 2])
    for k in range(3):
        grown = resized(raw, (6, 6))[0, k]
        expected = plain.propagated(maps.image[0], plain.stretched(grown**2), 4)
        torch.testing.assert_close(found[0, k], expected, atol=1e-12, rtol=0)


def test_powers_and_squares_can_be_left_out() -> None:
    maps = random_maps()
    grown = resized(columns(maps, ((2,), (5,))), (6, 6))
    assert torch.equal(extract_maps(maps, ((2,), (5,)), power=0, square=False), minmax(grown))
    assert torch.equal(extract_maps(maps, ((2,), (5,)), power=0), minmax(grown.square()))


def test_permuting_classes_permutes_maps() -> None:
    maps = random_maps()
    one, two = extract_maps(maps, ((2,), (3,), (5,))), extract_maps(maps, ((5,), (2,), (3,)))
    assert torch.equal(one[:, [2, 0, 1]], two)


def test_an_affinity_that_is_alike_everywhere_is_zero() -> None:
    assert torch.equal(affinity(torch.full((1, 9, 9), 1 / 9)), torch.zeros(1, 9, 9))


def test_two_objects_that_do_not_see_each_other_have_a_value_each_of_their_own() -> None:
    side, half = 4, 8
    image = torch.zeros(1, 16, 16, dtype=torch.float64)
    image[:, :half, :half], image[:, half:, half:] = 1 / half, 1 / half
    heat = torch.rand(1, 1, side, side, dtype=torch.float64)
    raw = (heat.flatten(2) @ affinity(image).mT)[0, 0]
    assert raw[:half].std() < 1e-12 and raw[half:].std() < 1e-12
    other = heat.clone()
    other.flatten(2)[..., half:] *= 0.5
    changed = (other.flatten(2) @ affinity(image).mT)[0, 0]
    assert torch.equal(changed[:half], raw[:half]) and not torch.equal(changed[half:], raw[half:])
    f = propagate(affinity(image), heat).flatten()
    assert f[:half].std() < 1e-12 and f[half:].std() < 1e-12 and f[0] != f[-1]


def test_half_precision_is_worked_out_in_single() -> None:
    found = extract_maps(random_maps(dtype=torch.bfloat16), ((2,), (5,)))
    assert found.dtype == torch.float32 and found.isfinite().all()


@pytest.mark.bad_input
def test_what_cannot_be_is_an_error() -> None:
    maps = random_maps()
    with pytest.raises(ValueError, match=r"classes name token 9 of the text, and recorded are \(2, 3, 4, 5\); record"):
        extract_maps(maps, ((2,), (9,)))
    with pytest.raises(ValueError, match="hold one without a token; give each at least one position"):
        extract_maps(maps, ((2,), ()))
    with pytest.raises(ValueError, match="power=-1 must be 0 or a whole number above it"):
        extract_maps(maps, ((2,), (3,)), power=-1)
    with pytest.raises(ValueError, match="maps hold none among visual tokens; record them"):
        extract_maps(RecordedMaps(words=maps.words, tokens=maps.tokens), ((2,), (3,)))
