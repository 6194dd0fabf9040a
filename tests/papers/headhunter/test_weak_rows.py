"""Weak rows on the pipelines of diffusers: what reaches the scheduler is the paper's formula, term by term.

The pipelines' first step is stopped at the scheduler; its terms are forwards of the same model, each alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.errors import ConflictError, MissingError, StateError
from saccade.core.mechanism import PlanItem
from saccade.core.rows import Rows
from saccade.core.site import Site, at
from saccade.papers.clear import Clear
from saccade.papers.consistedit import ConsistEdit
from saccade.papers.headhunter import SoftPAG
from saccade.papers.headhunter.weakened_heads import WeakenedHeads
from tests.hosts.tiny import BY_NAME, output
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
NO_TEXT = {"text_encoder": None, "tokenizer": None, "vae": None}
EULER = {"use_dynamic_shifting": False}
UNIPC = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
HEADS, W, S = ((0, 1), (1, 0)), 2.5, 3.0


class Stopped(Exception):  # noqa: N818
    """The scheduler was reached."""


@dataclass(frozen=True)
class AllWeak:
    """Weakens every row of a batch said to be weak."""

    name: str = "all weak"
    scope: str = "image_block"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        heads = tuple(head for layer, head in HEADS if layer == site.layer)
        return (WeakenedHeads(heads=heads, scope=self.scope),) if heads and site.kind != "cross" else ()  # type: ignore[arg-type]


@dataclass
class Case:
    """A pipeline, the arguments of a call for two samples, and how guidance is switched on.

    order  branches stacked in one batch; None where they run in turn, the conditional one first
    said   whether the pipeline says if it is guided
    """

    pipe: Any
    call: dict[str, Any]
    guided: dict[str, Any]
    order: tuple[str, str] | None = None
    said: bool = True
    plain: dict[str, Any] = field(default_factory=dict)

    def rows(self, guided: bool) -> Rows | None:
        if self.said:
            return None
        return Rows.of(*(self.order if guided and self.order else ("cond",)), samples=2)  # type: ignore[arg-type]


def texts(*shape: int, pooled: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    both = []
    for before in ("", "negative_"):
        one = {f"{before}prompt_embeds": torch.randn(2, *shape)}
        both.append(one | ({f"{before}pooled_prompt_embeds": torch.randn(2, pooled)} if pooled else {}))
    return both[0], both[1]


def flux() -> Case:
    more = {"text_encoder_2": None, "tokenizer_2": None}
    pipe = diffusers.FluxPipeline(
        **NO_TEXT, **more, transformer=BY_NAME["flux"].build()[0],
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER),
    )  # fmt: skip
    own, negative = texts(6, 32, pooled=32)
    call = {**own, "height": 32, "width": 32, "latents": torch.randn(2, 4, 4)}
    return Case(pipe, call, {**negative, "true_cfg_scale": S})


def sd3() -> Case:
    parts = dict.fromkeys(f"{part}_{i}" for part in ("text_encoder", "tokenizer") for i in (2, 3))
    pipe = diffusers.StableDiffusion3Pipeline(
        **NO_TEXT, **parts, transformer=BY_NAME["sd3"].build()[0],
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER),
    )  # fmt: skip
    own, negative = texts(6, 32, pooled=32)
    call = {**own, "height": 64, "width": 64, "latents": torch.randn(2, 4, 8, 8)}
    return Case(pipe, call, {**negative, "guidance_scale": S}, ("uncond", "cond"), plain={"guidance_scale": 1.0})


def pixart() -> Case:
    pipe = diffusers.PixArtAlphaPipeline(
        **NO_TEXT, transformer=BY_NAME["pixart"].build()[0], scheduler=diffusers.DDIMScheduler()
    )
    own, negative = texts(6, 24)
    masks = dict.fromkeys(("prompt_attention_mask", "negative_prompt_attention_mask"), torch.ones(2, 6))
    call = {
        **own, **negative, **masks, "negative_prompt": None, "height": 64, "width": 64, "use_resolution_binning": False,
        "latents": torch.randn(2, 4, 8, 8),
    }  # fmt: skip
    return Case(pipe, call, {"guidance_scale": S}, ("uncond", "cond"), said=False, plain={"guidance_scale": 1.0})


def dit() -> Case:
    torch.manual_seed(0)
    model = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000,
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    pipe = diffusers.DiTPipeline(model, None, diffusers.DDIMScheduler())
    return Case(
        pipe, {"class_labels": [1, 2], "generator": torch.Generator().manual_seed(0)}, {"guidance_scale": S},
        ("cond", "uncond"), said=False, plain={"guidance_scale": 1.0},
    )  # fmt: skip


def wan() -> Case:
    pipe = diffusers.WanPipeline(
        **NO_TEXT, transformer=BY_NAME["wan"].build()[0], scheduler=diffusers.UniPCMultistepScheduler(**UNIPC)
    )
    own, negative = texts(6, 16)
    call = {**own, **negative, "height": 32, "width": 48, "num_frames": 9, "latents": torch.randn(2, 4, 3, 4, 6)}
    return Case(pipe, call, {"guidance_scale": S}, plain={"guidance_scale": 1.0})


def cogvideox() -> Case:
    pipe = diffusers.CogVideoXPipeline(
        **NO_TEXT, transformer=BY_NAME["cogvideox"].build()[0], scheduler=diffusers.CogVideoXDDIMScheduler()
    )
    own, negative = texts(6, 16)
    call = {
        **own, **negative, "height": 48, "width": 64, "num_frames": 9, "latents": torch.randn(2, 3, 4, 6, 8),
    }  # fmt: skip
    return Case(pipe, call, {"guidance_scale": S}, ("uncond", "cond"), plain={"guidance_scale": 1.0})


def hunyuan_video() -> Case:
    pipe = diffusers.HunyuanVideoPipeline(
        **NO_TEXT, text_encoder_2=None, tokenizer_2=None, transformer=BY_NAME["hunyuan_video"].build()[0],
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER),
    )  # fmt: skip
    own, negative = texts(6, 16, pooled=8)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    call = {
        **own, "prompt_attention_mask": mask, "height": 32, "width": 48, "num_frames": 9,
        "latents": torch.randn(2, 4, 3, 4, 6),
    }  # fmt: skip
    return Case(pipe, call, {**negative, "negative_prompt_attention_mask": mask, "true_cfg_scale": S})


def qwen_image() -> Case:
    pipe = diffusers.QwenImagePipeline(
        **NO_TEXT, transformer=BY_NAME["qwen_image"].build()[0],
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER),
    )  # fmt: skip
    own, negative = texts(6, 16)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    call = {**own, "prompt_embeds_mask": mask, "height": 64, "width": 80, "latents": torch.randn(2, 20, 16)}
    return Case(
        pipe,
        call,
        {**negative, "negative_prompt_embeds_mask": mask, "true_cfg_scale": S},
        plain={"true_cfg_scale": 1.0},
    )


CASES: dict[str, Callable[[], Case]] = {
    make.__name__: make for make in (cogvideox, dit, flux, hunyuan_video, pixart, qwen_image, sd3, wan)
}


def opened(name: str) -> Case:
    torch.manual_seed(1)
    case = CASES[name]()
    case.pipe.set_progress_bar_config(disable=True)
    return case


@contextmanager
def caught(case: Case) -> Iterator[tuple[list[Tensor], list[tuple[dict[str, Any], Tensor]]]]:
    """What reached the scheduler, and the calls of the model with their outputs."""
    reached: list[Tensor] = []
    calls: list[tuple[dict[str, Any], Tensor]] = []

    def step(prediction: Tensor, *args: Any, **kwargs: Any) -> None:
        reached.append(prediction)
        raise Stopped

    def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        named = dict(zip(("hidden_states",), args, strict=False)) | kwargs
        calls.append((named, out[0]))

    hook = case.pipe.transformer.register_forward_hook(look, with_kwargs=True)
    case.pipe.scheduler.step = step
    yield reached, calls
    hook.remove()
    del case.pipe.scheduler.step


def first_step(case: Case, guided: bool, *systems: Any) -> tuple[Tensor, list[tuple[dict[str, Any], Tensor]]]:
    with caught(case) as (reached, calls), attach(case.pipe, *systems, rows=case.rows(guided)):
        with pytest.raises(Stopped):
            options = {**case.call, **(case.guided if guided else case.plain)}
            if "generator" in options:
                options["generator"].manual_seed(0)
            case.pipe(**options, num_inference_steps=4)
    return reached[0], calls


def weak_alone(case: Case, inputs: dict[str, Any], *more: Any) -> Tensor:
    """The prediction with every row weakened."""
    rows = Rows.of("weak", samples=len(inputs["hidden_states"]))
    with attach(case.pipe.transformer, *more, AllWeak(), rows=rows, schedule=case.pipe.scheduler):
        return output(case.pipe.transformer, {**inputs, "return_dict": False})


def by_formula(case: Case, guided: bool, calls: list[tuple[dict[str, Any], Tensor]], *more: Any) -> Tensor:
    inputs, out = calls[0]
    case.pipe.scheduler.set_begin_index(0) if hasattr(case.pipe.scheduler, "set_begin_index") else None
    weak = weak_alone(case, inputs, *more)
    if case.order is not None and guided:
        place = case.order.index("cond")
        cond, uncond, weak = out.chunk(2)[place], out.chunk(2)[1 - place], weak.chunk(2)[place]
    else:
        cond, uncond = out, calls[-1][1]
    steered = W * (cond - weak)
    if not guided:
        return cond + steered
    both = uncond + S * (cond - uncond) + steered
    if "QwenImage" in type(case.pipe).__name__:  # it scales its guided prediction to the norm of the conditional one
        own = (cond + steered).norm(dim=-1, keepdim=True)
        both = both * (own / both.norm(dim=-1, keepdim=True))
    return both


def compared(name: str, made: Tensor, wanted: Tensor) -> None:
    if name == "dit" and len(made) > len(wanted):  # it keeps both halves, which are alike
        assert torch.equal(*made.chunk(2))
        made = made[: len(wanted)]
    torch.testing.assert_close(made, wanted[:, : made.shape[1]], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
@pytest.mark.parametrize("name", CASES)
def test_what_reaches_the_scheduler_is_the_formula(name: str, guided: bool) -> None:
    case = opened(name)
    plain, calls = first_step(case, guided)
    made, _ = first_step(case, guided, SoftPAG(heads=HEADS, w=W))
    assert made.shape == plain.shape and (made - plain).abs().max() > 1e-3
    compared(name, made, by_formula(case, guided, calls))
    for neutral in (SoftPAG(), SoftPAG(heads=HEADS, u=0), SoftPAG(heads=HEADS, w=0)):
        assert torch.equal(first_step(case, guided, neutral)[0], plain)
    assert torch.equal(first_step(case, guided)[0], plain)


@pytest.mark.parametrize("guided", [False, True], ids=["plain", "guided"])
@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_it_stacks_with_a_sparse_system(name: str, guided: bool) -> None:
    case, disc = opened(name), Clear(radius=1.5)
    _, calls = first_step(case, guided, disc)
    made, _ = first_step(case, guided, disc, SoftPAG(heads=HEADS, w=W))
    compared(name, made, by_formula(case, guided, calls, disc))


def test_one_forward_a_branch_and_step_with_a_row_more_for_each_sample() -> None:
    case = opened("sd3")
    sizes: list[int] = []
    embed = case.pipe.transformer.pos_embed.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    with caught(case) as (_, calls), attach(case.pipe, SoftPAG(heads=HEADS)) as run:
        with pytest.raises(Stopped):
            case.pipe(**{**case.call, **case.guided}, num_inference_steps=4)
        assert {interceptor.rows.roles for interceptor in run._interceptors()} == {
            ("uncond",) * 2 + ("cond",) * 2 + ("weak",) * 2
        }  # type: ignore[union-attr]  # noqa: E501
    embed.remove()
    assert sizes == [6] and len(calls) == 1 and run.report().forwards == 1


def test_branches_in_turn_pay_for_the_conditional_one_alone() -> None:
    case, sizes = opened("flux"), []
    embed = case.pipe.transformer.x_embedder.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    first_step(case, True, SoftPAG(heads=HEADS))
    embed.remove()
    assert sizes == [4, 2]


def test_a_whole_run_differs_and_is_put_back() -> None:
    pipe = tiny_flux()

    def drawn(*systems: Any, **options: Any) -> Tensor:
        with attach(pipe, *systems):
            return pipe(
                "a red circle", height=32, width=32, num_inference_steps=4, output_type="latent",
                generator=torch.Generator().manual_seed(0), **options,
            ).images  # fmt: skip

    plain, steered = drawn(), drawn(SoftPAG(layers=(0, 1)))
    assert steered.shape == plain.shape and not torch.equal(steered, plain)
    assert torch.equal(steered, drawn(SoftPAG(layers=(0, 1)))) and torch.equal(plain, drawn())
    early = drawn(SoftPAG(layers=(0, 1), where=at(during=(0.0, 0.5))))
    assert not torch.equal(early, plain) and not torch.equal(early, steered)
    assert drawn(SoftPAG(layers=(0,)), negative_prompt="", true_cfg_scale=2.0).isfinite().all()


def test_rows_of_an_edit_have_weak_rows_of_their_own() -> None:
    """Source and target each steer away from a weak copy, and the weak target reads the weak source."""
    model, inputs = BY_NAME["flux"].build()
    rows = Rows.of("source", "target")
    inputs["hidden_states"] = inputs["hidden_states"][:1].expand(2, -1, -1).contiguous()
    edit = ConsistEdit(where=at())
    with attach(model, edit, SoftPAG(heads=HEADS, w=W), rows=rows, schedule=[500.0]):
        made = output(model, inputs)
    with attach(model, edit, rows=rows, schedule=[500.0]):
        plain = output(model, inputs)
    weak = Rows(("source", "target"), (0, 0), ("weak", "weak"))
    with attach(model, edit, AllWeak(), rows=weak, schedule=[500.0]):
        weakened = output(model, inputs)
    torch.testing.assert_close(made, plain + W * (plain - weakened), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_low_precision_stays_within_its_own_rounding(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    rows = Rows.of("uncond", "cond") if name == "sd3" else None

    def drawn(given: dict[str, Any], *systems: Any) -> Tensor:
        with attach(model, *systems, rows=rows):
            return output(model, given)

    system = SoftPAG(heads=HEADS, w=W)
    fine, plain = drawn(inputs, system), drawn(inputs)
    half = {k: v.bfloat16() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()}
    model.bfloat16()
    made, rough = drawn(half, system), drawn(half)
    assert made.dtype == torch.bfloat16
    rounding = (rough.float() - plain).abs().max()
    assert (made.float() - fine).abs().max() <= (1 + 2 * W) * rounding + 1e-2


@pytest.mark.compile
@pytest.mark.parametrize("others", [(), (Clear(radius=1.5),)], ids=["alone", "stacked"])
@pytest.mark.parametrize("kind", ["identity", "query_mean", "max"])
def test_compiled_agrees_with_eager(kind: str, others: tuple[Any, ...]) -> None:
    torch._dynamo.reset()
    model, inputs = BY_NAME["flux"].shallow()
    system = SoftPAG(layers=(0,), heads=((1, 1),), kind=kind, u=0.7, w=W)  # type: ignore[arg-type]
    with attach(model, *others, system):
        eager = output(model, inputs)
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with attach(outer, *others, system):
        for _ in range(2):
            torch.testing.assert_close(output(outer, inputs), eager, atol=1e-5, rtol=1e-4)
    torch._dynamo.reset()


def test_gradients_flow_through_both_copies() -> None:
    model, inputs = BY_NAME["flux"].build()
    latents = inputs["hidden_states"].requires_grad_()
    with attach(model, SoftPAG(heads=HEADS, w=W)):
        model(**inputs)[0].square().sum().backward()
    steered, latents.grad = latents.grad, None
    assert steered is not None and steered.isfinite().all()
    with attach(model):
        model(**inputs)[0].square().sum().backward()
    assert not torch.allclose(steered, latents.grad)


@pytest.mark.bad_input
def test_what_cannot_be_steered_is_refused() -> None:
    model, inputs = BY_NAME["pixart"].build()
    with attach(model, SoftPAG(layers=(0,))):
        with pytest.raises(MissingError, match=r"no 'rows.cond' .*'softpag'.* pass rows=Rows.of\('uncond', 'cond'\)"):
            output(model, inputs)
    model, inputs = BY_NAME["flux"].build()
    with attach(model, SoftPAG(layers=(0,)), SoftPAG(layers=(1,))):
        with pytest.raises(ConflictError, match="'softpag' and 'softpag#2' both want weak rows in step 0"):
            output(model, inputs)
    with attach(model, SoftPAG(layers=(0,)), schedule=[500.0]):
        output(model, inputs)
        batched = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep")
        more = {name: torch.cat((x, x)) if name in batched else x for name, x in inputs.items()}
        said = "steers the uncond branch of step 0 by the conditional one, which did not"
        with pytest.raises(StateError, match=said):
            output(model, more)
