"""Agreement with the released code: the probe, the shared operands and the maps on a real FLUX, and the mask recipe."""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from saccade.analysis.layers import LayerSets
from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.mechanisms.token_regions import kernel, largest, region, smooth, stretched
from saccade.papers.freeflux import FreeFlux, Reshape
from saccade.runs.inversion import sample_euler
from saccade.systems.moved_keys import MovedKeys
from saccade.systems.word_map import WordMap

pytestmark = pytest.mark.host
FOLDER = Path(__file__).resolve().parents[2] / "goldens" / "freeflux"
PAIR = Rows.of("source", "target")
SITES = (
    *(f"transformer_blocks.{i}.attn" for i in range(2)),
    *(f"single_transformer_blocks.{i}.attn" for i in range(3)),
)
WORDS = {str(token): (token,) for token in (3, 4, 9)}


@cache
def opened() -> tuple[nn.Module, dict[str, Tensor]]:
    """The real model with the stored weights, and the stored tensors."""
    from diffusers import FluxTransformer2DModel

    file = FOLDER / "case_flux_tiny.safetensors"
    with safe_open(file, "pt") as stored:
        config = json.loads(stored.metadata()["config"])
    tensors = load_file(file)
    model: Any = FluxTransformer2DModel(**config)
    model.load_state_dict({name[8:]: x.float() for name, x in tensors.items() if name.startswith("weights.")})
    return model.eval(), tensors


def drawn(*systems: System, rows: int = 2, steps: int = 4, read: Any = None) -> Tensor | Any:
    """Latents of both rows, or of the first; what `read` makes of the run instead."""
    model, tensors = opened()
    sigmas = tensors["sigmas"]
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(3.0), torch.arange(4.0))
    fixed = {
        "encoder_hidden_states": tensors["prompt_embeds"][:rows].float(),
        "pooled_projections": tensors["pooled"][:rows],
        "img_ids": places,
        "txt_ids": torch.zeros(512, 3),
        "guidance": torch.full((rows,), 3.5),
        "return_dict": False,
    }

    @torch.no_grad()
    def velocity(z: Tensor, sigma: float) -> Tensor:
        return model(hidden_states=z, timestep=torch.full((rows,), sigma), **fixed)[0]

    schedule = SimpleNamespace(timesteps=1000 * sigmas[:-1], sigmas=sigmas[:-1])
    with attach(model, *systems, rows=PAIR if rows == 2 else None, schedule=schedule) as run:
        z = sample_euler(velocity, tensors["z_T"].expand(rows, -1, -1), sigmas[: steps + 1].tolist())
        return z if read is None else read(run)


def injected() -> FreeFlux:
    return FreeFlux(edit=Reshape(), layers=LayerSets.numbered(SITES, content=(0, 2, 4)))


def close(a: Tensor, b: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def test_without_systems_the_latents_are_the_released_ones() -> None:
    close(drawn(), opened()[1]["plain"])


def test_shared_k_and_v_in_chosen_layers() -> None:
    tensors = opened()[1]
    latents = drawn(injected())
    close(latents[1:], tensors["non_rigid"])
    assert (tensors["non_rigid"] - tensors["plain"][1:]).abs().max() > 1e-3  # ten times what agreement may be off


@pytest.mark.parametrize("layer", [1, 4])
def test_maps_are_read_before_anything_is_shared(layer: int) -> None:
    tensors = opened()[1]
    watched = WordMap(tokens=WORDS, mutual=True, role="target", where=at(SITES[layer]))
    for stack in ((watched, injected()), (injected(), watched)):
        heat = drawn(*stack, steps=1, read=lambda run: watched.heat(run.state))
        name = f"layer{layer}_step0_tokens3_4_9"
        expected = (tensors[f"map_txt2img_{name}"] + tensors[f"map_img2txt_{name}"].mT) / 2
        close(torch.stack([heat[word].flatten() for word in WORDS]), expected, 1e-6)


@pytest.mark.parametrize(("move", "shift"), [("none", None), ("s1_2", (0, 1, 2))])
def test_moved_keys_of_one_layer(move: str, shift: Any) -> None:
    tensors = opened()[1]
    reference = drawn(rows=1)
    close(reference, tensors["probe_reference"])
    moved = drawn(MovedKeys(shift=shift, where=at(SITES[1])), rows=1)
    close(moved, tensors[f"probe_layer1_{move}"])
    assert (tensors[f"probe_layer1_{move}"] - tensors["probe_reference"]).abs().max() > 1e-4


def test_the_recipe_of_the_mask_is_the_released_one() -> None:
    tensors = load_file(FOLDER / "case_mask_recipe.safetensors")
    blocks = range(40, 44)
    maps = [(tensors[f"txt2img_block{i}"] + tensors[f"img2txt_block{i}"].mT) / 2 for i in blocks]
    heat = torch.stack(maps)[:, tensors["tokens_one"]].mean((0, 1)).unflatten(0, (6, 9))
    close(kernel(3, 0.5), tensors["kernel"], 1e-7)
    close(stretched(smooth(heat)), tensors["map_one"], 1e-6)
    assert torch.equal(stretched(smooth(heat)) > 0.3, tensors["binary_one"].bool())
    found = region(heat)
    assert torch.equal(found.flatten().nonzero()[:, 0], tensors["free_tokens_one"])
    assert torch.equal(found, largest(tensors["binary_one"].bool()))
