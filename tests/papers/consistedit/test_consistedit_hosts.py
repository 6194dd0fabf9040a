"""ConsistEdit on tiny random models of the real classes: what stays bitwise, what is shared, what is recorded."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.errors import ConflictError, MissingError, SelectorError
from saccade.core.rows import Rows
from saccade.core.site import at
from saccade.core.state import Tape
from saccade.papers.clear import Clear
from saccade.papers.consistedit import ConsistEdit, Region
from saccade.systems.operand_recorder import OperandRecorder
from tests.hosts.stand_ins import Same
from tests.hosts.tiny import BY_NAME, output
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
GRIDS = {
    "flux": (4, 4), "sd3": (4, 4), "qwen_image": (4, 5), "pixart": (4, 4), "dit": (4, 4), "wan": (3, 2, 3),
    "cogvideox": (3, 3, 4), "hunyuan_video": (3, 2, 3),
}  # fmt: skip
PAIR = Rows.of("source", "target")
LEVELS = (1.0, 0.7, 0.4, 0.1)
every_host = pytest.mark.parametrize("name", GRIDS)


def built(name: str, shallow: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """Two rows of one noise and two texts."""
    model, inputs = BY_NAME[name].shallow() if shallow else BY_NAME[name].build()
    noise = inputs["hidden_states"]
    return model, {**inputs, "hidden_states": noise[:1].repeat(2, *[1] * (noise.ndim - 1))}


def top(name: str) -> Tensor:
    """A mask of the grid's upper edge, in every frame."""
    mask = torch.zeros(GRIDS[name])
    mask[..., 0, :] = 1
    return mask


def schedule(levels: tuple[float, ...] = LEVELS) -> Any:
    sigmas = torch.tensor(levels)
    return SimpleNamespace(timesteps=1000 * sigmas, sigmas=sigmas)


def walk(model: Any, inputs: dict[str, Any], name: str, levels: tuple[float, ...] = LEVELS) -> list[Tensor]:
    """Predictions at falling levels, each from latents moved a little along the one before."""
    latents, found = inputs["hidden_states"], []
    for sigma in levels:
        time = torch.full((len(latents),), sigma * (1 if name in ("flux", "qwen_image") else 1000))
        found.append(output(model, {**inputs, "hidden_states": latents, "timestep": time}))
        latents = latents - 0.1 * found[-1][:, :4] if found[-1].shape != latents.shape else latents - 0.1 * found[-1]
    return found


def everywhere(**options: Any) -> ConsistEdit:
    return ConsistEdit(where=at(), **options)


@every_host
def test_source_rows_are_bitwise_those_of_a_run_of_the_source_alone(name: str) -> None:
    model, inputs = built(name)
    plain = output(model, inputs)
    with attach(model, everywhere(mask=top(name), strength=0.5), rows=PAIR):
        out = output(model, inputs)
    assert torch.equal(out[0], plain[0])
    assert (out[1] - plain[1]).abs().max() > 1e-4


@every_host
def test_twins_stay_twins_through_all_steps(name: str) -> None:
    model, inputs = built(name)
    for key, value in inputs.items():
        if isinstance(value, Tensor) and len(value) == 2:
            inputs[key] = value[[0, 0]]
    plain = walk(model, inputs, name)
    with attach(model, everywhere(mask=top(name), strength=0.5), rows=PAIR, schedule=schedule()):
        for out, without in zip(walk(model, inputs, name), plain, strict=True):
            assert torch.equal(out[0], out[1]) or not torch.equal(without[0], without[1])  # some hosts round by row
            torch.testing.assert_close(out[0], out[1], atol=1e-5, rtol=1e-5)


@every_host
def test_neutral_settings_are_bitwise_the_host(name: str) -> None:
    model, inputs = built(name)
    plain = output(model, inputs)
    with attach(model, everywhere(strength=0), rows=PAIR) as run:
        assert torch.equal(output(model, inputs), plain)
    assert all(site.calls == 0 for site in run.report().sites)


