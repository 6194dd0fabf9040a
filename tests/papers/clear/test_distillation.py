"""The distillation: its three losses against plain ones, what is trained, and a training that goes on after a kill."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from saccade.attach import attach
from saccade.core.errors import StateError
from saccade.core.site import Site
from saccade.papers.clear import Clear
from saccade.papers.clear.adapters import FILE
from saccade.papers.clear.distillation import DistillationTask, attention_outputs, host_inputs, single_stream
from saccade.papers.clear.own_pictures import OwnPictures, PictureDraws
from saccade.papers.clear.recipe import Distillation, DistillationRecipe, DistillationStage
from saccade.train.flow import FlowStage
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from tests.hosts.tiny import flux_inputs
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
STAGE = DistillationStage(
    fit=Fit(steps=6, precision="no", decay=0.5, save_every=2, log_every=1, optim=Optim(kind="adamw", lr=5e-3)),
    rank=4,
    every=1,
)


def distillation(radius: float = 1.5, pool: int | None = None) -> Distillation:
    torch.manual_seed(0)
    made = Distillation(tiny_flux(), Clear(radius=radius, pool=pool), STAGE)
    for up in made.module.adapter.up.values():
        torch.nn.init.normal_(up, std=0.1)
    return made


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    given = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=given)
    ids = flux_inputs(height=4, width=4)["img_ids"]
    return {
        "latents": draw(2, 16, 16), "noise": draw(2, 16, 16), "t": torch.tensor([0.2, 0.7]), "words": draw(2, 5, 32),
        "pooled": draw(2, 32), "img_ids": ids, "txt_ids": torch.zeros(5, 3),
    }  # fmt: skip


def test_the_losses_are_those_of_two_models() -> None:
    made, data = distillation(), batch()
    transformer, terms = made.transformer, made.module.adapter
    with attach(transformer, made.student):
        found = made.module(data)
    single = transformer.single_transformer_blocks[0].attn
    inputs = host_inputs(transformer, data)
    with torch.no_grad(), attention_outputs([single]) as outs:
        teacher = transformer(**inputs)[0]
        for site, path in terms.names:
            transformer.get_submodule(f"{site}.{path}").weight += (
                terms.at((site, path)).up @ terms.at((site, path)).down
            )
        with attach(transformer, Clear(radius=1.5)):
            student = transformer(**inputs)[0]
    assert outs[0].shape == (2, 21, 64)  # text included, heads concatenated, before proj_out
    expected = {
        "flow": (student - (data["noise"] - data["latents"])).square().mean(),
        "prediction": (student - teacher).square().mean(),
        "attention": (outs[1] - outs[0]).square().mean(),
    }
    expected["loss"] = expected["flow"] + 0.5 * expected["prediction"] + 0.5 * expected["attention"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-4)


def test_fresh_terms_under_a_covering_disc_are_the_teacher() -> None:
    torch.manual_seed(0)
    made = Distillation(tiny_flux(), Clear(radius=99), STAGE)
    with attach(made.transformer, made.student):
        found = made.module(batch())
    assert found["prediction"] == found["attention"] == 0 < found["flow"]


def test_only_the_terms_and_the_pooling_weights_are_trained_and_all_of_them() -> None:
    made = distillation(pool=2)
    before = {name: value.clone() for name, value in made.transformer.state_dict().items()}
    with attach(made.transformer, made.student):
        made.module(batch())["loss"].backward()
    names = {name for name, _ in made.module.named_parameters()}
    assert {name.split(".")[0] for name in names} == {"adapter", "pooling"}
    assert len(names) == 2 * (4 + 3) + 2  # four projections of the double block, three of the single one
    assert all(p.grad is not None and bool(p.grad.any()) for p in made.module.parameters())
    assert all(p.grad is None for p in made.transformer.parameters())
    assert all(torch.equal(before[name], value) for name, value in made.transformer.state_dict().items())


def gradients(made: Distillation) -> list[torch.Tensor]:
    with attach(made.transformer, made.student):
        made.module(batch())["loss"].backward()
    return [p.grad.clone() for p in made.module.parameters()]


def test_gradient_checkpointing_changes_no_gradient_and_hooks_hear_each_layer_once() -> None:
    plain, made = gradients(distillation()), distillation()
    made.transformer.train().enable_gradient_checkpointing()
    for one, two in zip(gradients(made), plain, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)
    assert not any(module._forward_hooks for module in made.transformer.modules())


def test_a_teacher_forward_before_backward_leaves_the_student_its_terms() -> None:
    plain, made = gradients(distillation()), distillation()
    made.transformer.train().enable_gradient_checkpointing()
    with attach(made.transformer, made.student):
        loss = made.module(batch())["loss"]
        made.student.on = False
        with torch.no_grad():
            made.transformer(**host_inputs(made.transformer, batch()))
        loss.backward()
    for one, two in zip(made.module.parameters(), plain, strict=True):
        torch.testing.assert_close(one.grad, two, atol=1e-6, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.bad_input
def test_reentrant_checkpointing_is_refused() -> None:
    made = distillation()
    made.transformer.train().enable_gradient_checkpointing(partial(checkpoint, use_reentrant=True))
    with (
        attach(made.transformer, made.student),
        pytest.raises(StateError, match=r"checkpoint with use_reentrant=False"),
    ):
        made.module(batch())


def test_every_fourth_of_fluxs_sites_is_compared_if_single_stream() -> None:
    names = [f"transformer_blocks.{i}.attn" for i in range(19)]
    names += [f"single_transformer_blocks.{i}.attn" for i in range(38)]
    sites = [Site(name=name, index=i, count=57) for i, name in enumerate(names)]
    assert [site.index for site in single_stream(sites, 4)] == list(range(20, 57, 4))
    with pytest.raises(ValueError, match=r"every=4 chooses none of 0 single-stream layers among 19; give every=1"):
        single_stream(sites[:19], 4)


def test_times_are_uniform() -> None:
    made = distillation()
    task = DistillationTask(made.module, lambda rng: {"latents": torch.zeros(2000, 1, 1)}, {})
    t = task.batch(np.random.default_rng(0))["t"]
    assert t.dtype == torch.float32 and 0 <= t.min() and t.max() < 1
    assert abs(t.mean() - 0.5) < 0.02 and abs(t.std() - 12**-0.5) < 0.02


def test_training_comes_nearer_to_the_teacher(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made, data = Distillation(tiny_flux(), Clear(radius=1), STAGE), batch()
    with attach(made.transformer, made.student):
        before = made.module(data)
        task = DistillationTask(made.module, lambda rng: dict(data), {})
        fit(task, replace(STAGE.fit, steps=12, save_every=99, optim=Optim(kind="adamw", lr=2e-2)), tmp_path, cpu=True)
        after = made.module(data)
    assert after["attention"] < 0.7 * before["attention"]
    assert after["loss"] < before["loss"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline on disk."""
    tiny_flux().save_pretrained(tmp_path / "tiny")
    return tmp_path


