"""DiffUHaul on tiny pipelines: what must hold exactly of whole trajectories, and what is refused."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.rows import Rows
from saccade.core.site import Site, at
from saccade.papers.diffuhaul import Blob, DiffUHaul, Drag, FlowHost, UNetHost, haul_generated, haul_photo
from saccade.papers.diffuhaul.buckets import bucket_starts, source_noises
from saccade.papers.diffuhaul.trajectory import Host
from saccade.pipelines.flow import Flow
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3
from tests.tiny_unet import tiny_unet

pytestmark = pytest.mark.host
RED = Blob(x=0.25, y=0.3, a=0.2, b=0.2, name="red circle")
BLUE = Blob(x=0.7, y=0.75, a=0.2, b=0.2, name="cross")
PROMPT = "a red circle above a cross"
SITE = Site(name="blocks.0.attn1", kind="self", heads=2)
OFF: dict[str, Any] = {"masked": False, "share": False, "schedule": None, "nearest": False}


def flow_host(pipe: Any, **given: Any) -> FlowHost:
    return FlowHost(flow=Flow(pipe=pipe, height=32, width=32, text_tokens=16), **{"steps": 2, **given})


def unet_host(gated: bool = True, **given: Any) -> UNetHost:
    return UNetHost(pipe=tiny_unet(gated=gated), **{"height": 16, "width": 16, "steps": 2, **given})


HOSTS = {
    "flux": lambda: flow_host(tiny_flux()), "sd3": lambda: flow_host(tiny_sd3(), guidance=3.0),
    "gligen": unet_host, "unet": lambda: unet_host(gated=False),
}  # fmt: skip


def system(name: str, to: tuple[float, float] = (0.7, 0.3), **given: Any) -> DiffUHaul:
    words = {"words": ((1, 2), (5,))} if name in ("flux", "sd3") else {}
    return DiffUHaul(**{"source": (RED, BLUE), "target": (RED.moved(to), BLUE), **words, **given})


def how(name: str, to: tuple[float, float] = (0.7, 0.3), *, drag: dict[str, Any] | None = None, **given: Any) -> Drag:
    return Drag(system=system(name, to, **given), prompts=((PROMPT,), (PROMPT,)), **(drag or {}))


def generated(host: Host, drag: Drag, seed: int = 0) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return haul_generated(host, drag, host.start(seed))


def photo(host: Host, drag: Drag, *systems: Any, seed: int = 0) -> Tensor:
    side = 32 if isinstance(host, FlowHost) else 16
    picture = np.random.default_rng(0).random((1, side, side, 3), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean, fresh = host.encode(picture), torch.Generator().manual_seed(5)
        return haul_photo(host, drag, clean, host.start(seed), fresh, systems)


@pytest.mark.parametrize("carry", [False, True])
@pytest.mark.parametrize("name", HOSTS)
def test_an_object_that_stays_gives_the_source_again(name: str, carry: bool) -> None:
    source, target = generated(HOSTS[name](), how(name, (RED.x, RED.y), carry=carry))
    torch.testing.assert_close(target, source, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", HOSTS)
def test_an_object_that_moves_changes_the_picture_within_the_free_place_alone(name: str) -> None:
    host, drag = HOSTS[name](), how(name, drag={"dilation": 0})
    (source, target), free = generated(host, drag), drag.free(host)[0] > 0
    assert torch.equal(target[~free], source[~free]) and not torch.equal(target[free], source[free])


@pytest.mark.parametrize("name", HOSTS)
def test_outside_of_both_places_a_photo_is_its_own_latent_to_the_bit(name: str) -> None:
    host, drag = HOSTS[name](), how(name, drag={"dilation": 0, "buckets": 1})
    (clean, target), free = photo(host, drag), drag.free(host)[0] > 0
    assert torch.equal(target[~free], clean[~free]) and not torch.equal(target[free], clean[free])


@pytest.mark.parametrize("name", ["flux", "gligen", "unet"])
def test_with_all_of_it_off_it_is_the_model_under_the_targets_layout(name: str) -> None:
    host = HOSTS[name]()
    drag = how(name, drag={"blend": False}, **OFF)
    predict, z = host.predictor([PROMPT], [drag.system.target]), host.start(0)
    with torch.no_grad():
        for step in range(host.steps):
            z = host.step(predict(z, step), step, z)
    torch.testing.assert_close(generated(host, drag)[1:], z, rtol=1e-4, atol=1e-5)


def test_generated_sources_are_the_pipelines_own_pictures() -> None:
    host = HOSTS["flux"]()
    drawn = host.decode(generated(host, how("flux", **OFF))[:1])
    own = host.pipe(
        PROMPT, height=32, width=32, num_inference_steps=2, max_sequence_length=16, output_type="np",
        latents=host.flow.noise(0),
    ).images  # fmt: skip
    np.testing.assert_allclose(drawn, own, atol=1e-4)


@pytest.mark.parametrize("name", ["flux", "gligen"])
def test_one_bucket_a_step_and_one_noise_is_the_plain_noised_source_beside_the_target(name: str) -> None:
    """Source and target as rows of one batch, the source's latents those of the photo at each level."""
    host, drag = HOSTS[name](), how(name, drag={"buckets": 2, "fresh_noise": "once"})
    found = photo(host, drag)
    clean, noise, free = found[:1], host.start(0), drag.free(host)
    predict, z = (
        host.predictor([PROMPT] * 2, [drag.system.source, drag.system.target]),
        host.noised(found[:1], noise, 0),
    )
    pair = replace(drag.system, features=None)
    with torch.no_grad(), attach(host.pipe, pair, rows=Rows.of("source", "target"), schedule=host.schedule) as run:
        for step in range(host.steps):
            run.part("")
            own = host.noised(clean, noise, step)
            z = host.step(predict(torch.cat((own, z)), step)[1:], step, z)
            z = torch.where(free > 0, z, host.noised(clean, noise, step + 1))
    torch.testing.assert_close(found[1:], z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("buckets", "fresh", "calls"), [(1, "bucket", 1), (3, "bucket", 3), (2, "step", 6), (6, "once", 6)]
)
def test_a_photo_is_run_once_a_bucket(buckets: int, fresh: Any, calls: int) -> None:
    host = flow_host(tiny_flux(), steps=6)
    seen: list[int] = []
    hook = host.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    photo(host, how("flux", drag={"buckets": buckets, "fresh_noise": fresh}))
    hook.remove()
    assert len(seen) == 6 + calls and set(seen) == {1}


