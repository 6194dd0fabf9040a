"""The recipe from its first stage to the measured, loadable pipeline."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

from saccade.train.autoencoder import AutoencoderStage
from saccade.train.config import check_stages
from saccade.train.loop import Fit
from saccade.train.scenes_flux import STAGES, Evaluation, ScenesFluxRecipe
from saccade.train.text import TextStage
from tests.train.tiny import MODEL, STAGE

FIT = Fit(steps=2, log_every=1, save_every=1)
RECIPE = ScenesFluxRecipe(
    model=MODEL,
    autoencoder=AutoencoderStage(fit=FIT, batch=2, pool=8),
    text=TextStage(fit=FIT, batch=4),
    flow=replace(STAGE, fit=FIT),
    decoder=AutoencoderStage(fit=FIT, batch=2, pool=8, decoder_only=True),
    evaluation=Evaluation(captions=(9,), steps=1, sides=(64,)),
)
MIXED = "ignore:Mismatch dtype between input and weight:UserWarning"  # torch on RMSNorm under autocast
pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.filterwarnings(MIXED)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    RECIPE.run(folder)
    return folder


def test_what_is_exported_is_what_was_trained(out: Path) -> None:
    pipe = FluxPipeline.from_pretrained(out / "pipeline")
    trained = FluxPipeline.from_pretrained(RECIPE.run(out, ("export",)))
    for name in ("vae", "transformer", "text_encoder", "text_encoder_2"):
        part, again = getattr(pipe, name), getattr(trained, name)
        assert part.dtype == torch.float32
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in part.state_dict().items())
    assert pipe.vae.config.scaling_factor != 1


def test_a_recipe_sets_out_from_a_pipeline_and_forgets_where_it_lay(out: Path, tmp_path: Path) -> None:
    again = replace(RECIPE, start=str(out / "pipeline")).run(tmp_path, ("export",))
    before, after = (
        FluxPipeline.from_pretrained(folder).transformer.state_dict() for folder in (out / "pipeline", again)
    )
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not [file for file in again.rglob("*.json") if str(out) in file.read_text()]


def test_the_decoder_stage_leaves_the_encoder_alone(out: Path) -> None:
    from safetensors.torch import load_file

    before, after = (load_file(out / stage / "average.safetensors") for stage in ("autoencoder", "decoder"))
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}


def test_measurements_name_their_circumstances(out: Path) -> None:
    measured, guided, padded, noisy, both = json.loads((out / "pipeline" / "measured.json").read_text())["measured"]
    assert [m["stochastic_sampling"] for m in (measured, guided, padded, noisy, both)] == [
        False,
        False,
        False,
        True,
        True,
    ]
    assert [m["guidance"] for m in (measured, guided, padded, noisy, both)] == [1, 1.5, 1, 1, 1.5]
    assert (measured["text_tokens"], padded["text_tokens"]) == (32, 512)
    assert {"steps", "side", "seed", "captions", "split"} <= measured.keys()
    assert [measured[f"things={n}"]["captions"] for n in (1, 2, 3)] == [3, 3, 3]
    assert padded["captions"] == 3
    assert 0 <= measured["things=2"]["all"] <= 1
    assert measured["things=1"]["relation"] is None
    assert (out / "pipeline" / "samples.png").stat().st_size > 0


def test_an_unfinished_stage_exports_its_newest_checkpoint(out: Path, tmp_path: Path) -> None:
    (tmp_path / "flow").mkdir()
    checkpoint = tmp_path / "flow" / "checkpoint.pt"
    checkpoint.write_bytes((out / "flow" / "checkpoint.pt").read_bytes())
    partial = FluxPipeline.from_pretrained(RECIPE.run(tmp_path, ("export",))).transformer.state_dict()
    average = torch.load(checkpoint, weights_only=True)["average"]
    assert all(torch.equal(value, average[f"transformer.{name}"].half().float()) for name, value in partial.items())


def test_stages_run_in_the_order_of_the_recipe() -> None:
    assert check_stages(["export", "text"], STAGES) == ("text", "export")
    with pytest.raises(ValueError, match=f"stage='vae' is unknown; choose from {', '.join(STAGES)}"):
        check_stages(["vae"], STAGES)
