"""Training on scenes: what is noised, what the loss sees, stories and their windows, and the recipe."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.data.scenes import BACKGROUNDS
from saccade.papers.mask2dit import SceneLoss
from saccade.papers.mask2dit.recipe import Mask2DiTRecipe, SmallScenes
from saccade.papers.mask2dit.stories import caption, embed_words, window
from saccade.papers.mask2dit.training import NORMAL, SceneStage, SceneTask
from saccade.train.loop import Fit

pytestmark = pytest.mark.host
TINY = SmallScenes(layers=1, heads=2, scenes=2)


def loss_of(model: SmallScenes = TINY) -> tuple[SceneLoss, Any]:
    torch.manual_seed(0)
    pipe = model.pipeline()
    return model.loss(pipe), pipe


def batch(clip: int, stage: SceneStage | None = None, model: SmallScenes = TINY, seed: int = 0) -> dict[str, Tensor]:
    pool = model.stories(6, shots=3, seed=0)
    task = SceneTask(loss_of(model)[0], pool, stage or SceneStage(batch=4), text_tokens=model.text_tokens)
    return task.batch(np.random.default_rng(seed)) | {"clip": torch.tensor(clip)}


class Recorded(torch.nn.Module):
    """Notes what it is given and answers with a leaf."""

    def __init__(self, host: Any) -> None:
        super().__init__()
        self.host, self.given, self.answer = host, {}, torch.zeros(0)

    def __call__(self, **given: Any) -> tuple[Tensor]:
        self.given = given
        self.answer = self.host(**given)[0].detach().requires_grad_()
        return (self.answer,)


@pytest.mark.parametrize("clip", [NORMAL, 0, 1])
def test_the_loss_is_of_the_noised_clips_alone_and_as_written(clip: int) -> None:
    loss, pipe = loss_of()
    given, recorded = batch(clip), Recorded(pipe.transformer)
    loss.transformer = recorded
    found = loss(given)["loss"]
    (grad,) = torch.autograd.grad(found, recorded.answer)
    level = pipe.scheduler.alphas_cumprod.float()[given["timestep"]][:, None, None, None, None]
    noised = level.sqrt() * given["latents"] + (1 - level).sqrt() * given["noise"]
    wanted = level.sqrt() * given["noise"] - (1 - level).sqrt() * given["latents"]
    for scene in range(2):
        own = slice(scene * TINY.frames, (scene + 1) * TINY.frames)
        is_noised = clip in (NORMAL, scene)
        source = noised if is_noised else given["latents"]
        torch.testing.assert_close(recorded.given["hidden_states"][:, own], source[:, own])
        assert bool(grad[:, own].any()) is is_noised
    seen = slice(None) if clip == NORMAL else slice(clip * TINY.frames, (clip + 1) * TINY.frames)
    torch.testing.assert_close(found, (recorded.answer - wanted)[:, seen].square().mean())


def test_gradients_reach_the_model_under_the_mask_in_both_modes() -> None:
    loss, pipe = loss_of()
    with attach(pipe.transformer, TINY.system()):
        for clip in (NORMAL, 1):
            loss.zero_grad()
            loss(batch(clip))["loss"].backward()
            grad = pipe.transformer.transformer_blocks[0].norm1.linear.weight.grad
            assert grad is not None and grad.isfinite().all() and grad.any()
    assert all("known" not in name for name in loss.state_dict())  # no parameters are added
    assert len(loss.state_dict()) == len(pipe.transformer.state_dict())


def test_stories_keep_their_thing_and_change_their_background() -> None:
    pool = TINY.stories(5, shots=3, seed=1)
    assert pool.pixels.shape == (5, 3, 2, 3, 16, 16) and pool.pixels.abs().max() <= 1
    for shots in pool.shots:
        assert len({(s.scene.things[0].colour, s.scene.things[0].shape) for s in shots}) == 1
        grounds = [shot.scene.background for shot in shots]
        assert all(a != b for a, b in zip(grounds, grounds[1:], strict=False))
        assert all(f"on a {ground} background" in caption(shot) for ground, shot in zip(grounds, shots, strict=True))
        colour = shots[0].scene.things[0].colour
        assert all(colour not in caption(shot) for shot in shots)
    again = TINY.stories(5, shots=3, seed=1)
    assert torch.equal(again.pixels, pool.pixels)


def test_windows_are_consecutive_shots_and_unrelated_clips_are_of_different_stories() -> None:
    pool, rng = TINY.stories(4, shots=3, seed=0), np.random.default_rng(0)
    starts = set()
    for _ in range(40):
        clips, captions = pool.one(rng, 2)
        story, start = next(
            (s, i) for s in range(4) for i in range(2) if torch.equal(pool.pixels[s, i : i + 2], clips)
        )  # fmt: skip
        starts.add(start)
        assert captions == [caption(shot) for shot in pool.shots[story][start : start + 2]]
        apart, _ = pool.unrelated(rng, 2)
        owners = [next(s for s in range(4) if any(torch.equal(clip, c) for c in pool.pixels[s])) for clip in apart]
        assert len(set(owners)) == 2
    assert starts == {0, 1}


def test_close_ups_show_a_still_thing_in_the_middle() -> None:
    pool = SmallScenes(close=True).stories(3, shots=2, seed=0)
    assert pool.pixels.shape[-2:] == (16, 16) and torch.equal(pool.pixels[:, :, 0], pool.pixels[:, :, 1])
    assert all(caption(s).startswith("staying still on a ") for shots in pool.shots for s in shots)


def test_batches_mix_the_modes_and_drop_captions_as_asked() -> None:
    given = [batch(0, SceneStage(batch=2), seed=i) for i in range(3)]
    pool, loss = TINY.stories(6, shots=3, seed=0), loss_of()[0]
    stage = SceneStage(batch=2, conditional=0.5, drop=1.0)
    drawn = [SceneTask(loss, pool, stage, text_tokens=8).batch(np.random.default_rng(i)) for i in range(60)]
    share = np.mean([int(each["clip"]) == 1 for each in drawn])
    assert 0.3 < share < 0.7 and {int(each["clip"]) for each in drawn} == {1, NORMAL}
    empty = embed_words([""], 8).repeat(2, 2, 1)
    assert all(torch.equal(each["words"], empty) for each in drawn)
    assert not torch.equal(given[0]["words"], empty) and given[0]["latents"].shape == (2, 4, 3, 16, 16)
    assert len(BACKGROUNDS) > 1


def test_the_recipe_trains_both_stages_stores_the_transformer_and_goes_on(tmp_path: Path) -> None:
    short = Fit(steps=2, precision="no")
    stages = {name: SceneStage(fit=short, batch=2, related=name == "stories") for name in ("pretrain", "stories")}
    recipe = Mask2DiTRecipe(count=4, model=TINY, **stages)
    folder = recipe.run(tmp_path)
    assert folder == tmp_path / "transformer" and (folder / "config.json").exists()
    before = (tmp_path / "stories" / "average.safetensors").stat().st_mtime_ns
    assert recipe.run(tmp_path) == folder
    assert (tmp_path / "stories" / "average.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds runs of other settings"):
        Mask2DiTRecipe(count=5, model=TINY, **stages).run(tmp_path)
    started = Mask2DiTRecipe(count=4, model=TINY, start=str(folder), **stages)
    weights = started.run(tmp_path / "again", stages=("export",))
    first, second = (TINY.pipeline().transformer.from_pretrained(f).state_dict() for f in (folder, weights))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.bad_input
def test_what_cannot_be_trained_on_is_named() -> None:
    with pytest.raises(ValueError, match="a story of 2 shots has no scenes=3 in a row"):
        window(2, 3, np.random.default_rng(0))
    pool = TINY.stories(2, shots=2, seed=0)
    with pytest.raises(ValueError, match="a story of 2 shots has no scenes=3 in a row"):
        pool.one(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="2 stories hold no 3 unrelated clips"):
        pool.unrelated(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="conditional"):
        SceneStage(conditional=1.5)
    with pytest.raises(ValueError, match="drop"):
        SceneStage(drop=-0.1)