def test_buckets_are_even_and_noises_as_asked() -> None:
    assert bucket_starts(50, 10) == tuple(range(0, 50, 5)) and bucket_starts(7, 3) == (0, 2, 4)
    assert bucket_starts(4, 10) == (0, 1, 2, 3) == bucket_starts(4, 1, "step") and bucket_starts(5, 1) == (0,)
    noise, fresh = torch.randn(1, 4), torch.Generator().manual_seed(0)
    assert all(torch.equal(one, noise) for one in source_noises(noise, 3, "once", fresh))
    first, second, third = source_noises(noise, 3, "bucket", fresh)
    assert torch.equal(first, noise) and not torch.equal(second, noise) and not torch.equal(second, third)


def test_sharing_makes_the_target_independent_of_its_own_keys_and_values() -> None:
    from saccade.core.state import Memory
    from tests.papers.diffuhaul.hauling import pair_call

    one = system("unet", schedule=None, nearest=False, masked=False)
    (shared,) = one.plan(SITE, Clock())
    call = pair_call()
    other = call.replace(k=call.k + torch.tensor([0.0, 1.0])[:, None, None, None], v=call.v * 2)
    found, again = (shared.operands(each, Memory()) for each in (call, other))
    for name in "kv":
        assert torch.equal(getattr(found, name)[1], getattr(call, name)[0])
    assert torch.equal(again.k[1], found.k[1]) and torch.equal(found.q, call.q)


def test_the_weight_follows_the_schedule_and_tau_ends_it() -> None:
    one = system("unet", masked=False, share=False, kappa=0.8)
    weights = [float(one.plan(SITE, Clock(step=i, num_steps=4))[0].weight) for i in (0, 1)]  # type: ignore[union-attr]
    assert weights == pytest.approx([0.8, 0.6])
    assert [type(one.plan(SITE, Clock(step=i, num_steps=4))[0]).__name__ for i in (1, 2)] == [
        "SoftAnchor",
        "NearestCopy",
    ]
    assert one.plan(SITE, Clock(step=2, num_steps=4)) == one.plan(SITE, Clock(step=3, num_steps=4))
    rising = system("unet", schedule="1-t/T")
    assert [rising.weight(done) for done in (0.0, 0.25)] == [0.0, 0.25]
    assert system("unet", schedule=lambda done: done**2).weight(0.5) == 0.25
    assert not system("unet", **OFF).timed and one.timed


def test_gates_take_the_mask_alone_and_are_left_where_the_pipeline_shuts_them() -> None:
    one = system("gligen")
    gate = Site(name="mid_block.attentions.0.transformer_blocks.0.fuser.attn", kind="joint", heads=2)
    assert [type(item).__name__ for item in one.plan(gate, Clock())] == ["BlobRegions"]
    shut, opened = (generated(unet_host(grounded=share, steps=2), how("gligen")) for share in (0.0, 1.0))
    assert not torch.equal(shut, opened)


