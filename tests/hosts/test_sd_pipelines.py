"""Pipelines of Stable Diffusion with systems attached, with and without guidance: steps, rows and what comes out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.masks import among
from saccade.core.places import Disc
from saccade.core.site import at
from saccade.papers.clear import Clear
from saccade.papers.headhunter import SoftPAG
from tests.hosts.sd_pipelines import animatediff, sd, sdxl
from tests.hosts.stand_ins import Masked, looking

pytestmark = pytest.mark.host
Made = Callable[[], Any]
FIRST = at("down_blocks.*.attentions.0.transformer_blocks.0.attn1", kind="self", depth=(0.0, 0.1))
every_pipe = pytest.mark.parametrize("make", [sd, sdxl], ids=lambda make: make.__name__)
every_scale = pytest.mark.parametrize("scale", [1.0, 3.0])


def drawn(pipe: Any, scale: float, steps: int = 2, **more: Any) -> Tensor:
    """Latents of one prompt."""
    return pipe(
        "a red circle", height=32, width=32, num_inference_steps=steps, guidance_scale=scale, output_type="latent",
        generator=torch.Generator().manual_seed(0), **more,
    )[0]  # fmt: skip


@every_scale
@every_pipe
def test_clear_runs_in_every_step_and_row(make: Made, scale: float) -> None:
    pipe = make()
    plain, seen = drawn(pipe, scale), list[tuple[Any, ...]]()

    def look(call: AttentionCall) -> None:
        assert call.rows is not None
        seen.append((call.rows.roles, len(call.q), run.clock.step if run.clock else None))

    with attach(pipe, Clear(radius=2), looking(look)) as run:
        local = drawn(pipe, scale)
    roles = ("uncond", "cond") if scale > 1 else ("cond",)
    assert set(seen) == {(roles, len(roles), 0), (roles, len(roles), 1)}
    assert local.isfinite().all() and not torch.allclose(local, plain)
    assert min(site.density for site in run.report().sites if not site.note) < 1
    assert torch.equal(drawn(pipe, scale), plain)


@every_scale
@every_pipe
def test_softpag_adds_what_a_weakened_copy_lacks(make: Made, scale: float) -> None:
    """By hand: uncond + s (cond - uncond) + w (cond - weak), where tokens see themselves alone in weak."""
    pipe, given = make(), list[dict[str, Any]]()
    catch = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(dict(zip(("sample", "timestep"), args, strict=False)) | kwargs),
        with_kwargs=True,
    )
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    drawn(pipe, scale, steps=1, latents=start)
    catch.remove()
    with attach(pipe, SoftPAG(layers=(0,), w=2.0)):
        steered = drawn(pipe, scale, steps=1, latents=start)
    with torch.no_grad():
        plain = pipe.unet(**given[0])[0]
        with attach(pipe.unet, Masked(among("image", "image", Disc(radius=0.5))), where=FIRST):
            weak = pipe.unet(**given[0])[0]
    cond = plain[-1:]
    wanted = plain[:1] + scale * (cond - plain[:1]) + 2.0 * (cond - weak[-1:])
    pipe.scheduler.set_timesteps(1)
    made = pipe.scheduler.step(wanted, given[0]["timestep"], start, return_dict=False)[0]
    assert (cond - weak[-1:]).abs().max() > 1e-5
    torch.testing.assert_close(steered, made, rtol=1e-3, atol=1e-4)


@every_scale
def test_frames_of_a_video_take_part_in_their_roles(scale: float) -> None:
    pipe, seen = animatediff(), set[tuple[Any, ...]]()

    def look(call: AttentionCall) -> None:
        assert call.rows is not None and call.rows.n == len(call.q)
        seen.add((call.rows.where("cond")[0] / call.rows.n, call.layout_q.describe()))

    with attach(pipe, Clear(radius=2), looking(look)):
        made = drawn(pipe, scale, num_frames=4)
    assert torch.as_tensor(made).isfinite().all()
    share = 0.5 if scale > 1 else 0.0
    assert seen == {(share, tokens) for tokens in ("image 64 (1x8x8)", "image 16 (1x4x4)", "image 4 (4x1x1)")}
