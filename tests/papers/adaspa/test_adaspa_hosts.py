"""AdaSpa on tiny random models of the real classes, over whole schedules, against masks made by hand."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding, Table
from saccade.core.mechanism import Mechanism, Pairs, PlanItem
from saccade.core.partial import Parts
from saccade.core.site import Site, at
from saccade.core.state import Memory
from saccade.papers.adaspa import AdaSpa
from saccade.papers.clear import Clear
from saccade.systems.dense import Dense
from tests.hosts.test_generations import STEPS, Clocks, flux, run, two_models
from tests.hosts.tiny import BY_NAME, PLAIN, output
from tests.papers.adaspa.plain import adaptive_mask, expanded
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
TIMES = (1000, 800, 600, 400, 200)
FIRST, LATER = 0, 2  # the searches of five steps
BLOCK, SPARSITY = 4, 0.7
NAMES = ("hunyuan_video", "cogvideox", "wan", "flux", "qwen_image", "sd3")
every_host = pytest.mark.parametrize("name", NAMES)


def sparse(**options: Any) -> AdaSpa:
    return AdaSpa(**{"sparsity": SPARSITY, "block": BLOCK, **options})


def built(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """One block of each kind."""
    return BY_NAME[name].shallow()


KERNEL = Dense(kernel="sdpa")  # to choose one for each mask is what takes time on tiny models


def walk(model: nn.Module, inputs: dict[str, Any], *systems: Any, **options: Any) -> list[Tensor]:
    """Outputs of a forward a step, each on inputs of its own."""
    with attach(model, *systems, schedule=TIMES, **options):
        return [output(model, moved(inputs, step)) for step in range(len(TIMES))]


def moved(inputs: dict[str, Any], step: int) -> dict[str, Any]:
    """The inputs at a step: its time, and other latents."""
    like = inputs["timestep"]
    time = TIMES[step] / 1000 if like.is_floating_point() and like.max() <= 1 else TIMES[step]
    torch.manual_seed(step)
    latents = torch.randn(inputs["hidden_states"].shape).to(inputs["hidden_states"].dtype)
    return {**inputs, "timestep": torch.full_like(like, time), "hidden_states": latents}


@dataclass(frozen=True, eq=False)
class Look(Mechanism):
    """Masks by hand, of whole maps; the one in force at once where the lse is kept already."""

    lse: dict[str, Tensor]
    tables: dict[str, Table]

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        return Pairs(mask=self.made(call)) if call.site.name in self.lse else Pairs()

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        if call.site.name not in self.lse:
            self.lse[call.site.name] = self.scores(call)[0].logsumexp(-1)
            self.made(call)

    def made(self, call: AttentionCall) -> Table:
        n, (scores, keep) = call.layout_q.n, self.scores(call)
        p = (scores - self.lse[call.site.name][..., None]).exp() * keep[:, None, :, None]
        p = torch.nn.functional.pad(p, (0, -n % BLOCK, 0, -n % BLOCK))
        mass = p.unflatten(3, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).sum((3, 5))
        allowed = torch.stack([self.row(mass[b], keep[b], call.layout_q) for b in range(len(mass))])
        at = torch.arange(n)
        self.tables[call.site.name] = Table(at, at, expanded(allowed, BLOCK, n))
        return self.tables[call.site.name]

    def row(self, mass: Tensor, keep: Tensor, layout: Layout) -> Tensor:
        """(h Q K) of one batch row: as if blocks of padding were not there."""
        open_ = [bool(part.any()) for part in keep.split(BLOCK)]
        real = [j for j, is_open in enumerate(open_) if is_open]
        text = [bool(part.any()) for part in (layout.is_("text") & keep).split(BLOCK)]
        found = adaptive_mask(mass[None][:, :, real][..., real], [text[j] for j in real], SPARSITY)[0]
        whole = torch.zeros(mass.shape, dtype=torch.bool)
        whole[:, torch.tensor(real)[:, None], torch.tensor(real)] = found
        whole[:, ~torch.tensor(open_)] = torch.tensor(open_)  # rows of padding: any key will do
        return whole

    @staticmethod
    def scores(call: AttentionCall) -> tuple[Tensor, Tensor]:
        keep = torch.ones(len(call.q), call.layout_q.n, dtype=torch.bool)
        if isinstance(call.mask, KeyPadding):
            keep = call.mask.keep.expand(len(call.q), -1)
        return (call.q @ call.k.mT * call.scale).masked_fill(~keep[:, None, None], -torch.inf), keep


@dataclass(frozen=True)
class ByHand:
    """Dense and searched, then sparse and searched by the kept lse, of whole maps."""

    look: Look = field(default_factory=lambda: Look({}, {}), hash=False, compare=False)
    name: str = "by hand"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem | Mechanism, ...]:
        if site.kind == "cross":
            return ()
        if clock.step in (FIRST, LATER):
            return (self.look,)
        if site.name not in self.look.tables:
            raise StateError(f"no table for {site.name}")
        return (self.look.tables[site.name],)


@every_host
def test_a_run_attends_to_the_blocks_found_by_hand(name: str) -> None:
    model, inputs = built(name)
    dense, by_hand, outs = (walk(model, inputs, *s) for s in ((), (ByHand(), KERNEL), (sparse(), KERNEL)))
    torch.testing.assert_close(outs[FIRST], dense[FIRST], atol=1e-5, rtol=1e-4)
    for out, other in zip(outs, by_hand, strict=True):
        torch.testing.assert_close(out, other, atol=1e-5, rtol=1e-4)
    assert all((outs[step] - dense[step]).abs().max() > 1e-5 for step in range(1, len(TIMES)))


@every_host
def test_sparsity_0_is_bitwise_the_host(name: str) -> None:
    model, inputs = built(name)
    for out, dense in zip(
        walk(model, inputs, sparse(sparsity=0, head_adaptive=False)), walk(model, inputs), strict=True
    ):
        assert torch.equal(out, dense)


@pytest.mark.slow
@every_host
def test_in_bfloat16_it_stays_near_float32(name: str) -> None:
    """Where all blocks are kept but the least: the masks of both may differ in these."""
    model, inputs = built(name)
    fine = walk(model, inputs, sparse(sparsity=0.34, block=8), KERNEL)
    low = {k: v.bfloat16() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()}
    low |= {k: inputs[k] for k in ("img_ids", "txt_ids") if k in inputs}
    outs = walk(model.bfloat16(), low, sparse(sparsity=0.34, block=8), KERNEL)
    assert all(out.dtype == torch.bfloat16 and out.isfinite().all() for out in outs)
    assert all((a.float() - b).abs().mean() < 0.1 * b.abs().mean() for a, b in zip(outs, fine, strict=True))


@pytest.mark.parametrize("name", ["qwen_image", "hunyuan_video"])
def test_padded_text_stays_unseen(name: str) -> None:
    model, inputs = built(name)
    flag = "encoder_attention_mask" if name == "hunyuan_video" else "encoder_hidden_states_mask"
    other = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    other["encoder_hidden_states"][~inputs[flag].bool()] += 3
    for a, b in zip(walk(model, inputs, sparse(), KERNEL), walk(model, other, sparse(), KERNEL), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux", "wan"])
def test_a_row_of_guidance_is_what_it_is_alone(name: str) -> None:
    model, inputs = built(name)
    both = walk(model, inputs, sparse(), KERNEL)
    for row in (0, 1):
        alone = {k: v[row : row + 1] if isinstance(v, Tensor) and len(v) == 2 else v for k, v in inputs.items()}
        with attach(model, sparse(), KERNEL, schedule=TIMES):
            for step, whole in enumerate(both):
                latents = moved(inputs, step)["hidden_states"][row : row + 1]
                out = output(model, {**moved(alone, step), "hidden_states": latents})
                torch.testing.assert_close(out, whole[row : row + 1], atol=1e-5, rtol=1e-4)


def test_a_pipeline_draws_and_begins_anew_with_each_sample() -> None:
    pipe = tiny_flux()

    def draw(size: int, steps: int = 5) -> Tensor:
        g = torch.Generator().manual_seed(0)
        return pipe(
            "a red square", height=size, width=size, num_inference_steps=steps, output_type="latent", generator=g,
            max_sequence_length=8,
        ).images  # fmt: skip

    plain = [draw(size) for size in (64, 96)]
    with attach(pipe, sparse(), KERNEL) as run:
        small, large, again = draw(64), draw(96), draw(64)
        draw(64, steps=1)
        text = run.explain(5)
        kept = [key for memory in run.state.memories.values() for key in memory.now]
    assert torch.equal(small, again)
    assert not torch.equal(small, plain[0]) and not torch.equal(large, plain[1])
    phases = [line.split(":")[0].strip() for line in text.splitlines() if line.startswith("  ")]
    assert phases == ["steps 0-0", "steps 1-1", "steps 2-2", "steps 3-4"]
    assert kept == []  # a run of one step is dense, and what the samples before it kept is gone
    assert torch.equal(draw(64), plain[0])


def test_the_report_has_the_density_of_sparse_steps() -> None:
    model, inputs = built("wan")
    with attach(model, sparse(block=3, head_adaptive=False), schedule=TIMES) as run:
        for step in range(len(TIMES)):
            output(model, moved(inputs, step))
        found = [float(m.get("density")) for m in run.state.memories.values()]
        report = run.report()
    assert all(0.2 < share < 0.6 for share in found)
    for site, share in zip([s for s in report.sites if s.calls], found, strict=True):
        assert site.density == pytest.approx((1 + 4 * share) / 5)


def test_it_stacks_with_another_mask() -> None:
    model, inputs = built("flux")
    disc = Clear(radius=1.5)
    with_disc, alone = (walk(model, inputs, *s) for s in ((disc, sparse(), KERNEL), (disc, KERNEL)))
    torch.testing.assert_close(with_disc[0], alone[0], atol=1e-5, rtol=1e-4)
    assert not torch.equal(with_disc[-1], alone[-1]) and all(out.isfinite().all() for out in with_disc)


def test_some_heads_of_a_site_can_be_chosen() -> None:
    model, inputs = built("flux")
    some = walk(model, inputs, sparse(), KERNEL, where=at(heads=(1,)))
    dense, all_ = walk(model, inputs), walk(model, inputs, sparse(), KERNEL)
    assert not torch.equal(some[-1], dense[-1]) and not torch.equal(some[-1], all_[-1])


def test_a_plain_module_is_given_its_tokens_and_its_step() -> None:
    model, inputs = BY_NAME["plain"].build()
    for options in ({"layout": PLAIN}, {"layout": Layout.plain(PLAIN.n)}):
        system = sparse() if options["layout"] is PLAIN else sparse(text=(0, 3))
        with attach(model, system, **options) as run:
            outs = []
            for step in range(5):
                run.step(step, of=5)
                outs.append(output(model, inputs))
        dense = output(model, inputs)
        torch.testing.assert_close(outs[0], dense)
        assert torch.equal(outs[3], outs[4]) and (outs[4] - dense).abs().max() > 1e-5


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_agrees_with_eager_in_three_graphs() -> None:
    """One that searches, one that refreshes, one that reuses."""
    model, inputs = BY_NAME["flux"].shallow()
    eager = walk(model, inputs, sparse())
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    for a, b in zip(walk(outer, inputs, sparse()), eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 3


@pytest.mark.bad_input
def test_a_step_that_is_not_known_or_left_out_is_refused() -> None:
    model, inputs = built("flux")
    with pytest.raises(ValueError, match=r"'adaspa' needs the step of a forward; attach the pipeline, .* schedule="):
        with attach(model, AdaSpa()):
            output(model, inputs)
    with attach(model, sparse(), schedule=TIMES, where=at(during=(0.1, 1))) as run:
        with pytest.raises(StateError, match=r"'adaspa' reads 'blocks' in step 1 of 5 at '.*' and no step before"):
            run.explain(5)
        output(model, moved(inputs, 0))
        with pytest.raises(StateError, match=r"'adaspa' at '.*' \(cond\) reads 'lse' before any step put it"):
            output(model, moved(inputs, 2))


def test_below_full_strength_shares_are_of_the_steps_taken() -> None:
    report = run(flux(), asked := Clocks(), system := sparse(), strength=0.5).report()
    (taken,) = {clock.num_steps for clock in asked.seen}
    first = system.search_steps(taken)[0]
    assert 1 < taken < STEPS
    calls = {site.calls for site in report.sites if not site.note}
    assert calls == {report.forwards // taken * (taken - first)}


def test_the_second_of_two_models_searches_when_it_begins() -> None:
    report = run(two_models(), asked := Clocks(), system := sparse()).report()
    begins = min(clock.step for clock in asked.seen if clock.first)
    calls = {site.name.partition(".")[0]: site.calls for site in report.sites if not site.note}
    assert calls == {"blocks": 2 * (begins - system.search_steps(STEPS)[0]), "transformer_2": 2 * (STEPS - begins)}