@every_host
def test_what_each_site_attends_with(name: str) -> None:
    """Kept places have the source's q, k, v bitwise, edited ones its q and k alone while structure is kept."""
    model, inputs = built(name)
    source, target = Tape(), Tape()
    recorders = (
        OperandRecorder(tape=tape, role=role, where=at()) for tape, role in ((source, "source"), (target, "target"))
    )
    edit = everywhere(mask=top(name), strength=0.5)
    with attach(model, edit, *recorders, rows=PAIR, schedule=schedule()) as run:
        walk(model, inputs, name)
    inside = top(name).flatten().bool()
    for site in run.sites:
        for step, sigma in enumerate(LEVELS):
            theirs, own = source.at(sigma, site.name), target.at(sigma, site.name)
            for operand in "qkv":
                same = (theirs[operand] == own[operand]).all(-1).all(1)[0]
                assert same[~inside].all()
                if step < 2 and operand != "v":
                    assert same[inside].all()
                elif (
                    step and site is run.sites[-1]
                ):  # before any text was attended to both rows are the same of themselves
                    assert not same[inside].any()


@every_host
def test_a_site_of_the_last_stage_is_edited_and_no_other(name: str) -> None:
    model, inputs = built(name)
    with attach(model, ConsistEdit(), rows=PAIR) as run:
        output(model, inputs)
    edited = {site.name for site in run.report().sites if site.calls}
    assert edited == {
        site.name for site in run.sites if site.name.startswith("single") or "single" not in str(run.sites)
    }


def test_sd3s_second_attention_is_edited_too() -> None:
    model, inputs = built("sd3")
    with attach(model, ConsistEdit(), rows=PAIR) as run:
        output(model, inputs)
    assert {site.name for site in run.report().sites if site.calls} >= {"transformer_blocks.0.attn2"}


@pytest.mark.parametrize("name", ["flux", "wan"])
def test_an_edit_goes_on_from_a_tape_as_if_its_source_were_there(name: str) -> None:
    model, inputs = built(name)
    second = {k: v[1:] if isinstance(v, Tensor) and len(v) == 2 else v for k, v in inputs.items()}
    edit, tape = everywhere(mask=top(name), strength=0.5), Tape()
    with attach(model, edit, OperandRecorder(tape=tape, role="source", where=at()), rows=PAIR, schedule=schedule()):
        both = walk(model, inputs, name)
    again = everywhere(mask=top(name), strength=0.5, tape=tape)
    with attach(model, again, rows=Rows.of("target"), schedule=schedule()):
        alone = walk(model, second, name)
    for a, b in zip(alone, both, strict=True):
        torch.testing.assert_close(a[0], b[1], atol=1e-5, rtol=1e-5)


def test_a_second_round_keeps_what_the_first_one_made() -> None:
    """Edits of an edit: with nothing editable, round two has the visual operands of round one's target everywhere."""
    model, inputs = built("flux")
    made, checked = Tape(), Tape()
    recorder = OperandRecorder(tape=made, role="target", where=at())
    with attach(model, everywhere(strength=0.5), recorder, rows=PAIR, schedule=schedule()):
        walk(model, inputs, "flux")
    third = {**inputs, "encoder_hidden_states": torch.randn_like(inputs["encoder_hidden_states"])}
    second = everywhere(mask=torch.zeros(4, 4), tape=made)
    watch = OperandRecorder(tape=checked, role="target", where=at())
    with attach(model, second, watch, rows=Rows.of("target", samples=2), schedule=schedule()) as run:
        walk(model, third, "flux")
    for site in run.sites:
        for sigma in LEVELS:
            first, then = made.at(sigma, site.name), checked.at(sigma, site.name)
            assert all(torch.equal(then[operand][:1], first[operand]) for operand in "qkv")


def test_a_recorder_changes_nothing_and_keeps_the_last_pass() -> None:
    model, inputs = built("cogvideox")
    plain, tape = output(model, inputs), Tape()
    with attach(model, OperandRecorder(tape=tape, device="cpu"), schedule=schedule()) as run:
        for _ in range(2):
            out = walk(model, inputs, "cogvideox", LEVELS[:1])[0]
    assert torch.equal(out, walk(model, inputs, "cogvideox", LEVELS[:1])[0]) and plain.shape == out.shape
    assert all(tape.levels(site.name) == [1.0] for site in run.sites)
    assert tape.at(1.0, run.sites[0].name)["k"].shape == (2, 2, 36, 16)


def draw(pipe: Any, prompts: list[str], seeds: list[int], **options: Any) -> Tensor:
    noise = [torch.Generator().manual_seed(seed) for seed in seeds]
    made = pipe(prompts, height=32, width=32, num_inference_steps=4, generator=noise, output_type="latent", **options)
    return made.images


