"""The scale that follows the logarithm of the number of keys."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.core.call import plain_call
from saccade.core.layout import Segment
from saccade.core.state import Memory
from saccade.papers.clear.log_scale import LogScale


@given(st.integers(2, 9999), st.integers(1, 9999), st.floats(0.5, 20))
def test_the_scale_is_the_root_of_a_logarithm_over_the_channels(trained: int, m: int, stretch: float) -> None:
    expected = math.sqrt(max(math.log(stretch * m, trained), 0) / 16)
    assert LogScale(trained=trained, stretch=stretch).factor(m) * 16**-0.5 == pytest.approx(expected, abs=1e-12)


def test_one_at_the_training_length_and_growing() -> None:
    scale = LogScale(trained=100)
    assert scale.factor(100) == 1
    assert [scale.factor(m) for m in (50, 100, 200)] == sorted(scale.factor(m) for m in (50, 100, 200))


def test_it_multiplies_the_calls_own_scale_and_counts_keys_before_any_are_appended() -> None:
    x = torch.randn(1, 1, 8, 4)
    call = plain_call(x, x, x, scale=0.3)
    assert LogScale(trained=4).operands(call, Memory()).scale == pytest.approx(0.3 * math.sqrt(1.5))
    tensor = LogScale(trained=4).operands(call.replace(scale=torch.tensor(0.3)), Memory()).scale
    assert tensor == pytest.approx(0.3 * math.sqrt(1.5))
    assert call.append(Segment("more", "extra", 8), x, x).layout_k.n == 16  # what a later verb would count


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogScale(trained=1), "trained=1 must be at least 2"),
        (lambda: LogScale(trained=9, stretch=0), "stretch=0 must be positive"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()
