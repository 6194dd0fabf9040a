"""A DC-DiT made from a DiT: whose weights, what is frozen, and what distillation compares."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.models import DiT
from saccade.models.dit import DiTConfig
from saccade.nn.part import MixerOutput
from saccade.nn.positions import grid_table
from saccade.papers import DCDiT
from saccade.papers.dc_dit.keep_routers import Predictability
from saccade.papers.dc_dit.model import DCDiTConfig
from saccade.papers.dc_dit.upcycling import distillation_loss, main_network, upcycled

TEACHER = DiTConfig(depth=2, width=64, heads=2, side=8, channels=3, classes=5)
SMALL: dict[str, Any] = {"narrow": 32, "ratio_group": None}


def _teacher(**changes: Any) -> DiT:
    torch.manual_seed(0)
    teacher = DiT(TEACHER, **changes)
    for weight in teacher.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return teacher


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 4])


@pytest.mark.parametrize("modulation", ["zero", "single"])
def test_blocks_and_embeddings_are_the_teachers(modulation: str) -> None:
    teacher = _teacher(modulation=modulation)
    student = upcycled(teacher, **SMALL)
    theirs = teacher.state_dict()
    taken = {name: value for name, value in student.state_dict().items() if name.startswith(("time.", "label."))}
    taken |= {f"blocks.{name}": value for name, value in main_network(student).blocks.state_dict().items()}
    taken |= {f"shared.{name}": value for name, value in main_network(student).shared.state_dict().items()}
    assert all(torch.equal(value, theirs[name]) for name, value in taken.items())
    assert {name.split(".")[0] for name in taken} >= {"time", "label", "blocks"}
    assert not student(*_batch()).out.any()


def test_embeddings_are_frozen_and_conditions_are_normed() -> None:
    student = upcycled(_teacher(), **SMALL)
    frozen = {name for name, weight in student.named_parameters() if not weight.requires_grad}
    assert {name.split(".")[0] for name in frozen} == {"time", "label"}
    for coder in (student.stage.encoder, student.stage.decoder):
        assert isinstance(coder.condition_norm, torch.nn.LayerNorm) and coder.condition_norm.weight.requires_grad


def test_the_middles_of_patches_have_the_teachers_positions() -> None:
    table = main_network(upcycled(_teacher(), **SMALL)).positions[0]
    assert torch.equal(table, grid_table((8, 8), 64, scale=0.5, start=(-0.25, -0.25)))
    finer = main_network(upcycled(_teacher(side=9, patch=3), **SMALL)).positions[0].view(9, 9, 64)
    torch.testing.assert_close(finer[1::3, 1::3].flatten(0, 1), grid_table((3, 3), 64))


def test_a_students_tokens_at_every_pixel_are_averaged_by_patch() -> None:
    teacher, (x, t, labels) = _teacher(), _batch()
    student = upcycled(teacher, **SMALL)
    _keep_all(student)
    outputs: dict[str, list[Tensor]] = {"ours": [], "theirs": []}
    for name, blocks in (("ours", main_network(student).blocks), ("theirs", teacher.blocks)):
        for block in blocks:
            block.register_forward_hook(
                partial(lambda found, module, given, part: found.append(part.out), outputs[name])
            )
    loss = distillation_loss(student, teacher, x, t, labels)
    wanted = []
    for ours, theirs in zip(outputs["ours"], outputs["theirs"], strict=True):
        patches = ours.view(2, 4, 2, 4, 2, 64).mean((2, 4)).flatten(1, 2)
        wanted.append((patches - theirs).square().mean())
    torch.testing.assert_close(loss, torch.stack(wanted).mean())


def _keep(found: list[Tensor], module: object, given: object, part: MixerOutput) -> None:
    found.append(part.out)


def _keep_all(student: DCDiT) -> None:
    """A router that is sure of every token."""
    for score in (module for module in student.modules() if isinstance(module, Predictability)):
        torch.nn.init.constant_(score.scorer[-1].bias, 5)  # type: ignore[arg-type]


def test_distillation_teaches_the_student_alone() -> None:
    teacher, student = _teacher(), upcycled(_teacher(), **SMALL)
    before = distillation_loss(student, teacher, *_batch())
    before.backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is not None and weight.grad.any() for weight in student.stage.encoder.parameters())
    assert all(weight.grad is None for weight in student.stage.router.parameters())
    assert all(not module._forward_hooks for module in (*student.modules(), *teacher.modules()))


def test_distillation_falls() -> None:
    torch.manual_seed(0)
    teacher, batch = _teacher(), _batch()
    student = upcycled(teacher, **SMALL)
    trained = torch.optim.Adam([w for w in student.parameters() if w.requires_grad], 1e-3)
    losses = []
    for _ in range(20):
        losses.append(distillation_loss(student, teacher, *batch))
        trained.zero_grad()
        losses[-1].backward()
        trained.step()
    assert losses[-1] < 0.8 * losses[0]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="positions='none' of the teacher cannot be read between patches"):
        upcycled(_teacher(positions="none"), **SMALL)
    other = DCDiT(DCDiTConfig(layout=("c1", ("D1",), "c1"), width=64, heads=2, side=8, channels=3, classes=5, **SMALL))
    with pytest.raises(ValueError, match="the student has 1 blocks, the teacher 2; make it from the teacher"):
        distillation_loss(other, _teacher(), *_batch())
    nested = DCDiT(other.config, layout=("c1", ("c1", ("D1",), "c1"), "c1"))
    with pytest.raises(ValueError, match="has stages inside others; a DiT has none"):
        distillation_loss(nested, _teacher(), *_batch())
