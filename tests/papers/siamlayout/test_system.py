"""Attached to pipelines: which steps it acts in, which rows have the layout, and what goes with other systems."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.papers import Clear
from saccade.papers.siamlayout import LayoutAdapter, LayoutBatch, SiamLayout, captioned, encode_layout
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
ASKED = captioned(["a red circle", "a blue square"], [(0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0)])


def trained(pipe: Any, **options: Any) -> LayoutAdapter:
    torch.manual_seed(0)
    made = LayoutAdapter.of(pipe.transformer, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def drawn(pipe: Any, *systems: Any, prompts: int = 1, steps: int = 4, **more: Any) -> Tensor:
    noise = [torch.Generator().manual_seed(seed) for seed in range(prompts * more.get("num_images_per_prompt", 1))]
    with attach(pipe, *systems):
        return pipe(
            ["a red circle"] * prompts, height=32, width=32, num_inference_steps=steps, max_sequence_length=8,
            generator=noise, output_type="latent", **more,
        ).images  # fmt: skip


def test_the_step_rule() -> None:
    system = SiamLayout(adapter="none")
    for steps, active in ((50, 15), (20, 6), (10, 3), (4, 1), (3, 0), (1, 0)):
        assert [system.active(Clock(step=i, num_steps=steps)) for i in range(steps)] == [
            i < active for i in range(steps)
        ]


@pytest.mark.parametrize("make", [tiny_sd3, tiny_flux])
@torch.no_grad()
def test_it_acts_in_the_first_steps_and_leaves_no_trace(make: Any) -> None:
    pipe = make()
    layout = encode_layout(pipe, [ASKED], words=4, padded=8)
    before, adapter = drawn(pipe, steps=3), trained(pipe)
    kept = {name: value for name, value in vars(pipe.transformer).items() if not name.startswith("_forward")}
    acting = SiamLayout(adapter=adapter, layout=layout, until=1.0)
    assert (drawn(pipe, acting, steps=3) - before).abs().max() > 1e-4
    for system in (
        SiamLayout(adapter=adapter, layout=layout),  # of 3 steps none
        SiamLayout(adapter=adapter, layout=layout, until=1.0, scale=0),
        SiamLayout(adapter=adapter),
        SiamLayout(adapter=LayoutAdapter.of(pipe.transformer), layout=layout, until=1.0),
    ):
        assert torch.equal(drawn(pipe, system, steps=3), before)
    assert {*vars(pipe.transformer)} == {*kept} | {n for n in vars(pipe.transformer) if n.startswith("_forward")}


@torch.no_grad()
def test_calls_of_the_branch_are_counted_by_step() -> None:
    pipe = tiny_flux()
    adapter, calls = trained(pipe), []
    adapter.single_blocks[0].register_forward_hook(lambda *_: calls.append(1))
    system = SiamLayout(adapter=adapter, layout=encode_layout(pipe, [ASKED], words=4, padded=8), until=0.5)
    drawn(pipe, system, steps=10)
    assert len(calls) == 5


@torch.no_grad()
def test_unconditional_rows_have_no_slot_used() -> None:
    pipe, seen = tiny_sd3(), []
    adapter = trained(pipe)
    adapter.position_net.register_forward_pre_hook(lambda m, args: seen.append(args[1]))
    system = SiamLayout(adapter=adapter, layout=encode_layout(pipe, [ASKED, ASKED[:1]]), until=1.0)
    drawn(pipe, system, prompts=2, steps=1, guidance_scale=5.0, num_images_per_prompt=2)
    assert seen[0].sum(1).tolist() == [0, 0, 0, 0, 2, 2, 1, 1]
    drawn(pipe, system, prompts=2, steps=1, guidance_scale=1.0)
    assert seen[1].sum(1).tolist() == [2, 1]


@torch.no_grad()
def test_true_guidance_of_flux_runs_its_negative_without_slots() -> None:
    pipe, seen = tiny_flux(), []
    adapter = trained(pipe)
    adapter.position_net.register_forward_pre_hook(lambda m, args: seen.append(int(args[1].sum())))
    system = SiamLayout(adapter=adapter, layout=encode_layout(pipe, [ASKED], words=4, padded=8), until=1.0)
    drawn(pipe, system, steps=2, true_cfg_scale=2.0, negative_prompt="a blue square")
    assert seen == [2, 0, 2, 0]


@torch.no_grad()
def test_no_layout_is_zero_tokens_under_the_released_rule() -> None:
    pipe = tiny_sd3()
    adapter, before = trained(pipe), drawn(pipe, steps=2)
    official = drawn(pipe, SiamLayout(adapter=adapter, compat="official", until=1.0), steps=2)
    assert (official - before).abs().max() > 1e-4
    adapter.position_net.mlp.linear_2.weight.zero_()
    adapter.position_net.mlp.linear_2.bias.zero_()  # so all tokens are zero
    layout = encode_layout(pipe, [ASKED])
    torch.testing.assert_close(drawn(pipe, SiamLayout(adapter=adapter, layout=layout, until=1.0), steps=2), official)


@torch.no_grad()
def test_it_goes_with_a_system_inside_the_attention() -> None:
    pipe = tiny_flux()
    layout, adapter = encode_layout(pipe, [ASKED], words=4, padded=8), trained(pipe)
    layer, clear = SiamLayout(adapter=adapter, layout=layout, until=1.0), Clear(radius=1.5)
    one, two = drawn(pipe, clear, layer, steps=2), drawn(pipe, layer, clear, steps=2)
    assert torch.equal(one, two)
    assert all((one - drawn(pipe, each, steps=2)).abs().max() > 1e-4 for each in (clear, layer))


@torch.no_grad()
def test_where_chooses_blocks_and_a_file_serves_as_adapter(tmp_path: Path) -> None:
    pipe = tiny_flux()
    layout, adapter = encode_layout(pipe, [ASKED], words=4, padded=8), trained(pipe)
    file = adapter.save(tmp_path / "mine.safetensors")
    whole = drawn(pipe, SiamLayout(adapter=adapter, layout=layout, until=1.0), steps=2)
    assert torch.equal(drawn(pipe, SiamLayout(adapter=file, layout=layout, until=1.0), steps=2), whole)
    some = SiamLayout(adapter=adapter, layout=layout, until=1.0, where=at("*single*"))
    assert (drawn(pipe, some, steps=2) - whole).abs().max() > 1e-5


def test_encoded_captions_have_the_width_of_the_model() -> None:
    sd3, flux = encode_layout(tiny_sd3(), [ASKED, []]), encode_layout(tiny_flux(), [ASKED, []], words=4, padded=8)
    assert sd3.text.shape == (2, 10, 64) and flux.text.shape == (2, 10, 4, 32)
    assert sd3.mask.sum(1).tolist() == [2, 0]
    with pytest.raises(ValueError, match="pipe=object must be a FluxPipeline or StableDiffusion3Pipeline"):
        encode_layout(object(), [ASKED])
    with pytest.raises(ValueError, match="words=0 must be a whole number of at least 1"):
        encode_layout(tiny_flux(), [ASKED], words=0)


def test_layouts_must_fit_the_prompts() -> None:
    pipe = tiny_sd3()
    layout = encode_layout(pipe, [ASKED, ASKED])
    with pytest.raises(ValueError, match="the layout has 2 rows for 3 pictures; give one row, or one for each prompt"):
        drawn(pipe, SiamLayout(adapter=trained(pipe), layout=layout, until=1.0), prompts=3, steps=1)
    assert Rows.of("uncond", "cond").where("uncond") == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": -0.5}, r"scale=-0.5 must be 0 or more"),
        ({"until": 1.5}, r"until=1.5 must be in \[0, 1\]"),
        ({"compat": "other"}, r"compat='other' must be 'official' or None"),
        ({"where": at("*", heads=(0,))}, r"where.heads=\(0,\) cannot be chosen"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SiamLayout(adapter="none", **options)


def test_an_error_while_attaching_leaves_the_model_as_it_was() -> None:
    one, two = tiny_sd3(), tiny_flux()
    wrong = SiamLayout(adapter=trained(one), layout=encode_layout(one, [ASKED]))
    names = {*vars(two.transformer)}
    with pytest.raises(ValueError, match="host='sd3' of the adapter is 'flux'"):
        attach(two, wrong)
    assert {*vars(two.transformer)} == names
    assert isinstance(wrong.layout, LayoutBatch)