def test_a_model_without_gates_is_warned_of() -> None:
    host = unet_host(gated=False)
    with pytest.warns(UserWarning, match="no attached site has gated self-attention, so only sharing, anchoring"):
        haul_generated(host, how("unet"), host.start(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with attach(host.pipe.unet, system("unet", masked=False), rows=Rows.of("source", "target"), schedule=[1.0]):
            pass


@pytest.mark.bad_input
def test_a_model_grounded_by_pictures_too_is_refused() -> None:
    pipe = tiny_unet(gated=True)
    pipe.unet.register_to_config(attention_type="gated-text-image")
    with pytest.raises(ValueError, match="is grounded by a phrase and a picture of each object, and here by phrases"):
        UNetHost(pipe=pipe, height=16, width=16, steps=2)


def test_several_pictures_are_dragged_alike_as_each_by_itself() -> None:
    host, noise = flow_host(tiny_flux()), [flow_host(tiny_flux()).start(seed) for seed in (0, 1)]
    both = replace(how("flux"), prompts=((PROMPT, "a blue square"), (PROMPT, "a blue square")))
    found = haul_generated(host, both, torch.cat(noise))
    alone = haul_generated(host, how("flux"), noise[0])
    torch.testing.assert_close(found[[0, 2]], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tau": 1.5}, r"tau=1.5 must be in \[0, 1\], a share of the steps"),
        ({"kappa": -0.1}, r"kappa=-0.1 must be in \[0, 1\]"),
        ({"schedule": "sideways"}, "schedule='sideways' is unknown; choose one of t/T, 1-t/T"),
        ({"words": ((1,),)}, "words are those of 1 objects, there are 2"),
        ({"where": at(heads=(0,))}, r"where.heads=\(0,\) belongs to attach"),
        ({"target": (RED,)}, "source has 2 objects and target 1"),
        ({"drag": 2}, "drag=2 is none of the 2 objects"),
    ],
)
def test_options_out_of_range_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        system("unet", **given)


@pytest.mark.bad_input
def test_what_a_run_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="schedule gives 2 where 0.5 of the steps are done"):
        system("unet", schedule=lambda done: 2.0).weight(0.5)
    with pytest.raises(StateError, match=r"features hold nothing of site 'blocks.0.attn1'; run the source first"):
        system("unet", features={}).plan(SITE, Clock(part="target"))
    with pytest.raises(ValueError, match="buckets=0 must be a whole number of at least 1"):
        how("unet", drag={"buckets": 0})
    with pytest.raises(ValueError, match="fresh_noise='old' is unknown"):
        how("unet", drag={"fresh_noise": "old"})
    with pytest.raises(ValueError, match="there are 1 source and 2 target prompts"):
        Drag(system=system("unet"), prompts=(("a",), ("a", "b")))
    with pytest.raises(ValueError, match="height=15 must be a multiple of 4 pixels"):
        unet_host(height=15)
    with pytest.warns(UserWarning, match="pictures of 16 x 20 pixels are not of the model's size, 16 x 16"):
        unet_host(width=20)
    unnamed = DiffUHaul(source=(replace(RED, name=""),), target=(replace(RED, name=""),))
    with pytest.raises(ValueError, match="object 0 has no name, and the grounding reads it"):
        generated(unet_host(), Drag(system=unnamed, prompts=(("a",), ("a",))))
    few = unet_host()
    with pytest.raises(ValueError, match="was given 2 grounding tokens for 3 objects"):
        three = (RED, BLUE, BLUE)
        attached = DiffUHaul(source=three, target=three)
        predict = few.predictor([PROMPT] * 2, [(RED, BLUE)] * 2)
        with attach(few.pipe, attached, rows=Rows.of("source", "target"), schedule=few.schedule):
            predict(few.start(0).expand(2, -1, -1, -1), 0)


@pytest.mark.compile
def test_it_compiles_in_a_graph_a_phase() -> None:
    from torch._dynamo.utils import counters

    from tests.hosts.tiny import BY_NAME, output

    model, inputs = BY_NAME["flux"].shallow()
    one = DiffUHaul(source=(RED,), target=(RED.moved((0.7, 0.3)),), words=((1,),), carry=True)
    torch._dynamo.reset()
    counters.clear()
    rows = Rows.of("source", "target")

    def run(target: Any) -> list[Tensor]:
        found = []
        with attach(target, one, rows=rows) as attached, torch.no_grad():
            for step in range(4):
                attached.step(step, of=4)
                found.append(output(target, inputs))
        return found

    same = {
        k: v if k in ("img_ids", "txt_ids") or not isinstance(v, Tensor) else v[:1].expand_as(v)
        for k, v in inputs.items()
    }
    inputs = same
    wanted = run(model)
    for one_step, plain in zip(run(torch.compile(model, fullgraph=True, backend="eager")), wanted, strict=True):
        torch.testing.assert_close(one_step, plain, rtol=1e-5, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 2
    torch._dynamo.reset()
