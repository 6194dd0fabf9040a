"""Alignment: the loss, whose tokens it takes, and what it leaves alone."""

import pytest
import torch
from torch import Tensor

from saccade.models import DiT
from saccade.models.dit import DiTConfig
from saccade.papers import EMMDiT
from saccade.papers.e_mmdit.alignment import Aligned, misalignment, projector
from saccade.papers.e_mmdit.config import EMMDiTConfig

TINY = EMMDiTConfig(groups=(2, 1, 1), width=32, heads=2, side=16, channels=3, words_width=24)


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, 3, 16, 16), torch.tensor([0.2, 0.9]), torch.randn(2, 16, 24)


def test_the_projector_of_the_paper() -> None:
    with torch.device("meta"):
        assert sum(weight.numel() for weight in projector(768).parameters()) == 7_344_896


def test_the_loss_is_minus_the_mean_cosine() -> None:
    a, b = torch.randn(2, 2, 5, 7, dtype=torch.double)
    cosines = [float(x @ y / (x.norm() * y.norm())) for x, y in zip(a.view(-1, 7), b.view(-1, 7), strict=True)]
    torch.testing.assert_close(float(misalignment(a, b)), -sum(cosines) / 10)
    torch.testing.assert_close(misalignment(a, 3 * a), torch.tensor(-1.0, dtype=torch.double))


def test_the_tokens_are_those_after_the_named_block() -> None:
    torch.manual_seed(0)
    model, features = EMMDiT(TINY), (torch.randn(2, 256, 8), torch.randn(2, 256, 5))
    aligned, seen = Aligned(model, block="blocks.0.1", width=32, sizes=(8, 5), weight=0.25, hidden=16), []
    model.compressor.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    out, losses = aligned(*_batch(), features)
    wanted = sum(
        misalignment(project(seen[0]), each) for project, each in zip(aligned.projectors, features, strict=True)
    )
    torch.testing.assert_close(losses["alignment"], 0.25 * wanted)
    assert out.shape == (2, 3, 16, 16) and not model.blocks[0][1]._forward_hooks


def test_it_trains_the_model_up_to_that_block() -> None:
    model = EMMDiT(TINY)
    aligned = Aligned(model, block="blocks.0.1", width=32, sizes=(8,), hidden=16)
    aligned(*_batch(), [torch.randn(2, 256, 8)]).losses["alignment"].backward()
    assert all(
        weight.grad is not None for weight in [*aligned.projectors.parameters(), *model.blocks[0][0].parameters()]
    )
    assert all(weight.grad is None for weight in [*model.blocks[1][0].parameters(), *model.final.parameters()])


def test_other_architectures_align_too() -> None:
    model = DiT(DiTConfig(depth=2, width=16, heads=2, side=8, channels=3, classes=4))
    aligned = Aligned(model, block="blocks.0", width=16, sizes=(6,), hidden=8)
    _, losses = aligned(torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 4]), [torch.randn(2, 16, 6)])
    assert losses["alignment"].ndim == 0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="block='blocks.4' names no submodule of EMMDiT; give one as 'blocks.0'"):
        Aligned(EMMDiT(TINY), block="blocks.4", width=32)
    aligned = Aligned(EMMDiT(TINY), block="blocks.1.0", width=32, sizes=(8,), hidden=16)
    with pytest.raises(ValueError, match=r"features of shapes \[\(2, 256, 8\)\] must be 1, each \(2, 80, size\)"):
        aligned(*_batch(), [torch.randn(2, 256, 8)])
