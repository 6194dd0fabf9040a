"""Training: who acts in a step and who counts, that a kill changes nothing, and what a recipe leaves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saccade.attach import attach
from saccade.papers.dreamrelation import Contrast, DreamRelationRecipe, RelationSwitch, masked_reconstruction
from saccade.papers.dreamrelation.bounces import exemplars
from saccade.papers.dreamrelation.clips import RelationClips, encode_clips, read_clips
from saccade.papers.dreamrelation.hosts import predictor
from saccade.papers.dreamrelation.training import LossWeights, RelationLoss, RelationStage, RelationTask, contrast_of
from saccade.papers.dreamrelation.tuning import RelationTuning
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from tests.papers.dreamrelation.tiny import ALL, build, learned
from tests.tiny_videos import tiny_wan

pytestmark = pytest.mark.host
FIT = Fit(steps=4, precision="no", decay=0, save_every=1, log_every=1, sheet_every=10**6,
          optim=Optim(kind="adamw", lr=1e-2, warmup=0, clip=None))  # fmt: skip
STAGE = RelationStage(fit=FIT, rank=2, batch=2)


def clips(n: int = 3) -> RelationClips:
    made = torch.Generator().manual_seed(0)
    masks = (torch.rand(n, 2, 3, 4, 6, generator=made) < 0.4).float()
    return RelationClips(
        latents=torch.randn(n, 4, 3, 4, 6, generator=made), words=torch.randn(n, 6, 16, generator=made), masks=masks
    )


def loss(hybrid: bool = True, **weights: Any) -> tuple[Any, RelationLoss]:
    model, _ = build("wan")
    switch = RelationSwitch(learned=learned(model.requires_grad_(False)))
    made = RelationLoss(predictor(model), switch, weights=LossWeights(**weights), hybrid=hybrid)
    return attach(model, switch), made


def drawn(number: int) -> dict[str, torch.Tensor]:
    batch = RelationTask(loss()[1], clips(), STAGE).batch(np.random.default_rng(5))
    return batch | {"set": torch.tensor(number)}


@pytest.mark.parametrize(
    ("number", "active", "rows"), [(0, ALL, (0, 1)), (1, ("subject1",), (0,)), (2, ("subject2",), (1,))]
)
@pytest.mark.parametrize("compat", [None, "official"])
def test_a_name_decides_who_acts_and_where_errors_count(
    number: int, active: tuple[str, ...], rows: tuple[int, ...], compat: Any
) -> None:
    run, made = loss(compat=compat)
    batch = drawn(number)
    predict, switch = made._frozen
    with run:
        found = made(batch)
        with switch.using(*active):
            u, v = predict(batch)
    mask = batch["masks"][:, list(rows)].sum(1)
    torch.testing.assert_close(found["loss"], masked_reconstruction(u, v, mask, compat=compat))
    found["loss"].backward()
    for name in ALL:
        assert all((p.grad is None) is (name not in active) for p in made.learned.low(name).parameters()), name


def test_without_hybrid_masks_all_sets_act_and_no_place_counts_more() -> None:
    run, made = loss(hybrid=False)
    batch = drawn(1)
    del batch["masks"]
    predict, switch = made._frozen
    with run:
        found = made(batch)["loss"]
        with switch.using(*ALL):
            u, v = predict(batch)
    torch.testing.assert_close(found, torch.nn.functional.mse_loss(u, v))


def test_a_step_of_one_subject_moves_nothing_of_the_others_not_even_by_decay() -> None:
    run, made = loss()
    optimiser = torch.optim.AdamW(made.parameters(), lr=1e-2, weight_decay=0.5)
    with run:
        for number in (0, 1):
            before = {k: v.clone() for k, v in made.learned.state_dict().items()}
            made(drawn(number))["loss"].backward()
            optimiser.step()
            optimiser.zero_grad()
    moved = {k.split(".")[1] for k, v in made.learned.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == {"subject1", "output"}


def test_the_contrast_enters_with_its_weight_from_the_second_step_on() -> None:
    model, _ = build("wan")
    switch = RelationSwitch(learned=learned(model.requires_grad_(False)))
    made = RelationLoss(predictor(model), switch, contrast=contrast_of(replace(STAGE, batch=1), clips()))
    one = {k: v if k == "set" else v[:1] for k, v in drawn(0).items()}
    with attach(model, switch):
        first, second = made(one), made(one)
    assert "contrast" not in first and torch.equal(first["loss"], first["reconstruction"])
    torch.testing.assert_close(second["loss"], second["reconstruction"] + 0.01 * second["contrast"])


def tuned(folder: Path, steps: int) -> RelationTuning:
    model, _ = build("wan")
    made = RelationTuning(
        model, clips(), replace(STAGE, fit=replace(FIT, steps=steps, optim=replace(FIT.optim, cooldown=0)))
    )
    made.run(folder, cpu=True)
    return made


def test_a_training_goes_on_with_its_banks_as_if_never_stopped(tmp_path: Path) -> None:
    whole = tuned(tmp_path / "whole", 5)
    tuned(tmp_path / "parts", 2)
    parts = tuned(tmp_path / "parts", 5)
    assert int(parts.loss.contrast.relations.pushed) == 10  # type: ignore[union-attr]
    for (name, one), two in zip(whole.loss.state_dict().items(), parts.loss.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    again = tuned(tmp_path / "parts", 5)
    assert all(torch.equal(a, b) for a, b in zip(again.learned.parameters(), whole.learned.parameters(), strict=True))


def test_batches_draw_names_captions_and_samples() -> None:
    found = replace(clips(), deviation=torch.ones(3, 4, 3, 4, 6), words_mask=torch.ones(3, 6))
    task = RelationTask(loss()[1], found, replace(STAGE, batch=50, drop=0.5))
    batches = [task.batch(np.random.default_rng(i)) for i in range(30)]
    assert {int(b["set"]) for b in batches} == {0, 1, 2}
    dropped = torch.cat([(b["words"] == 0).flatten(1).all(1) for b in batches])
    assert 0.4 < dropped.float().mean() < 0.6
    assert torch.equal(torch.cat([(b["words_mask"] == 0).all(1) for b in batches]), dropped)
    sigma = torch.cat([b["sigma"] for b in batches])
    assert 0 <= sigma.min() < 0.01 and 0.99 < sigma.max() < 1
    spread = torch.cat([b["latents"] for b in batches]).var(0) - found.latents.var(0, unbiased=False)
    assert abs(float(spread.mean()) - 1) < 0.1  # the posterior's own spread comes on top


def test_pictures_are_learned_without_the_contrast(tmp_path: Path) -> None:
    model, _ = build("sd3")
    pictures = RelationClips(
        latents=torch.randn(2, 4, 8, 8), words=torch.randn(2, 6, 32), pooled=torch.randn(2, 32),
        masks=(torch.rand(2, 2, 8, 8) < 0.4).float(),
    )  # fmt: skip
    made = RelationTuning(model, pictures, replace(STAGE, contrast=None, fit=replace(FIT, steps=3)))
    before = {k: v.clone() for k, v in made.learned.state_dict().items()}
    after = made.run(tmp_path, cpu=True).state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert made.loss.contrast is None and all(value.isfinite().all() for value in after.values())


def folder_of_videos(folder: Path) -> Path:
    """Two videos as a user would have them."""
    for i, one in enumerate(exemplars(2, seed=3)):
        (place := folder / f"video{i}" / "frames").mkdir(parents=True)
        (marks := folder / f"video{i}" / "masks").mkdir()
        (folder / f"video{i}" / "caption.txt").write_text(one.caption + "\n")
        for number, (frame, mask) in enumerate(zip(one.video(), one.masks(), strict=True)):
            Image.fromarray(frame).save(place / f"{number}.png")
            colours = (mask[0][..., None] * torch.tensor([1, 0, 0]) + mask[1][..., None] * torch.tensor([2, 0, 0])) * 60
            Image.fromarray(colours.byte().numpy()).save(marks / f"{number}.png")
    return folder


def test_a_folder_of_videos_is_read_and_encoded(tmp_path: Path) -> None:
    videos, masks, captions = read_clips(folder_of_videos(tmp_path))
    drawn = exemplars(2, seed=3)
    assert captions == [one.caption for one in drawn]
    assert np.array_equal(videos, np.stack([one.video() for one in drawn]))
    assert torch.equal(masks, torch.stack([one.masks() for one in drawn]))
    found = encode_clips(tiny_wan(), videos, masks, captions, text_tokens=32)
    assert found.latents.shape == (2, 4, 5, 12, 12) and found.masks is not None and found.masks.shape[1:3] == (2, 5)
    assert found.words.shape[:2] == (2, 32) and found.deviation is not None and (found.deviation > 0).all()


@pytest.mark.slow
def test_the_recipe_trains_the_bundled_model_and_leaves_an_adapter(tmp_path: Path) -> None:
    from saccade.papers.dreamrelation import RelationLora
    from saccade.pipelines.loading import load_pipeline

    stage = replace(STAGE, fit=replace(FIT, steps=2), contrast=Contrast(positives=1))
    recipe = DreamRelationRecipe(videos=str(folder_of_videos(tmp_path / "videos")), train=stage)
    sets = RelationLora.load(recipe.run(tmp_path / "run"))
    assert sets.names == ALL and sets.low("relation").up
    again = replace(recipe, train=replace(stage, rank=3))
    with pytest.raises(ValueError, match="holds runs of other settings"):
        again.run(tmp_path / "run")
    from saccade.papers.dreamrelation import DreamRelation

    with attach(load_pipeline("scenes-wan"), DreamRelation(learned=tmp_path / "run" / "relation")) as run:
        assert len(run.sites) == 5