def test_guidance_stacks_both_rows_for_each_branch() -> None:
    pipe = tiny_sd3()
    prompts = ["a red circle", "a blue circle"]
    plain = draw(pipe, prompts, [0, 0], guidance_scale=5.0)
    with attach(pipe, ConsistEdit(), rows=PAIR):
        out = draw(pipe, prompts, [0, 0], guidance_scale=5.0)
        twins = draw(pipe, prompts[:1] * 2, [0, 0], guidance_scale=5.0)
    assert torch.equal(out[0], plain[0]) and not torch.equal(out[1], plain[1])
    assert torch.equal(twins[0], twins[1])


def test_other_noise_is_refused() -> None:
    pipe = tiny_flux()
    with (
        attach(pipe, ConsistEdit(), rows=PAIR),
        pytest.raises(
            ValueError, match=r"target rows \[1\] start from other noise than their source rows \[0\]; give both"
        ),
    ):
        draw(pipe, ["a red circle", "a blue circle"], [0, 1], max_sequence_length=16)


@pytest.mark.compile
def test_compiled_agrees_with_eager_with_no_graph_per_step() -> None:
    torch._dynamo.reset()
    counters.clear()
    model, inputs = built("flux", shallow=True)
    edit = ConsistEdit(mask=top("flux"), strength=0.5)
    with attach(model, edit, rows=PAIR, schedule=schedule()):
        eager = walk(model, inputs, "flux")
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with attach(outer, edit, rows=PAIR, schedule=schedule()):
        for a, b in zip(walk(outer, inputs, "flux"), eager, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert counters["stats"]["unique_graphs"] <= 2  # as many as plans; where only numbers differ, fewer


@pytest.mark.compile
def test_a_tape_is_recorded_and_read_in_one_graph() -> None:
    torch._dynamo.reset()
    model, inputs = built("flux", shallow=True)
    eager, tape = Tape(), Tape()
    with attach(model, OperandRecorder(tape=eager), schedule=schedule()):
        walk(model, inputs, "flux")
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    counters.clear()
    with attach(outer, OperandRecorder(tape=tape), schedule=schedule()) as run:
        walk(outer, inputs, "flux")
    assert counters["stats"]["unique_graphs"] == 1
    for site in run.sites[1:]:
        for sigma in LEVELS:
            torch.testing.assert_close(tape.at(sigma, site.name), eager.at(sigma, site.name), rtol=1e-5, atol=1e-5)
    counters.clear()
    torch._dynamo.reset()
    with attach(outer, ConsistEdit(tape=tape), rows=Rows.of("target", samples=2), schedule=schedule()):
        walk(outer, inputs, "flux")
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.bad_input
def test_what_cannot_be_done_is_refused_by_name() -> None:
    model, inputs = built("wan")
    with pytest.raises(MissingError, match=r"no 'rows.target' .*pass rows=Rows.of"), attach(model, ConsistEdit()):
        output(model, inputs)
    with (
        pytest.raises(
            ValueError, match=r"mask over \(2, 2, 3\) .* does not fit q of a grid \(3, 2, 3\); make it on the grid"
        ),
        attach(model, ConsistEdit(regions=(Region(mask=torch.ones(2, 2, 3)),)), rows=PAIR),
    ):
        output(model, inputs)
    with pytest.raises(ValueError, match="rows of 3 were given to attach, this forward has 2 batch rows"):
        with attach(model, ConsistEdit(), rows=Rows(("source", "target", "target"), (0, 0, 0))):
            output(model, inputs)
    with pytest.raises(ValueError, match=r"target rows \[1\] have no source row of their sample"):
        with attach(model, ConsistEdit(), rows=Rows(("source", "target"), (0, 1))):
            output(model, inputs)
    with pytest.raises(SelectorError, match="of 'consistedit' matches no attached site"):
        attach(model, ConsistEdit(where=at("single*")), rows=PAIR)


def test_a_system_that_changes_q_or_k_too_is_refused() -> None:
    model, inputs = built("flux")
    with attach(model, Clear(radius=2, ntk=10), ConsistEdit(), rows=PAIR):
        with pytest.raises(
            ConflictError, match=r"'clear' and 'consistedit' both change [qk] at site 'single_transformer"
        ):
            output(model, inputs)
    with attach(model, Clear(radius=2), ConsistEdit(), Same(), rows=PAIR):
        assert output(model, inputs).isfinite().all()
