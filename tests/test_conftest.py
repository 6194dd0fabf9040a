"""The safety net itself: poisoned memory is on where it should be."""

from pathlib import Path

import jaxtyping
import pytest
import torch

from saccade.core.partial import identity


def test_unwritten_memory_reads_as_nan() -> None:
    like = torch.ones(3, dtype=torch.bfloat16)
    for unwritten in (torch.empty(3), torch.empty_like(like), like.new_empty(3), torch.empty_strided((3,), (1,))):
        assert unwritten.isnan().all()


@pytest.mark.timing
def test_timed_tests_run_without_the_fill() -> None:
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64)], ids=["shape", "dtype"])
def test_a_wrong_tensor_is_caught_where_shapes_are_named(request: pytest.FixtureRequest, wrong: torch.Tensor) -> None:
    if not request.config.getoption("--jaxtyping-packages"):
        pytest.skip("run-time shape checks are off; make test turns them on")
    with pytest.raises(jaxtyping.TypeCheckError, match="like"):
        identity(wrong)


def test_data_root_is_a_folder(data_root: Path) -> None:
    assert data_root.is_dir()


@pytest.mark.bad_input
def test_bad_input_passes_the_runtime_checks() -> None:
    assert jaxtyping.config.jaxtyping_disable


def test_other_input_does_not_pass_the_runtime_checks() -> None:
    assert not jaxtyping.config.jaxtyping_disable
