"""MMFace-DiT in the objectives, the trainer and the pipeline: its own convention of time, and guidance."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.data.labelled import ControlledScenes
from saccade.data.pixels import to_bytes
from saccade.models import Architecture, ArchitecturePipeline
from saccade.papers import MMFaceDiT
from saccade.papers.mmface_dit.objectives import DDPM, FLOW
from saccade.runs.gaussian import Chain, scaled_linear_betas
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, sample_sheet
from saccade.train.loop import Fit, fit
from saccade.train.presets import preset
from tests.papers.mmface_dit.tiny_mmface import given, made


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _bare(condition: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) if name in names else value for name, value in condition.items()}


@torch.no_grad()
def _euler(model: MMFaceDiT, z: Tensor, steps: int, *weighed: tuple[float, dict[str, Tensor]]) -> Tensor:
    """As the paper samples: z += v / n from t = 0 to 1."""
    for step in range(steps):
        t = torch.full((len(z),), step / steps)
        z = z + sum(weight * model(z, t, each).out for weight, each in weighed) / steps
    return z


def test_the_pipeline_is_the_papers_sampler_with_guidance_by_words_alone() -> None:
    model, (_, _, condition) = made(), given()
    null, noise = _bare(condition, "words", "pooled"), torch.randn(2, 3, 8, 8, generator=_seed())
    said = {name: null[name] for name in ("words", "pooled")}  # what null does not name stays: picture and modality
    for scale in (0.0, 1.0, 7.5):
        drawn = ArchitecturePipeline(model)(condition, null=said, steps=4, guidance=scale, generator=_seed())
        wanted = _euler(model, noise, 4, (scale, condition), (1 - scale, null))
        torch.testing.assert_close(drawn.pictures, wanted, rtol=1e-3, atol=1e-3)


def test_two_scales_guide_by_picture_and_by_words() -> None:
    model, (_, _, condition) = made(), given()
    picture = _bare(condition, "words", "pooled")
    nothing, noise = _bare(picture, "picture"), torch.randn(2, 3, 8, 8, generator=_seed())
    drawn = ArchitecturePipeline(model)(
        condition, null=(nothing, picture), guidance=(1.5, 3.0), steps=3, generator=_seed()
    )
    wanted = _euler(model, noise, 3, (1 - 1.5, nothing), (1.5 - 3.0, picture), (3.0, condition))
    torch.testing.assert_close(drawn.pictures, wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="1 scales lead between 2 conditions; 3 are given"):
        ArchitecturePipeline(model)(condition, null=(nothing, picture), guidance=(1.5,))
    with pytest.raises(ValueError, match="guided_channels=2 goes with one scale"):
        ArchitecturePipeline(model)(condition, null=(nothing,), guidance=(1.5,), guided_channels=2)
    with pytest.raises(ValueError, match="guidance=2.0 needs null"):
        ArchitecturePipeline(model)(condition, guidance=2.0)


def test_a_flow_is_taught_picture_less_noise() -> None:
    model, (x, t, condition) = made(), given()
    noise = torch.randn(x.shape, generator=_seed())
    share = t.view(-1, 1, 1, 1)
    wanted = (model((1 - share) * noise + share * x, t, condition).out - (x - noise)).square().mean()
    torch.testing.assert_close(FLOW.loss(model, x, condition, 1 - t, noise)["loss"], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_ddpm_is_drawn_by_the_chain_it_was_taught(predicts: Any) -> None:
    model, (_, _, condition) = made(objective="ddpm"), given()
    objective, chain = replace(DDPM, predicts=predicts), Chain(betas=scaled_linear_betas())
    pipe = ArchitecturePipeline(model, objective="ddpm", chain=chain, predicts=predicts)
    drawn = pipe(condition, steps=3, generator=_seed()).pictures
    wanted = objective.sample(model, condition, condition, (2, 3, 8, 8), steps=3, generator=_seed())
    torch.testing.assert_close(drawn, wanted)
    other = ArchitecturePipeline(model, objective="ddpm")(condition, steps=3, generator=_seed()).pictures
    assert not torch.allclose(drawn, other)


def test_its_recipe_teaches_the_objective_that_the_model_is_made_for() -> None:
    recipe = preset("mmface-dit")
    assert recipe.source == "controlled-scenes" and recipe.flow == FLOW and recipe.train.drop == 0.05
    models = [replace(recipe, objective=name).fresh(ControlledScenes()) for name in ("flow", "ddpm")]
    assert [model.config.objective for model in models] == ["flow", "ddpm"]
    assert [model.time.scale for model in models] == [999.0, 1.0]


def test_a_sheet_shows_what_its_samples_were_given() -> None:
    sizes: dict[str, Any] = {"depth": 1, "width": 16, "heads": 2, "patch": 8, "channels": 3, "picture_channels": 3}
    source = ControlledScenes()
    model = MMFaceDiT(**sizes, side=32, words_width=8, classes=source.classes)
    sheet = sample_sheet(model, FLOW, source, Evaluation(samples=10, steps=1))
    cells = [
        sheet[2 + 34 * row : 34 + 34 * row, 2 + 34 * column : 34 + 34 * column]
        for row in (0, 1, 2)
        for column in range(8)
    ]
    pictures = to_bytes(source.held_out(10)[1]["picture"])
    assert all((cell == picture).all() for cell, picture in zip([*cells[:8], *cells[16:18]], pictures, strict=True))
    assert not any((cell == picture).all() for cell, picture in zip(cells[8:16], pictures, strict=False))


@pytest.mark.slow
def test_its_recipe_trains_stores_and_draws(tmp_path: Path) -> None:
    made_recipe = preset("mmface-dit")
    stage = replace(made_recipe.train, batch=4, fit=Fit(steps=3, precision="no"))
    tiny = replace(made_recipe, train=stage, evaluation=replace(made_recipe.evaluation, pictures=4, samples=2, steps=2))
    folder, source = tiny.run(tmp_path), ControlledScenes()
    _, condition = source.held_out(2)
    drawn = ArchitecturePipeline.from_pretrained(folder)(
        condition, null=source.null(condition), steps=2, guidance=2.0, generator=_seed()
    )
    assert [image.size for image in drawn.images] == [(32, 32)] * 2
    assert isinstance(Architecture.from_pretrained(folder), MMFaceDiT)


@pytest.mark.slow
def test_it_learns_a_scene_under_its_mask(tmp_path: Path) -> None:
    source = ControlledScenes(dropped=0.0)
    sizes: dict[str, Any] = {"depth": 1, "width": 32, "heads": 2, "patch": 8, "channels": 3, "picture_channels": 3}
    torch.manual_seed(0)
    model = MMFaceDiT(**sizes, side=32, words_width=16, classes=source.classes)
    stage = ArchitectureStage(fit=Fit(steps=12, decay=0.5, precision="no", log_every=100, save_every=100), batch=4)

    class Quiet(ArchitectureTask):
        def sheet(self) -> None:  # type: ignore[override]
            return None

    task = Quiet(model, FLOW, source, stage)
    x, condition = source.held_out(8)

    def loss() -> float:
        noise = torch.randn(x.shape, generator=_seed())
        return FLOW.loss(model, x, condition, torch.full((8,), 0.5), noise)["loss"].item()

    before = loss()
    fit(task, stage.fit, tmp_path, cpu=True)
    assert loss() < 0.95 * before
    assert task.uses_muon("model.blocks.0.image.q.weight") and not task.uses_muon(
        "model.blocks.0.modulation.linear.weight"
    )
