"""Training: what a batch is, what the loss weighs, that the model stays as it is, resuming, and the recipe."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.core.catalogue import recipes
from saccade.papers.siamlayout import (
    Examples,
    LayoutAdapter,
    LayoutLoss,
    LayoutStage,
    LayoutTask,
    SiamLayoutRecipe,
    captioned,
    train_adapter,
)
from saccade.papers.siamlayout.training import sample_times
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
BOXES = [captioned(["a red circle"], [(0.0, 0.0, 0.5, 0.5)]), captioned(["a blue square"], [(0.5, 0.25, 1.0, 1.0)])]
SHORT = {"words": 3, "padded": 8, "slots": 2}


def examples(pipe: Any) -> Examples:
    pictures = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    return Examples.of(pipe, pictures, ["a red circle", "a blue square"], BOXES, text_tokens=8, **SHORT)


def stage(**options: Any) -> LayoutStage:
    return LayoutStage(fit=Fit(steps=2, precision="no", save_every=1, sheet_every=10**6), batch=3, **options)


def batch(task: LayoutTask, seed: int = 0) -> dict[str, Tensor]:
    return task.batch(np.random.default_rng(seed))


@pytest.mark.parametrize("make", [tiny_flux, tiny_sd3])
def test_the_loss_is_what_is_written(make: Any) -> None:
    pipe = make()
    known, adapter = examples(pipe), LayoutAdapter.of(pipe.transformer)
    loss = LayoutLoss(pipe.transformer, adapter, inside=3.0)
    task = LayoutTask(loss, known, stage())
    drawn = batch(task)
    x0, noise, t = drawn["latents"], drawn["noise"], drawn["t"].reshape(-1, *[1] * (drawn["latents"].ndim - 1))
    time = drawn["t"] * (1000 if make is tiny_sd3 else 1)
    names = ("encoder_hidden_states", "pooled_projections", "img_ids", "txt_ids")
    with torch.no_grad():
        found = loss(drawn)
        velocity = pipe.transformer(
            hidden_states=(1 - t) * x0 + t * noise, timestep=time, return_dict=False,
            **{name: drawn[name] for name in names if name in drawn},
        )[0]  # fmt: skip
    error = (velocity - (noise - x0)).square()
    torch.testing.assert_close(found["plain"], error.mean())
    torch.testing.assert_close(found["loss"], ((1 + 3 * drawn["inside"]) * error).mean())
    loss.undo()


def test_the_adapter_alone_is_trained_and_the_model_as_it_was(tmp_path: Path) -> None:
    pipe = tiny_flux()
    before = {name: value.clone() for name, value in pipe.transformer.state_dict().items()}
    marks = {*vars(pipe.transformer)}
    known = examples(pipe)
    made = train_adapter(pipe, known, stage(), tmp_path / "a", cpu=True)
    assert all(torch.equal(before[name], value) for name, value in pipe.transformer.state_dict().items())
    assert {*vars(pipe.transformer)} == marks
    assert made.single_blocks[0].out.weight.any()  # type: ignore[union-attr]
    again = train_adapter(pipe, known, stage(), tmp_path / "a", cpu=True)  # finished: taken from the folder
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="holds runs of other settings"):
        train_adapter(pipe, known, stage(inside=2.0), tmp_path / "a", cpu=True)


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, own, drawn = tiny_sd3(), LayoutTask.batch, []
    known, whole = examples(pipe), replace(stage(), fit=replace(stage().fit, steps=4))
    straight = train_adapter(pipe, known, whole, tmp_path / "a", cpu=True)

    def killed(task: LayoutTask, rng: np.random.Generator) -> dict[str, Tensor]:
        drawn.append(1)
        if len(drawn) > 2:
            raise InterruptedError
        return own(task, rng)

    monkeypatch.setattr(LayoutTask, "batch", killed)
    with pytest.raises(InterruptedError):
        train_adapter(pipe, known, whole, tmp_path / "b", cpu=True)
    monkeypatch.setattr(LayoutTask, "batch", own)
    gone_on = train_adapter(pipe, known, whole, tmp_path / "b", cpu=True)
    pairs = zip(straight.state_dict().items(), gone_on.state_dict().values(), strict=True)
    assert [name for (name, a), b in pairs if not torch.equal(a, b)] == []


def test_text_and_layout_are_dropped_each_by_itself() -> None:
    pipe = tiny_flux()
    known = examples(pipe)
    module = LayoutLoss(pipe.transformer, LayoutAdapter.of(pipe.transformer))
    both = batch(LayoutTask(module, known, stage(drop_text=1.0, drop_layout=1.0)))
    assert not both["mask"].any()
    empty = known.texts["encoder_hidden_states"][0]
    assert all(torch.equal(row, empty) for row in both["encoder_hidden_states"])
    neither = batch(LayoutTask(module, known, stage(drop_text=0.0, drop_layout=0.0)))
    assert neither["mask"].sum() == 3
    assert not any(torch.equal(row, empty) for row in neither["encoder_hidden_states"])
    module.undo()


def test_latents_within_boxes_are_known() -> None:
    flux, sd3 = examples(tiny_flux()), examples(tiny_sd3())
    assert flux.inside.shape == (2, 16, 1) and sd3.inside.shape[1] == 1
    square = flux.inside[0].reshape(4, 4)
    assert square[:2, :2].eq(1).all() and square.sum() == 4
    assert sd3.inside[1].mean() == pytest.approx(0.5 * 0.75, abs=0.01)
    with pytest.raises(ValueError, match="2 pictures, 1 captions and 2 layouts must be as many"):
        Examples.of(tiny_flux(), np.zeros((2, 32, 32, 3), dtype=np.float32), ["a"], BOXES)


def test_times_are_logit_normal_and_biased_to_noise() -> None:
    rng = np.random.default_rng
    plain = sample_times(replace(stage(noisy=0.0), batch=4000), rng(0))
    logits = plain.logit()
    assert abs(logits.mean()) < 0.06 and abs(logits.std() - 1) < 0.05
    late = sample_times(replace(stage(noisy=1.0, noisiest=0.4), batch=4000), rng(0))
    assert late.min() >= plain.quantile(0.6) - 0.02 and ((0 < late) & (late < 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"inside": -1.0}, "inside=-1.0 must be 0 or more"), ({"noisy": 2.0}, "noisy=2.0 must be in"),
     ({"drop_layout": -0.1}, "drop_layout=-0.1 must be in")],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayoutStage(**options)
    with pytest.raises(ValueError, match="batch=0 pictures and slots=10 must be at least 1"):
        LayoutStage(batch=0)
    with pytest.raises(ValueError, match="variant='x' is unknown"):
        SiamLayoutRecipe(variant="x")  # type: ignore[arg-type]


def test_the_recipe_stores_an_adapter_and_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saccade.papers.siamlayout import recipe

    assert recipes()["siamlayout"].module == "saccade.papers.siamlayout.recipe"
    monkeypatch.setattr(recipe, "load_pipeline", lambda *_, **__: tiny_flux())
    made = SiamLayoutRecipe(count=2, side=64, train=stage())
    file = made.run(tmp_path)
    assert LayoutAdapter.load(file).config.variant == "siamese"
    monkeypatch.setattr(recipe, "load_pipeline", lambda *_, **__: pytest.fail("was loaded again"))
    assert made.run(tmp_path) == file
    with pytest.raises(ValueError, match="holds a training of other settings|other settings"):
        replace(made, variant="m3").run(tmp_path)


@pytest.mark.parametrize(
    ("variant", "share"),
    [("siamese", 0.8), pytest.param("m3", 0.98, marks=pytest.mark.slow),
     pytest.param("adapter", 0.95, marks=pytest.mark.slow)],
)  # fmt: skip
def test_an_adapter_learns_what_a_layout_says_and_the_text_does_not(variant: Any, share: float, tmp_path: Path) -> None:
    pipe = tiny_flux()
    pictures = np.zeros((2, 32, 32, 3), dtype=np.float32)
    pictures[0, :16, :16], pictures[1, 8:, 16:] = 1, 1
    known = Examples.of(pipe, pictures, ["a square"] * 2, BOXES, text_tokens=8, **SHORT)
    known = replace(known, latents=known.latents / known.latents.std())
    optim = Optim(kind="adamw", lr=1e-2, weight_decay=0)
    length = Fit(steps=60, precision="no", decay=0.5, save_every=100, sheet_every=10**6, optim=optim)
    options = LayoutStage(fit=length, batch=4, drop_text=0.0, drop_layout=0.0)
    adapter = train_adapter(pipe, known, options, tmp_path, variant=variant, cpu=True)
    module = LayoutLoss(pipe.transformer, adapter)
    drawn = batch(LayoutTask(module, known, replace(options, batch=32)))
    other = {name: drawn[name].flip(0) for name in ("boxes", "mask", "region_text")}
    swapped = (drawn["boxes"] != other["boxes"]).any((1, 2))
    assert swapped.any()
    rows = {name: value[swapped] for name, value in drawn.items() if name not in ("img_ids", "txt_ids")}
    shared = {name: drawn[name] for name in ("img_ids", "txt_ids")}
    wrong = {name: value[swapped] for name, value in other.items()}
    with torch.no_grad():
        right, mistaken = (float(module({**rows, **more, **shared})["plain"]) for more in ({}, wrong))
    module.undo()
    assert right < share * mistaken
