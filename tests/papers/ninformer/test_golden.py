"""The NiN block against outputs and gradients of the official code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saccade.models.checkpoint_names import LoadError
from saccade.nn.part import TokenPositions
from saccade.papers import NiNBlock, NiNStack

CASE = Path(__file__).resolve().parents[2] / "goldens" / "ninformer" / "case_block.safetensors"


@pytest.fixture(scope="module")
def case() -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in load_file(CASE).items()}


@pytest.fixture(scope="module")
def weights(case: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("w/"): value for name, value in case.items() if name.startswith("w/")}


def near(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-5 * wanted.abs().max())


def official(weights: dict[str, torch.Tensor]) -> NiNBlock:
    block = NiNBlock(24, tokens=15, hidden=40, dropout=0.0)
    assert block.load_official(weights).complete
    return block


def test_output_and_gradient(case: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> None:
    block, x = official(weights), case["in/x"].clone().requires_grad_()
    out = block(x)
    (gradient,) = torch.autograd.grad(out, x, case["in/gy"])
    assert near(out, case["out/y"]) and near(gradient, case["grad/x"])


def test_what_is_multiplied(case: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> None:
    block = official(weights)
    normed = block.norm(case["in/x"])
    assert near(block.unit.projection(normed), case["mid/proj"])
    assert near(block.unit.gate(normed, TokenPositions()), case["mid/mixer"])
    assert near(block.unit(normed, TokenPositions()).out, case["mid/mgu"])


def test_names_go_both_ways(weights: dict[str, torch.Tensor]) -> None:
    assert len(weights) == 20
    back = official(weights).official_state()
    assert back.keys() == weights.keys() and all(torch.equal(back[name], weights[name]) for name in weights)


def test_a_stack_of_two_has_numbered_names(case: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> None:
    stack = NiNStack(24, depth=2, tokens=15, hidden=40)
    assert stack.load_official({f"model.{i}.{name}": value for i in (0, 1) for name, value in weights.items()}).complete
    assert near(stack.blocks[0](case["in/x"]), case["out/y"])
    torch.testing.assert_close(stack(case["in/x"]), official(weights)(official(weights)(case["in/x"])))


def test_unknown_names_are_refused(weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(LoadError, match=r"1 missing: .*in the file mgu.proj.bias.*; 1 unexpected: mgu.project.bias"):
        official({name.replace("proj.bias", "project.bias"): value for name, value in weights.items()})
    with pytest.raises(ValueError, match=r"2 of 22 weights of this NiNBlock have no official name: second_norm"):
        NiNBlock(4, tokens=3, shared_norm=False).official_state()
