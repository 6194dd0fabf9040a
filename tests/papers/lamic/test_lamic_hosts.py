"""LAMIC on tiny random models of the real classes: what reaches whom, and that nothing else changes."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.site import at
from saccade.papers.clear import Clear
from saccade.papers.lamic import Entity, Lamic
from saccade.systems.dense import Dense
from tests.hosts.tiny import BY_NAME, output
from tests.papers.lamic.kontext import LEFT, RIGHT, SECOND, changed, inputs, lamic, model

pytestmark = pytest.mark.host
TIMES = (1000, 400)  # the first and the second stage
DOUBLE = torch.float64
OWN = torch.tensor([c % 4 < 2 for c in range(16)])  # image tokens of the left half


def out(host: Any, given: dict[str, Any], *systems: Any, stage: int = 1, **options: Any) -> Tensor:
    """All image tokens and those of references, one forward in a stage."""
    time = torch.full_like(given["timestep"], TIMES[stage - 1] / 1000)
    with attach(host, *systems, schedule=TIMES, **options), torch.no_grad():
        return output(host, {**given, "timestep": time})


@pytest.mark.parametrize(
    "where", [{"reference": SECOND}, {"text": slice(2, 4)}, {"reference": SECOND, "text": slice(2, 4)}]
)
def test_the_first_stage_isolates_exactly(where: dict[str, slice]) -> None:
    host, given = model(DOUBLE), inputs(DOUBLE)
    before, after = (out(host, x, lamic()) for x in (given, changed(given, **where)))
    left = torch.cat((OWN, torch.ones(6).bool(), torch.zeros(6).bool()))
    assert torch.equal(before[:, left], after[:, left])
    assert (before - after)[:, ~left].abs().max() > 1e-3


@pytest.mark.parametrize(("stage", "options"), [
    (2, {}), (1, {"interaction": (1,)}), (1, {"padding": "hub", "hub": True}),
])  # fmt: skip
def test_the_second_stage_and_hubs_let_others_in(stage: int, options: dict[str, Any]) -> None:
    host, given = model(DOUBLE), inputs(DOUBLE)
    if options.pop("hub", False):
        options["entities"] = tuple(
            Entity(words=(2 * i,), region=(LEFT, RIGHT)[i], reference=f"reference{i + 1}") for i in range(2)
        )
    before, after = (out(host, x, lamic(**options), stage=stage) for x in (given, changed(given, reference=SECOND)))
    assert (before - after)[:, :16][:, OWN].abs().max() > 1e-6


def test_isolated_padding_closes_the_hub() -> None:
    host, given = model(DOUBLE), inputs(DOUBLE)
    entities = tuple(Entity(words=(2 * i,), region=(LEFT, RIGHT)[i], reference=f"reference{i + 1}") for i in range(2))
    system = lamic(entities=entities, padding="isolated")
    before, after = (out(host, x, system) for x in (given, changed(given, text=slice(2, 4), reference=SECOND)))
    assert torch.equal(before[:, :16][:, OWN], after[:, :16][:, OWN])


@pytest.mark.parametrize("stage", [1, 2])
def test_one_entity_on_the_whole_canvas_is_bitwise_the_host(stage: int) -> None:
    host, given = model(), inputs()
    one = {**given, "hidden_states": given["hidden_states"][:, :22], "img_ids": given["img_ids"][:22]}
    whole = Lamic(entities=(Entity(words=(0, 1), reference="reference1"),), first_stage=0.5)
    assert torch.equal(out(host, one, whole, stage=stage), out(host, one, stage=stage))


def test_a_first_stage_of_no_step_is_never_used() -> None:
    host, given = model(), inputs()
    assert torch.equal(out(host, given, lamic(first_stage=0.4)), out(host, given, lamic(first_stage=0.0)))
    assert not torch.equal(out(host, given, lamic(first_stage=0.5)), out(host, given, lamic(first_stage=0.0)))


@pytest.mark.parametrize("stage", [1, 2])
def test_swapping_entities_permutes_what_comes_out(stage: int) -> None:
    host, given = model(DOUBLE), inputs(DOUBLE)
    order = torch.cat((torch.arange(16), torch.arange(22, 28), torch.arange(16, 22)))
    swapped = {
        **given,
        "hidden_states": given["hidden_states"][:, order], "img_ids": given["img_ids"][order],
        "encoder_hidden_states": given["encoder_hidden_states"][:, [2, 3, 0, 1]],
    }  # fmt: skip
    entities = (
        Entity(words=(0, 1), region=RIGHT, reference="reference1"),
        Entity(words=(2, 3), region=LEFT, reference="reference2"),
    )
    found, other = out(host, given, lamic(), stage=stage), out(host, swapped, lamic(entities=entities), stage=stage)
    torch.testing.assert_close(other, found[:, order], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("kernel", ["sdpa", "gather", "reference"])
@pytest.mark.parametrize("stage", [1, 2])
def test_every_kernel_computes_the_same(kernel: str, stage: int) -> None:
    host, given = model(DOUBLE), inputs(DOUBLE)
    found = out(host, given, lamic(), Dense(kernel=kernel), stage=stage)
    torch.testing.assert_close(found, out(host, given, lamic(), stage=stage), atol=1e-10, rtol=1e-8)


def test_half_precision_isolates_as_well() -> None:
    host, given = model(torch.bfloat16), inputs(torch.bfloat16)
    before, after = (out(host, x, lamic()) for x in (given, changed(given, reference=SECOND)))
    assert before.dtype == torch.bfloat16 and torch.equal(before[:, :16][:, OWN], after[:, :16][:, OWN])
    full = out(model(), inputs(), lamic())
    torch.testing.assert_close(before.float(), full, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("pool", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stack_with_an_accelerating_system_stays_isolated(pool: int | None) -> None:
    host, given = model(DOUBLE), inputs(DOUBLE)
    before, after = (
        out(host, x, lamic(), Clear(radius=1.5, pool=pool)) for x in (given, changed(given, reference=SECOND))
    )
    crossed = (before - after)[:, :16][:, OWN].abs().max()
    assert crossed == 0 if pool is None else crossed > 0  # pooled keys are of both halves
    assert not torch.equal(before, out(host, given, lamic()))


def test_gradients_stay_within_an_entity() -> None:
    host, given = model(DOUBLE), inputs(DOUBLE)
    latents = given["hidden_states"].clone().requires_grad_()
    with attach(host, lamic(), schedule=TIMES):
        found = host(**{**given, "hidden_states": latents, "timestep": torch.ones(2, dtype=DOUBLE)})[0]
    (grad,) = torch.autograd.grad(found[:, :16][:, OWN].square().sum(), latents)
    assert not grad[:, 22:28].any() and not grad[:, :16][:, ~OWN].any() and grad[:, 16:22].abs().amax(2).min() > 0


def test_detaching_leaves_the_model_as_it_was() -> None:
    host, given = model(), inputs()
    before, looks = out(host, given), repr(host)
    out(host, given, lamic())
    assert torch.equal(out(host, given), before) and repr(host) == looks


def test_only_chosen_sites_are_masked() -> None:
    host, given = model(), inputs()
    with attach(host, lamic(where=at("single*")), schedule=TIMES) as run:
        output(host, {**given, "timestep": torch.ones(2)})
        density = {site.name: site.density for site in run.report().sites}
    assert all((share is not None and share < 1) is name.startswith("single") for name, share in density.items())


@pytest.mark.parametrize(
    "name", ["sd3", *(pytest.param(n, marks=pytest.mark.slow) for n in ("qwen_image", "hunyuan_video", "cogvideox"))]
)
def test_other_hosts_are_masked_by_text_and_place(name: str) -> None:
    host, given = BY_NAME[name].build()
    entities = (Entity(words=(0,), region=LEFT), Entity(words=(1,), region=RIGHT))
    scale = 1000 if given["timestep"].max() > 1 else 1
    first = {**given, "timestep": torch.full_like(given["timestep"], scale)}
    with attach(host, Lamic(entities=entities, first_stage=0.5), schedule=TIMES) as run:
        found, sites = output(host, first), run.report().sites
    assert found.isfinite().all() and not torch.equal(found, output(host, first))
    assert all(site.density is not None and site.density < 1 for site in sites if site.calls)


def test_references_of_qwen_image_edit_are_segments_too() -> None:
    host, given = BY_NAME["qwen_image"].build()
    shape = given["img_shapes"][0][0]
    more = torch.randn(2, 6, given["hidden_states"].shape[2], generator=torch.Generator().manual_seed(3))
    both = {
        **given,
        "hidden_states": torch.cat((given["hidden_states"], more), dim=1), "img_shapes": [[shape, (1, 2, 3)]] * 2,
    }  # fmt: skip
    entities = (Entity(words=(0,), region=LEFT, reference="reference1"), Entity(words=(1,), region=RIGHT))
    system = Lamic(entities=entities, first_stage=0.5, padding="isolated", negative=((), ()))
    right = torch.arange(shape[1] * shape[2]) % shape[2] >= shape[2] / 2
    other = {**both, "hidden_states": both["hidden_states"].clone()}
    other["hidden_states"][:, -6:] += 1
    outs = []
    for latents in (both, other):
        with attach(host, system, schedule=TIMES):  # anew, since a second forward of a step is the negative prompt's
            outs.append(output(host, {**latents, "timestep": torch.ones_like(given["timestep"])}))
    before, after = outs
    n = shape[1] * shape[2]
    assert torch.equal(before[:, :n][:, right], after[:, :n][:, right])
    assert not torch.equal(before[:, :n][:, ~right], after[:, :n][:, ~right])


@pytest.mark.compile
def test_a_compiled_model_has_at_most_a_graph_for_each_stage() -> None:
    host, given = BY_NAME["flux"].shallow()[0], inputs()
    times, system = (1000, 600, 300), lamic(first_stage=0.34)

    def walk(model: Any) -> list[Tensor]:
        with attach(model, system, schedule=times):
            return [output(model, {**given, "timestep": torch.full((2,), time / 1000)}) for time in times]

    wanted = walk(host)
    counters.clear()
    for found, eager in zip(walk(torch.compile(host, backend="eager", fullgraph=True)), wanted, strict=True):
        torch.testing.assert_close(found, eager, atol=1e-5, rtol=1e-4)
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    system = lamic(first_stage=0.0)
    assert (walk(host)[0] - wanted[0]).abs().max() > 1e-4  # or the comparison would not see which stage ran
