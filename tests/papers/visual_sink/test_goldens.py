"""Agreement with the released code's sinks, choice of heads and redistribution, of a prompt and of one new token."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.papers.visual_sink import find_sinks, image_centric, masses_of, redistributed, sink_values

FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "visual-sink"
CLOSE = {"atol": 1e-6, "rtol": 0}
DIMS, IMAGE = (300, 77), slice(6, 22)


def marked(n: int, places: Tensor | slice) -> Tensor:
    marks = torch.zeros(1, n, dtype=torch.bool)
    marks[0, places] = True
    return marks


@pytest.fixture
def prefill() -> dict[str, Tensor]:
    return load_file(FOLDER / "case_prefill.safetensors")


def test_sinks_are_those_of_the_released_code(prefill: dict[str, Tensor]) -> None:
    hidden = prefill["L2_hidden"][None]
    torch.testing.assert_close(sink_values(hidden, DIMS)[0], prefill["L2_phi"], atol=1e-6, rtol=1e-6)
    assert find_sinks(hidden, DIMS)[0].nonzero().flatten().tolist() == prefill["L2_sinks"].tolist()


@pytest.mark.parametrize("compat", [None, "official"])
def test_heads_and_queries_are_those_chosen_by_the_released_code(prefill: dict[str, Tensor], compat: str) -> None:
    alpha, image, sinks = prefill["L2_attn"][None], marked(40, IMAGE), marked(40, prefill["L2_sinks"])
    chosen = image_centric(masses_of(alpha, image, sinks), image, sinks, rho=0.5, compat=compat)
    assert chosen[0].nonzero().tolist() == prefill["L2_selected_head_query"].tolist()


@pytest.mark.parametrize("compat", [None, "official"])
def test_a_prompt_is_redistributed_as_by_the_released_code(prefill: dict[str, Tensor], compat: str) -> None:
    alpha, sinks = prefill["L2_attn"][None], marked(40, prefill["L2_sinks"])
    made = redistributed(
        alpha, marked(40, IMAGE), sinks, rho=0.5, take=0.4, queries=marked(40, slice(22, 40)), compat=compat
    )
    torch.testing.assert_close(made[0], prefill["L2_attn_after"], **CLOSE)
    assert not torch.equal(made, alpha)


def test_a_new_token_is_redistributed_as_by_the_released_code() -> None:
    given = load_file(FOLDER / "case_decode.safetensors")
    alpha, image, sinks = given["step0_attn"][None], marked(41, IMAGE), marked(41, given["sinks"])
    chosen = image_centric(masses_of(alpha, image, sinks), image, sinks, rho=0.5)
    assert chosen[0, :, 0].nonzero().flatten().tolist() == given["step0_selected_heads"].tolist()
    made = redistributed(alpha, image, sinks, rho=0.5, take=0.4)
    torch.testing.assert_close(made[0], given["step0_attn_after"], **CLOSE)
