"""DiTCtrl on tiny random models of the real classes: what stays bitwise, what is shared, how many graphs there are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.errors import MissingError, SelectorError
from saccade.core.rows import Rows
from saccade.core.site import EVERYWHERE, Where, at
from saccade.papers.clear import Clear
from saccade.papers.ditctrl import DiTCtrl, WordStrength
from tests.hosts.tiny import BY_NAME, output
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
NAMES = ("cogvideox", "wan", "hunyuan_video", "flux", "sd3", "qwen_image")
APART = ("wan",)  # text is heard by cross-attention
PAIR = Rows.of("source", "target")
TEXTED = Where(kinds=("joint", "self", "cross"))
TIMES = (1000, 700, 400, 100)
every_host = pytest.mark.parametrize("name", NAMES)


def built(name: str, shallow: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """Two rows of one noise and two texts."""
    model, inputs = BY_NAME[name].shallow() if shallow else BY_NAME[name].build()
    noise = inputs["hidden_states"]
    return model, {**inputs, "hidden_states": noise[:1].repeat(2, *[1] * (noise.ndim - 1))}


def at_step(name: str, inputs: dict[str, Any], step: int) -> dict[str, Any]:
    scale = 0.001 if name in ("flux", "qwen_image") else 1
    return {**inputs, "timestep": torch.full_like(inputs["timestep"], TIMES[step] * scale)}


def forward(name: str, *systems: Any, step: int = 1, inputs: dict[str, Any] | None = None, **options: Any) -> Tensor:
    model, own = built(name)
    given = {"rows": PAIR, "schedule": TIMES, "where": TEXTED, **options}
    with attach(model, *systems, **given):
        return output(model, at_step(name, own if inputs is None else inputs, step))


@every_host
@pytest.mark.parametrize("words", [(), (0, 1)])
def test_sources_attend_as_ever_and_targets_take_their_keys(name: str, words: tuple[int, ...]) -> None:
    model, inputs = built(name)
    plain = output(model, at_step(name, inputs, 1))
    out = forward(name, DiTCtrl(deepest=1.0, words=words, where=at()))
    torch.testing.assert_close(out[0], plain[0], rtol=1e-5, atol=1e-5)
    assert words or torch.equal(out[0], plain[0])
    assert (out[1] - plain[1]).abs().max() > 1e-4


@every_host
def test_twins_stay_twins(name: str) -> None:
    model, inputs = built(name)
    for key, value in inputs.items():
        if isinstance(value, Tensor) and len(value) == 2:
            inputs[key] = value[[0, 0]]
    plain = output(model, at_step(name, inputs, 1))
    out = forward(name, DiTCtrl(deepest=1.0, where=at()), inputs=inputs)
    torch.testing.assert_close(out, plain, atol=1e-5, rtol=1e-5)
    full = forward(name, DiTCtrl(deepest=1.0, words=(0,), threshold=0.0, where=at()), inputs=inputs)
    torch.testing.assert_close(full, plain, atol=1e-5, rtol=1e-5)


@every_host
def test_empty_ranges_and_steps_out_of_range_are_bitwise_the_host(name: str) -> None:
    model, inputs = built(name)
    plain = output(model, at_step(name, inputs, 0))
    for system in (DiTCtrl(layers=()), DiTCtrl(steps=()), DiTCtrl(deepest=0.0), DiTCtrl(steps=(1,), words=(0,))):
        assert torch.equal(forward(name, system, step=0), plain)
    assert torch.equal(forward(name, WordStrength(tokens=(0,), lock=0)), output(model, at_step(name, inputs, 1)))


@every_host
def test_full_masks_are_plain_sharing_and_others_are_not(name: str) -> None:
    plain = forward(name, DiTCtrl(deepest=1.0, where=at()))
    full, some = (
        forward(name, DiTCtrl(deepest=1.0, words=(0,), threshold=threshold, where=at())) for threshold in (0.0, 0.4)
    )
    torch.testing.assert_close(full, plain, rtol=1e-4, atol=1e-5)
    assert (some - plain)[1].abs().max() > 1e-5
    torch.testing.assert_close(some[0], plain[0], rtol=1e-4, atol=1e-5)


@every_host
def test_only_the_last_layers_share(name: str) -> None:
    model, inputs = built(name)
    with attach(model, DiTCtrl(steps=(1,)), rows=PAIR, schedule=TIMES) as run:
        output(model, at_step(name, inputs, 1))
    acted = [site.layer for site in run.sites if {r.name: r.calls for r in run.report().sites}[site.name]]
    assert acted and min(acted) == run.sites[-1].layers - 1 and set(acted) == {min(acted)}


@every_host
def test_a_words_strength_changes_targets_alone(name: str) -> None:
    where = Where(kinds=("joint", "cross")) if name in APART else EVERYWHERE
    model, inputs = built(name)
    plain = output(model, at_step(name, inputs, 1))
    for system in (
        WordStrength(tokens=(0,), factor=0.0, lock=0, where=where),
        WordStrength(tokens=(0,), bias=-5.0, lock=0, where=where),
    ):
        out = forward(name, system)
        torch.testing.assert_close(out[0], plain[0], rtol=1e-4, atol=1e-5)
        assert (out[1] - plain[1]).abs().max() > 1e-5
    locked = forward(name, WordStrength(tokens=(0,), lock=2, where=TEXTED))
    assert torch.equal(locked, forward(name, DiTCtrl(deepest=1.0, where=at())))


def test_in_low_precision_masks_hold_too() -> None:
    model, inputs = built("cogvideox")
    model, inputs = (
        model.to(torch.bfloat16),
        {k: v.to(torch.bfloat16) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()},
    )
    system = DiTCtrl(deepest=1.0, words=(0,), threshold=0.4, where=at())
    fine = forward("cogvideox", system)
    with attach(model, system, rows=PAIR, schedule=TIMES):
        out = output(model, at_step("cogvideox", inputs, 1))
    assert out.dtype == torch.bfloat16 and out.isfinite().all()
    assert (out.float() - fine).abs().max() < 0.2 * fine.abs().max()


def test_guidance_stacks_both_rows_for_each_branch_and_words_are_swapped() -> None:
    pipe = tiny_sd3()
    prompts = ["a red circle", "a blue circle"]

    def draw(texts: list[str]) -> Tensor:
        noise = [torch.Generator().manual_seed(0) for _ in texts]
        return pipe(
            texts, height=32, width=32, num_inference_steps=4, generator=noise, output_type="latent", guidance_scale=5.0
        ).images

    plain = draw(prompts)
    for system in (DiTCtrl(deepest=1.0), DiTCtrl(deepest=1.0, words=(1,), steps=(0, 1, 2))):
        with attach(pipe, system, rows=PAIR):
            out = draw(prompts)
        torch.testing.assert_close(out[0], plain[0], rtol=1e-4, atol=1e-4)
        assert (out[1] - plain[1]).abs().max() > 1e-3
    with attach(pipe, DiTCtrl(deepest=1.0), rows=PAIR):
        twins = draw(prompts[:1] * 2)
    torch.testing.assert_close(twins[0], twins[1], rtol=1e-4, atol=1e-4)


def test_an_accelerating_system_goes_along() -> None:
    plain = forward("cogvideox", DiTCtrl(deepest=1.0, where=at()))
    near = forward("cogvideox", DiTCtrl(deepest=1.0, words=(0,), where=at()), Clear(radius=1.0))
    assert near.isfinite().all() and (near - plain).abs().max() > 1e-4


@pytest.mark.compile
@pytest.mark.parametrize("name", ["cogvideox", "wan"])
def test_compiled_agrees_with_eager_with_a_graph_for_each_phase(name: str) -> None:
    torch._dynamo.reset()
    counters.clear()
    model, inputs = built(name, shallow=True)
    for system in (DiTCtrl(deepest=1.0, steps=(1, 2)), DiTCtrl(deepest=1.0, steps=(1, 2), words=(0,), threshold=0.4)):
        options: dict[str, Any] = {"rows": PAIR, "schedule": TIMES, "where": TEXTED}
        with attach(model, system, **options):
            eager = [output(model, at_step(name, inputs, step)) for step in range(4)]
        counters.clear()
        outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
        with attach(outer, system, **options):
            for step, wanted in enumerate(eager):
                found = output(outer, at_step(name, inputs, step))
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert counters["stats"]["unique_graphs"] <= 3  # without, with, and with masks kept from a forward before


@pytest.mark.bad_input
def test_what_cannot_be_done_is_refused_by_name() -> None:
    model, inputs = built("wan")
    system = DiTCtrl(deepest=1.0, where=at())
    with pytest.raises(MissingError, match=r"no 'rows.target' .*pass rows=Rows.of"), attach(model, system):
        output(model, inputs)
    with pytest.raises(ValueError, match="rows of 3 were given to attach, this forward has 2 batch rows"):
        with attach(model, system, rows=Rows(("source", "target", "target"), (0, 0, 0))):
            output(model, inputs)
    with pytest.raises(ValueError, match=r"target rows \[1\] have no source row of their sample"):
        with attach(model, system, rows=Rows(("source", "target"), (0, 1))):
            output(model, inputs)
    with pytest.raises(SelectorError, match=r"layers=\(7,\) are none of the 2 layers"):
        attach(model, DiTCtrl(layers=(7,), where=at()), rows=PAIR)
    with pytest.raises(SelectorError, match=r"words=\(0,\) are watched at sites with text, and none is attached"):
        attach(model, DiTCtrl(words=(0,), where=at()), rows=PAIR)
    with pytest.raises(ValueError, match="token 6 of a watched word is not in the text"):
        with attach(model, DiTCtrl(deepest=1.0, words=(6,), where=at()), rows=PAIR, where=TEXTED):
            output(model, inputs)
    with pytest.raises(ValueError, match="'ditctrl' needs the step of a forward; attach the pipeline, give schedule="):
        with attach(model, DiTCtrl(), rows=PAIR):
            output(model, inputs)
    other = {**inputs, "hidden_states": torch.randn_like(inputs["hidden_states"])}
    with attach(model, system, rows=PAIR, schedule=TIMES) as run:
        with pytest.raises(ValueError, match=r"target rows \[1\] start from other noise than their source rows"):
            output(model, at_step("wan", other, 0))
        run.part("windows 0, 1")  # two places of one video need not start alike
        output(model, at_step("wan", other, 0))
