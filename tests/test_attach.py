"""The handle: pipelines, clock, rows, state, heads, reports. What holds of every host is in tests/hosts."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, StableDiffusion3Pipeline
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.errors import SaccadeError
from saccade.core.layout import Layout
from saccade.core.masks import Table
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.rows import Rows
from saccade.core.site import Site, at
from saccade.core.state import Memory
from saccade.families import FAMILIES, offers
from saccade.run.planner import LATELY
from saccade.run.schedule import Schedule
from tests.hosts.stand_ins import WINDOW, Kept, Looking, Masked, Nothing, Same, Scaled, Steps, looking
from tests.hosts.tiny import BY_NAME, PLAIN, output

pytestmark = pytest.mark.host
STEPS = 4


def flux_pipe() -> tuple[Any, dict[str, Any]]:
    model, _ = BY_NAME["flux"].build()
    pipe = FluxPipeline(FlowMatchEulerDiscreteScheduler(), None, None, None, None, None, model)
    pipe.set_progress_bar_config(disable=True)
    call = {
        "prompt_embeds": torch.randn(1, 6, 32), "pooled_prompt_embeds": torch.randn(1, 32), "height": 64, "width": 64,
        "num_inference_steps": STEPS, "output_type": "latent",
    }  # fmt: skip
    return pipe, call


def sd3_pipe() -> tuple[Any, dict[str, Any]]:
    model, _ = BY_NAME["sd3"].build()
    pipe = StableDiffusion3Pipeline(model, FlowMatchEulerDiscreteScheduler(), *(None,) * 7)
    pipe.set_progress_bar_config(disable=True)
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    shapes = ((1, 6, 32), (1, 6, 32), (1, 32), (1, 32))
    call = {name: torch.randn(shape) for name, shape in zip(names, shapes, strict=True)}
    return pipe, {**call, "height": 64, "width": 64, "num_inference_steps": STEPS, "output_type": "latent"}


def draw(pipe: Any, call: dict[str, Any], **more: Any) -> Tensor:
    return pipe(**call, **more, generator=torch.Generator().manual_seed(0)).images


def test_an_empty_stack_leaves_a_pipeline_bitwise_as_it_is() -> None:
    pipe, call = flux_pipe()
    before = draw(pipe, call)
    with attach(pipe) as run:
        assert torch.equal(draw(pipe, call), before)
    assert run.report().forwards == STEPS
    assert torch.equal(draw(pipe, call), before)


def test_the_step_is_looked_up_in_the_schedule() -> None:
    pipe, call = flux_pipe()
    seen: list[Clock] = []
    with attach(pipe, Steps(seen)) as run:
        seen.clear()
        draw(pipe, call)
    clocks = list(dict.fromkeys(seen))
    assert [c.step for c in clocks] == list(range(STEPS)) and {c.num_steps for c in clocks} == {STEPS}
    assert [c.sigma for c in clocks] == pipe.scheduler.sigmas[:STEPS].tolist()
    assert [c.timestep for c in clocks] == pipe.scheduler.timesteps.tolist()
    assert run.report().steps == STEPS
    assert {site.calls for site in run.report().sites} == {STEPS // 2}


def test_steps_alike_in_low_precision_are_told_apart_by_the_schedulers_index() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps is not None
    schedule = Schedule(scheduler)
    assert schedule.refresh() and not schedule.refresh()
    given = [(t / 1000).to(torch.bfloat16) for t in scheduler.timesteps]
    assert len({float(t) for t in given}) < 50
    scheduler.set_begin_index(0)
    sample = torch.zeros(1)
    for step, t in enumerate(given):
        assert schedule.clock(t, 1000).step == step
        scheduler.step(sample, scheduler.timesteps[step], sample)


def test_a_timestep_outside_the_schedule_is_an_error() -> None:
    model, inputs = BY_NAME["flux"].build()
    with (
        attach(model, Same(), schedule=[1000.0, 750.0]),
        pytest.raises(ValueError, match="timestep 500 is not in the sch"),
    ):
        output(model, inputs)


def test_during_needs_a_schedule() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Same(), where=at(during=(0.0, 0.5))):
        with pytest.raises(ValueError, match=r"during=\(0.0, 0.5\) needs the step of a forward; attach the pipeline"):
            output(model, inputs)
    pipe, call = flux_pipe()
    with attach(pipe, Same(), where=at(during=(0.0, 0.5))) as run:
        draw(pipe, call)
    assert {site.calls for site in run.report().sites} == {STEPS // 2}


def test_guidance_in_one_batch_is_told_by_rows() -> None:
    pipe, call = sd3_pipe()
    rows: list[Rows | None] = []
    with attach(pipe, looking(lambda c: rows.append(c.rows))):
        draw(pipe, call, guidance_scale=5.0)
        assert set(rows) == {Rows.of("uncond", "cond")}
        rows.clear()
        draw(pipe, call, guidance_scale=1.0)
    assert set(rows) == {Rows.of("cond")}


def test_guidance_in_two_forwards_is_two_branches_of_one_step() -> None:
    pipe, call = flux_pipe()
    more = {"negative_prompt_embeds": torch.randn(1, 6, 32), "negative_pooled_prompt_embeds": torch.randn(1, 32)}
    branches: list[tuple[int, str]] = []
    with attach(pipe, looking(lambda c: branches.append(c.rows.roles[0])), Looking(Kept(), "kept")) as run:
        draw(pipe, call, **more, true_cfg_scale=3.0)
        kept = {branch for _, _, branch in run.state.memories}
    assert branches[:4] == ["cond"] * 4 and branches[4:8] == ["uncond"] * 4
    assert kept == {"cond", "uncond"}
    assert (run.report().forwards, run.report().steps) == (2 * STEPS, STEPS)


def test_state_is_forgotten_between_generations() -> None:
    pipe, call = flux_pipe()
    with attach(pipe, Looking(Kept())) as run:
        first = draw(pipe, call)
        assert torch.equal(draw(pipe, call), first)
    plain = draw(pipe, call)
    assert not torch.equal(first, plain)
    assert all(not memory.now for memory in run.state.memories.values())


def test_rows_given_by_hand_reach_the_call_and_must_fit() -> None:
    model, inputs = BY_NAME["wan"].build()
    rows, seen = Rows.of("source", "target"), []
    with attach(model, looking(lambda c: seen.append(c.rows), "rows.source"), rows=rows):
        output(model, inputs)
    assert set(seen) == {rows}
    with attach(model, Same(), rows=Rows.of("cond")), pytest.raises(ValueError, match="rows of 1 .* has 2 batch rows"):
        output(model, inputs)


def test_heads_not_chosen_stay_bitwise() -> None:
    model, inputs = BY_NAME["plain"].build()
    model[0].out, model[1], model[2] = nn.Identity(), nn.Identity(), nn.Identity()
    before = output(model, inputs).unflatten(-1, (2, -1))
    with attach(model, Looking(Scaled(4.0)), where=at(heads=(1,)), layout=PLAIN):
        chosen = output(model, inputs).unflatten(-1, (2, -1))
    with attach(model, Looking(Scaled(4.0)), layout=PLAIN):
        every = output(model, inputs).unflatten(-1, (2, -1))
    assert torch.equal(chosen[..., 0, :], before[..., 0, :])
    torch.testing.assert_close(chosen[..., 1, :], every[..., 1, :])
    assert not torch.equal(chosen[..., 1, :], before[..., 1, :])


def test_a_pipeline_of_two_experts_is_attached_as_a_whole() -> None:
    (one, inputs), (two, _) = BY_NAME["wan"].build(0), BY_NAME["wan"].build(1)
    pipe = SimpleNamespace(transformer=one, transformer_2=two, scheduler=[500.0, 250.0])
    with attach(pipe, Same()) as run:
        output(one, inputs)
        output(two, {**inputs, "timestep": torch.tensor([250, 250])})
    assert [s.name for s in run.sites] == [f"{p}blocks.{i}.attn1" for p in ("", "transformer_2.") for i in (0, 1)]
    assert {site.calls for site in run.report().sites if not site.note} == {1}


def test_several_systems_of_one_name_keep_apart() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Looking(Kept()), Masked(), Looking(Idle())) as run:
        output(model, inputs)
        assert sorted({name for name, _, _ in run.state.memories}) == ["looking", "looking#2", "masked"]


class Idle(Mechanism):
    """Observes, and does nothing with it."""

    def observe(self, call: AttentionCall, parts: Any, mem: Memory) -> None:
        return None


def test_the_report_tells_what_ran_where() -> None:
    model, inputs = BY_NAME["hunyuan_video"].build()
    with attach(model, Masked(), where=at("transformer_blocks.*"), timing=True) as run:
        output(model, inputs)
    report = run.report()
    sites = {site.name: site for site in report.sites}
    masked, alone = sites["transformer_blocks.0.attn"], sites["single_transformer_blocks.0.attn"]
    assert masked.systems == ("masked",) and masked.kernel == "sdpa" and masked.calls == 1
    assert any("dense is faster" in why for reasons in masked.refused.values() for why in reasons)
    layout = Layout.joint(text=6, grid=(3, 2, 3), text_first=False)
    assert masked.density == pytest.approx(WINDOW.bind(layout, layout).density()) and 0 < (masked.seconds or 0) < 60
    assert alone.note == "not chosen by `where`" and alone.calls == 0
    assert "token refiner" in sites["context_embedder.token_refiner.refiner_blocks.0.attn"].note
    assert "HunyuanVideo: 1 forwards, 1 steps" in str(report) and "masked" in str(report)


def test_timing_covers_sites_without_a_plan_too() -> None:
    model, inputs = BY_NAME["flux"].build()
    for system in ((), (Nothing(),)):
        with attach(model, *system, timing=True) as run:
            output(model, inputs)
        assert all((site.seconds or 0) > 0 for site in run.report().sites)


def test_explain_shows_phases_before_anything_runs() -> None:
    pipe, _ = flux_pipe()
    with attach(pipe, Steps([])) as run:
        lines = run.explain(num_steps=6).splitlines()
    assert lines[0] == "transformer_blocks.0.attn ... single_transformer_blocks.1.attn (4 sites)"
    assert lines[1].startswith("  steps 0-2: steps: Among(") and lines[2] == "  steps 3-5: dense"


class Phased:
    """Needs a first phase that this configuration never reaches."""

    name = "phased"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if clock.num_steps == 7 and clock.step == 6:
            raise SaccadeError("'phased' reuses at step 6 what no step selected; give it a selecting phase")
        return ()


def test_explain_refuses_what_a_plan_would_refuse_later() -> None:
    model, _ = BY_NAME["flux"].build()
    with attach(model, Phased()) as run, pytest.raises(SaccadeError, match="no step selected"):
        run.explain(num_steps=7)


def test_equal_answers_share_one_preparation() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Masked()) as run:
        output(model, inputs)
        first = [interceptor.plan for interceptor in run._interceptors()]
        output(model, inputs)
        assert all(interceptor.plan is plan for interceptor, plan in zip(run._interceptors(), first, strict=True))
    assert len({id(plan.mask) for plan in first if plan}) == 1 and len({id(plan) for plan in first}) == 4


def test_the_table_of_offers_lists_every_family() -> None:
    table = offers()
    assert all(
        name in table for name in ("FLUX", "SD3", "PixArt", "DiT", "Wan", "CogVideoX", "HunyuanVideo", "Qwen-Image")
    )
    sd3 = next(line for line in table.splitlines() if line.startswith("| SD3 |"))
    assert sd3.split("|")[-3:-1] == [" - ", " joint, self "]


def test_the_documented_table_is_the_one_the_families_give() -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "hosts.md"
    assert offers() in page.read_text()


def test_a_family_given_by_hand_is_used() -> None:
    model, inputs = BY_NAME["flux"].build()
    known = next(family for family in FAMILIES if family.name == "FLUX")
    mine = replace(known, name="Mine", sites={"single_transformer_blocks.*.attn": "joint"})
    with attach(model, Same(), family=mine) as run:
        output(model, inputs)
    assert len(run.sites) == 2 and run.report().host == "Mine"
    with pytest.raises(ValueError, match="layout= and family= both say what the tokens are"):
        attach(model, Same(), family=mine, layout=PLAIN)


class Fresh:
    """A new mask at every step, equal to none before."""

    name = "fresh"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (Table(torch.zeros(22).long(), torch.zeros(22).long(), torch.ones(1, 1).bool()) & WINDOW,)


def test_preparations_nobody_wants_any_more_are_let_go() -> None:
    model, inputs = BY_NAME["flux"].build()
    with attach(model, Fresh(), where=at("transformer_blocks.0.attn")) as run:
        for _ in range(LATELY + 6):
            output(model, inputs)
        assert len(run.planner.shared) == len(run.planner.plans) == LATELY + 1
        assert len(run._choices) <= LATELY + 1
    assert not run.planner.shared