@pytest.mark.slow
def test_the_recipe_trains_stores_and_goes_on(folder: Path) -> None:
    recipe = DistillationRecipe(
        model=str(folder / "tiny"),
        radius=1.5,
        scenes=FlowStage(sides=(32,), shares=(1.0,), batches=(2,), pools=(4,)),
        train=STAGE,
    )
    short = replace(recipe, train=replace(STAGE, fit=replace(STAGE.fit, steps=4)))
    assert recipe.run(folder / "whole") == folder / "whole" / FILE
    short.run(folder / "parts", ("train",))
    stored = recipe.run(folder / "parts")
    assert stored.stat().st_size < 200_000
    pipe: Any = tiny_flux()
    with attach(pipe, Clear(radius=1.5, distilled=stored)) as run:
        images = pipe("a red circle", num_inference_steps=2, height=32, width=32, output_type="np").images
    assert np.isfinite(images).all() and run.counts.forwards == 2
    with pytest.raises(ValueError, match=r"holds runs of other settings \(radius: 1.5 there, 2.5 here\)"):
        replace(recipe, radius=2.5).run(folder / "whole")


def test_a_pipelines_own_pictures_are_made_once(folder: Path) -> None:
    (folder / "prompts.txt").write_text("a red circle\n\na blue square\n")
    wanted = OwnPictures(prompts=str(folder / "prompts.txt"), side=32, steps=2, text_tokens=8, batch=3)
    pipe = tiny_flux()
    draws = PictureDraws(pipe, wanted, folder / "pictures", seed=0)
    stamps = [file.stat().st_mtime_ns for file in draws.files]
    assert len(stamps) == 2
    found = PictureDraws(pipe, wanted, folder / "pictures", seed=0)(np.random.default_rng(0))
    assert [file.stat().st_mtime_ns for file in draws.files] == stamps
    assert found["latents"].shape == found["noise"].shape == (3, 16, 16)
    assert found["words"].shape == (3, 8, 32) and found["img_ids"].shape == (16, 3)
    made = Distillation(pipe, Clear(radius=1.5), STAGE)
    with attach(pipe.transformer, made.student):
        assert made.module(found | {"t": torch.full((3,), 0.5)})["loss"].isfinite()


@pytest.mark.bad_input
def test_prompts_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"empty.txt' holds no line of text; write a prompt a line"):
        OwnPictures(prompts=str(tmp_path / "empty.txt")).texts()
    with pytest.raises(ValueError, match=r"side=0 must be at least 1"):
        OwnPictures(side=0)
