"""`Clear(distilled=...)`: the terms of a file beside the weights, the same as in them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from saccade.attach import attach
from saccade.core.layout import Layout
from saccade.core.site import at
from saccade.core.specs import parse_stack
from saccade.mechanisms.low_rank import LowRank
from saccade.papers.clear import Clear
from saccade.papers.clear.adapters import FILE, adapter_file, bundled, bundled_name, save_adapter
from saccade.papers.clear.distillation import PATHS
from saccade.papers.clear.pooled_keys import PoolingWeights
from saccade.pipelines.loading import load_pipeline
from saccade.systems.dense import Dense
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host


def built() -> tuple[Any, dict[str, Any], LowRank]:
    model, inputs = BY_NAME["flux"].build()
    with attach(model) as run:
        terms = LowRank.fresh(model, run.sites, PATHS, 2).requires_grad_(False)
    for up in terms.up.values():
        nn.init.normal_(up, std=0.2)
    return model, inputs, terms.half().float()


def pooling(model: Any) -> PoolingWeights:
    with attach(model) as run:
        made = PoolingWeights(run.sites, 2)
    for value in made.parameters():
        nn.init.uniform_(value)
    return made


def test_a_file_gives_back_what_was_stored(tmp_path: Path) -> None:
    model, inputs, terms = built()
    file = tmp_path / "mine.safetensors"
    save_adapter(file, terms, radius=1.5, model="tiny")
    with attach(model, Clear(radius=1.5, distilled=terms)):
        expected = output(model, inputs)
    with attach(model, Clear(radius=1.5)):
        plain = output(model, inputs)
    for given in (file, str(file)):
        with attach(model, Clear(radius=1.5, distilled=given)) as run:
            assert torch.equal(output(model, inputs), expected)
            assert "clear" in run.explain(4) and "LowRank('mine', 14 projections, rank 2)" in run.explain(4)
    assert (expected - plain).abs().max() > 1e-3
    assert all(key.startswith("transformer.") and "lora_" in key for key in load_file(file))


def test_the_disc_and_the_terms_are_those_of_a_model_with_changed_weights() -> None:
    model, inputs, terms = built()
    with attach(model, Clear(radius=1.5, distilled=terms), Dense(kernel="reference")):
        out = output(model, inputs)
    for site, path in terms.names:
        down, up = terms.at((site, path))
        model.get_submodule(f"{site}.{path}").weight.data += up @ down
    with attach(model, Clear(radius=1.5)):
        torch.testing.assert_close(out, output(model, inputs), atol=1e-5, rtol=1e-4)


def test_sites_and_steps_left_out_keep_the_hosts_weights() -> None:
    model, inputs, terms = built()
    dense = output(model, inputs)
    late = Clear(radius=1.5, distilled=terms, where=at(during=(0.5, 1.0)))
    with attach(model, late) as run:
        run.step(0, of=2)
        assert torch.equal(output(model, inputs), dense)
        run.step(1, of=2)
        assert (output(model, inputs) - dense).abs().max() > 1e-3
    assert torch.equal(output(model, inputs), dense)


def test_pooling_weights_come_with_the_file(tmp_path: Path) -> None:
    model, inputs, terms = built()
    weights = pooling(model)
    save_adapter(tmp_path / FILE, terms, pooling=weights)
    with attach(model, Clear(radius=1.5, pool=2, weights=weights, distilled=terms)):
        expected = output(model, inputs)
    with attach(model, Clear(radius=1.5, pool=2, distilled=tmp_path)):
        torch.testing.assert_close(output(model, inputs), expected, atol=0, rtol=0)


def test_counting_pairs_needs_no_model() -> None:
    _, _, terms = built()
    layout = Layout.joint(text=6, grid=(1, 4, 4))
    assert Clear(radius=1.5, distilled=terms).pairs(layout) == Clear(radius=1.5).pairs(layout)


def test_alpha_scales_terms_as_diffusers_has_it(tmp_path: Path) -> None:
    _, _, terms = built()
    save_adapter(tmp_path / "a.safetensors", terms)
    stored = load_file(tmp_path / "a.safetensors")
    alphas = {key.replace("lora_A.weight", "alpha"): torch.tensor(1.0) for key in stored if "lora_A" in key}
    save_file({**stored, **alphas}, tmp_path / "b.safetensors", metadata={"pool": "null"})
    one, two = (Clear(radius=2, distilled=tmp_path / f"{name}.safetensors")._adapter[0] for name in "ab")
    for name in one.names:
        torch.testing.assert_close(two.at(name).up, one.at(name).up / 2)  # alpha / rank


def test_the_bundled_adapter_is_small_and_serves_every_site_of_its_model() -> None:
    assert bundled() == ("scenes-flux-clear-r8",)
    assert adapter_file("scenes-flux-clear-r8").stat().st_size <= 2**20
    clear, named = Clear(radius=8, distilled=True), Clear(radius=4, distilled="scenes-flux-clear-r8")
    assert parse_stack("clear(radius=8, distilled=True)") == (clear,)
    transformer = load_pipeline("scenes-flux").transformer
    for system in (clear, named):
        with attach(transformer, system) as run:
            assert all(system._adapter[0].terms(site) for site in run.sites)


def test_names_say_radius_and_pool() -> None:
    assert bundled_name(8.0, None) == "scenes-flux-clear-r8"
    assert bundled_name(2.5, 4) == "scenes-flux-clear-r2.5-d4"


@pytest.mark.bad_input
def test_bad_adapters_are_refused_with_the_mend(tmp_path: Path) -> None:
    model, _, terms = built()
    with pytest.raises(ValueError, match=r"distilled='nowhere' is neither a file nor one of the bundled adapters: .*"):
        Clear(radius=8, distilled="nowhere")
    with pytest.raises(ValueError, match=r"distilled='scenes-flux-clear-r7' is neither .* `saccade train clear-distil"):
        Clear(radius=7, distilled=True)
    save_adapter(tmp_path / "p.safetensors", terms, pooling=pooling(model))
    with pytest.raises(ValueError, match=r"distilled='p' was distilled with pool=2, not None; give pool=2"):
        Clear(radius=8, distilled=tmp_path / "p.safetensors")
    save_file({"transformer.proj_out.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"holds 'transformer.proj_out.* no low-rank term of an attention projection"):
        Clear(radius=8, distilled=tmp_path / "x.safetensors")
    save_file({"transformer.a.attn.to_q.lora_A.weight": torch.zeros(2, 2)}, tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match=r"holds of 'a.attn.to_q' lora_A.weight alone; it needs lora_A.weight and"):
        Clear(radius=8, distilled=tmp_path / "y.safetensors")
    with pytest.raises(ValueError, match=r"heads for the disc alone; drop pool, proportional, ntk and distilled"):
        Clear(radius=8, distilled=terms, where=at(heads=(0,)))


@pytest.mark.bad_input
def test_another_model_is_told_to_distil_its_own(tmp_path: Path) -> None:
    _, _, terms = built()
    save_adapter(tmp_path / "mine.safetensors", terms)
    for name, message in (("sd3", r"adds 32 -> 32|has no terms for site"), ("dit", "has no terms for site")):
        with pytest.raises(ValueError, match=message) as error:
            attach(BY_NAME[name].build()[0], Clear(radius=2, distilled=tmp_path / "mine.safetensors"))
        assert "saccade train clear-distil" in str(error.value)


def test_a_folder_is_read_by_diffusers_name(tmp_path: Path) -> None:
    _, _, terms = built()
    save_adapter(tmp_path / FILE, terms, radius=8.0)
    assert adapter_file(tmp_path) == tmp_path / FILE
    with (tmp_path / FILE).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        said = json.loads(file.read(size))["__metadata__"]
    assert json.loads(said["radius"]) == 8.0 and json.loads(said["pool"]) is None
