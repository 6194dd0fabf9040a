"""What families of one stream say of their pipelines: rows, branches and steps, whichever way time is counted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Parts
from saccade.core.rows import Rows
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.papers.headhunter import SoftPAG
from tests.hosts.models.streams import HOSTS
from tests.hosts.stand_ins import Masked

pytestmark = pytest.mark.host
BY_NAME = {host.name: host for host in HOSTS}
NO_TEXT = {"text_encoder": None, "tokenizer": None, "vae": None}
CALL = {"num_inference_steps": 3, "output_type": "latent"}
Made = tuple[Any, dict[str, Any]]


def flow(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def z_image(transformer: Any) -> Made:
    from diffusers import ZImagePipeline

    texts = {
        "prompt_embeds": [torch.randn(5, 16), torch.randn(40, 16)],
        "negative_prompt_embeds": [torch.randn(3, 16)] * 2,
    }
    pipe = ZImagePipeline(**NO_TEXT, transformer=transformer, scheduler=flow(shift=3.0))
    return pipe, {**CALL, **texts, "height": 64, "width": 96, "guidance_scale": 4.0}


def lumina2(transformer: Any) -> Made:
    from diffusers import Lumina2Pipeline

    masks = {"prompt_attention_mask": [[1, 1, 1, 1, 0]] * 2, "negative_prompt_attention_mask": [[1, 1, 0, 0, 0]] * 2}
    texts = {"prompt_embeds": torch.randn(2, 5, 16), "negative_prompt_embeds": torch.randn(2, 5, 16)}
    texts |= {name: torch.tensor(mask) for name, mask in masks.items()}
    pipe = Lumina2Pipeline(**NO_TEXT, transformer=transformer, scheduler=flow(shift=6.0))
    return pipe, {**CALL, **texts, "height": 64, "width": 96, "cfg_trunc_ratio": 0.5}


def lumina_next(transformer: Any) -> Made:
    from diffusers import LuminaPipeline

    texts = {name: torch.randn(2, 6, 16) for name in ("prompt_embeds", "negative_prompt_embeds")}
    masks = {f"{name}prompt_attention_mask": torch.ones(2, 6, dtype=torch.long) for name in ("", "negative_")}
    pipe = LuminaPipeline(**NO_TEXT, transformer=transformer, scheduler=flow())
    return pipe, {**CALL, **texts, **masks, "height": 64, "width": 96}


def hidream(transformer: Any) -> Made:
    from diffusers import HiDreamImagePipeline

    nothing = {f"{name}_{i}": None for name in ("text_encoder", "tokenizer") for i in (2, 3, 4)}
    texts = {
        f"{side}{name}": torch.randn(*shape)
        for side in ("", "negative_")
        for name, shape in (
            ("prompt_embeds_t5", (2, 3, 16)),
            ("prompt_embeds_llama3", (2, 2, 4, 24)),
            ("pooled_prompt_embeds", (2, 8)),
        )
    }
    pipe = HiDreamImagePipeline(**NO_TEXT, **nothing, transformer=transformer, scheduler=flow(shift=3.0))
    pipe.default_sample_size = 8  # of which it makes the area of every picture
    return pipe, {**CALL, **texts, "height": 64, "width": 80}


class Templates:
    """Of a processor, what the pipeline asks when it is made: how long its opening is, what stands for a picture."""

    @property
    def tokenizer(self) -> "Templates":
        return self

    def encode(self, text: str) -> list[int]:
        return [0]

    def apply_chat_template(self, *args: Any, **options: Any) -> list[list[int]]:
        return [[0]]


def qwen_image21(transformer: Any) -> Made:
    from diffusers import QwenImage21Pipeline

    pipe = QwenImage21Pipeline(
        flow(use_dynamic_shifting=True), vae=None, text_encoder=None, processor=Templates(), transformer=transformer
    )
    texts = {"prompt_embeds": torch.randn(2, 6, 16), "negative_prompt_embeds": torch.randn(2, 4, 16)}
    return pipe, {**CALL, **texts, "height": 64, "width": 96, "true_cfg_scale": 2.0}


@dataclass(frozen=True, eq=False)
class Watch(Mechanism):
    """Keeps the roles of the rows of every call."""

    rows: list[tuple[str, ...]]

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        assert call.rows is not None and call.rows.n == call.q.shape[0]
        self.rows.append(call.rows.roles)


@dataclass(frozen=True, eq=False)
class Watched:
    """Collects the clock and the rows of every forward."""

    clocks: list[Clock] = field(default_factory=list)
    rows: list[tuple[str, ...]] = field(default_factory=list)
    name: str = "watched"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.index:
            return ()
        self.clocks.append(clock)
        return (Watch(self.rows),)


PIPES: dict[str, Callable[[Any], Made]] = {
    make.__name__: make for make in (hidream, lumina2, lumina_next, qwen_image21, z_image)
}
BOTH = [("cond",) * 2, ("uncond",) * 2]
ROLES = {
    "hidream": [("uncond", "uncond", "cond", "cond")] * 3,
    "lumina2": [*BOTH, ("cond",) * 2, ("cond",) * 2],  # guidance ends after half of the steps
    "lumina_next": [("cond", "cond", "uncond", "uncond")] * 3,
    "qwen_image21": BOTH * 3,
    "z_image": [("cond", "cond", "uncond", "uncond")] * 3,
}


def run(name: str, *stack: Any, **call: Any) -> Tensor:
    torch.manual_seed(0)
    pipe, given = PIPES[name](BY_NAME[name].build()[0])
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(0)
    if not stack:
        return pipe(**given, **call, generator=noise)[0]
    with attach(pipe, *stack):
        return pipe(**given, **call, generator=noise)[0]


@pytest.mark.parametrize("name", PIPES)
def test_rows_and_steps_of_a_pipeline_are_known(name: str) -> None:
    watched = Watched()
    plain = run(name)
    torch.testing.assert_close(run(name, watched), plain, rtol=1e-3, atol=1e-4)
    assert watched.rows == ROLES[name]
    assert list(dict.fromkeys(clock.step for clock in watched.clocks if clock.num_steps == 3)) == [0, 1, 2]
    assert not torch.allclose(run(name, Masked()), plain, atol=1e-4)


@pytest.mark.parametrize("name", ["lumina_next", "z_image"])
def test_time_that_counts_up_is_looked_up_where_the_scheduler_has_no_index(name: str) -> None:
    """A list of times, as those who drive a model by hand give."""
    model, inputs = BY_NAME[name].build()
    time = "t" if name == "z_image" else "timestep"
    watched = Watched()
    with attach(model, watched, schedule=[1000.0, 700.0, 300.0], rows=Rows.of("cond", samples=2)):
        watched.clocks.clear()
        for now in (1000.0, 700.0, 300.0):
            for dtype in (torch.float32, torch.bfloat16):
                given = torch.full((2,), (1000 - now) / 1000).to(dtype)
                model(**{**inputs, time: given})
    assert [clock.step for clock in watched.clocks] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("end", "guided"), [(0.1, 1), (1.0, 3)])
def test_z_image_ends_guidance_where_it_is_truncated(end: float, guided: int) -> None:
    watched = Watched()
    run("z_image", watched, cfg_truncation=end)
    assert watched.rows[:guided] == ROLES["z_image"][:guided]
    assert watched.rows[guided:] == [("cond", "cond")] * (3 - guided)


@pytest.mark.parametrize("name", ["hidream", "z_image"])
def test_weak_rows_go_where_rows_are_listed_or_lie_on_another_axis(name: str) -> None:
    plain = run(name)
    torch.testing.assert_close(run(name, SoftPAG(layers=(0, 1, 2, 3), u=1e-7, w=5.0)), plain, rtol=1e-3, atol=1e-4)
    steered = run(name, SoftPAG(layers=(0, 1, 2, 3), w=5.0))
    assert steered.isfinite().all() and not torch.allclose(steered, plain, atol=1e-4)
