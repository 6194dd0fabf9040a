"""DraftAttention on tiny random models of the real classes, against masks chosen by hand in every call."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.site import at
from saccade.papers.clear import Clear
from saccade.papers.draft_attention import DraftAttention
from tests.hosts.tiny import BY_NAME, PLAIN, output
from tests.papers.draft_attention.by_hand import ByHand
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
TIMES = (1000, 600, 300)
FIRST = 1  # the first sparse step of three
POOL, SPARSITY = (2, 2), 0.6
NAMES = ("hunyuan_video", "wan", "cogvideox", "flux")
every_host = pytest.mark.parametrize("name", NAMES)


def walk(model: nn.Module, inputs: dict[str, Any], *systems: Any, **options: Any) -> list[Tensor]:
    """Outputs of a forward a step, each on inputs of its own."""
    with attach(model, *systems, schedule=TIMES, **options):
        return [output(model, moved(inputs, step)) for step in range(len(TIMES))]


def moved(inputs: dict[str, Any], step: int) -> dict[str, Any]:
    """The inputs at a step: its time, and other latents."""
    like, latents = inputs["timestep"], inputs["hidden_states"]
    time = TIMES[step] / 1000 if like.is_floating_point() and like.max() <= 1 else TIMES[step]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
    return {**inputs, "timestep": torch.full_like(like, time), "hidden_states": noise.to(latents)}


def sparse(**options: Any) -> DraftAttention:
    return DraftAttention(**{"sparsity": SPARSITY, "pool": POOL, **options})


def by_hand() -> ByHand:
    return ByHand(pool=POOL, sparsity=SPARSITY, first=FIRST)


@every_host
def test_a_run_is_dense_then_attends_to_the_regions_chosen_by_hand(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    dense, wanted, outs = (walk(model, inputs, *s) for s in ((), (by_hand(),), (sparse(),)))
    for step in range(FIRST):
        assert torch.equal(outs[step], dense[step])
    for step in range(FIRST, len(TIMES)):
        torch.testing.assert_close(outs[step], wanted[step], atol=1e-5, rtol=1e-4)
        assert (outs[step] - dense[step]).abs().max() > 1e-5


@pytest.mark.parametrize("name", ["wan", *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n != "wan")])
def test_half_precision_keeps_the_same_regions(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    model = model.to(torch.bfloat16)
    inputs = {key: x.bfloat16() if _is_float(x) else x for key, x in inputs.items()}
    if name == "cogvideox":
        inputs["image_rotary_emb"] = tuple(x.bfloat16() for x in inputs["image_rotary_emb"])
    for out, wanted in zip(walk(model, inputs, sparse()), walk(model, inputs, by_hand()), strict=True):
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out, wanted, atol=3e-2, rtol=3e-2)


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 1


@every_host
def test_dropping_nothing_is_bitwise_the_host(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    for out, dense in zip(walk(model, inputs, sparse(sparsity=0)), walk(model, inputs), strict=True):
        assert torch.equal(out, dense)


def test_cross_attention_is_untouched() -> None:
    model, inputs = BY_NAME["wan"].build()
    with attach(model, sparse(skip=0), schedule=TIMES) as run:
        output(model, moved(inputs, 0))
        sites = {site.name: site.calls for site in run.report().sites}
    assert {name for name, calls in sites.items() if calls} == {"blocks.0.attn1", "blocks.1.attn1"}


def test_the_released_exceptions_on_a_schedule() -> None:
    model, inputs = BY_NAME["hunyuan_video"].build()
    system = DraftAttention.preset("hunyuan_video", pool=POOL, sparsity=SPARSITY)
    with attach(model, system, schedule=TIMES) as run:
        outs = [output(model, moved(inputs, step)) for step in range(2)]
        calls = {site.name: site.calls for site in run.report().sites if site.calls}
    assert torch.equal(outs[0], walk(model, inputs)[0])
    assert calls == {f"single_transformer_blocks.{i}.attn": 1 for i in range(2)}  # the first two blocks stay dense


def test_padded_text_stays_unseen() -> None:
    model, inputs = BY_NAME["hunyuan_video"].shallow()
    other = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    other["encoder_hidden_states"][~inputs["encoder_attention_mask"].bool()] += 3
    for a, b in zip(walk(model, inputs, sparse()), walk(model, other, sparse()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["hunyuan_video", "cogvideox"])
def test_rows_of_guidance_have_masks_of_their_own(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    both = walk(model, inputs, sparse())
    for row in range(2):
        one = {key: x[row : row + 1] if isinstance(x, Tensor) and len(x) == 2 else x for key, x in inputs.items()}
        with attach(model, sparse(), schedule=TIMES):
            for step in range(len(TIMES)):
                whole = moved(inputs, step)
                alone = {**one, **{key: whole[key][row : row + 1] for key in ("timestep", "hidden_states")}}
                torch.testing.assert_close(output(model, alone), both[step][row : row + 1], atol=1e-5, rtol=1e-4)


def test_it_stacks_with_another_mask_and_leaves_no_query_alone() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    both, alone = (walk(model, inputs, *s) for s in ((Clear(radius=1.5), sparse()), (Clear(radius=1.5),)))
    assert torch.equal(both[0], alone[0]) and not torch.equal(both[-1], alone[-1])
    assert all(out.isfinite().all() for out in both)


def test_some_heads_of_a_site_can_be_chosen() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    some = walk(model, inputs, sparse(), where=at(heads=(1,)))
    dense, all_ = walk(model, inputs), walk(model, inputs, sparse())
    assert not torch.equal(some[-1], dense[-1]) and not torch.equal(some[-1], all_[-1])


def test_a_model_trains_through_it() -> None:
    model, inputs = BY_NAME["wan"].build()
    with attach(model, sparse(skip=0), schedule=TIMES):
        model(**moved(inputs, 1))[0].square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.blocks[0].attn1.parameters())


def test_a_pipeline_draws_at_sizes_that_are_no_whole_patches() -> None:
    pipe = tiny_flux()

    def draw(size: int) -> Tensor:
        g = torch.Generator().manual_seed(0)
        return pipe(
            "a red square", height=size, width=size, num_inference_steps=3, output_type="latent", generator=g
        ).images

    plain = draw(40)
    with attach(pipe, sparse()) as run:
        small, large, again = draw(32), draw(40), draw(32)
        text = run.explain(3)
    assert torch.equal(small, again) and not torch.equal(large, plain)
    phases = [line.split(":")[0].strip() for line in text.splitlines() if line.startswith("  ")]
    assert phases == ["steps 0-0", "steps 1-2"]
    assert torch.equal(draw(40), plain)


@pytest.mark.bad_input
def test_a_grid_that_strict_refuses_is_named() -> None:
    model, inputs = BY_NAME["wan"].build()
    message = r"a grid of 3 x 2 x 3 tokens is no whole number of patches pool=\(8, 16\)"
    with pytest.raises(ValueError, match=message):
        walk(model, inputs, DraftAttention(skip=0, strict=True))


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["flux", pytest.param("hunyuan_video", marks=pytest.mark.slow)])
def test_compiled_agrees_with_eager(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    eager = walk(model, inputs, sparse())
    outer: Any = torch.compile(model, fullgraph=name == "flux", backend="aot_eager")
    for a, b in zip(walk(outer, inputs, sparse()), eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_a_plain_module_is_given_its_tokens_and_its_step() -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, sparse(), layout=PLAIN) as run:
        outs = []
        for step in range(4):
            run.step(step, of=4)
            outs.append(output(model, inputs))
    dense = output(model, inputs)
    assert torch.equal(outs[0], dense) and torch.equal(outs[1], outs[3])
    assert (outs[3] - dense).abs().max() > 1e-5
