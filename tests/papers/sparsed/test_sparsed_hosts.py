"""SparseD on tiny random models of the real classes, over whole schedules, against patterns made by hand."""

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
from saccade.core.masks import KeyPadding, Mask, Table
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.site import Site, at
from saccade.papers.clear import Clear
from saccade.papers.sparsed import SparseD
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import BY_NAME, PLAIN, output
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
TIMES = (1000, 800, 600, 400, 200)
LAST = 2  # the last dense step of five
BLOCK, KEEP = 4, 0.4
NAMES = ("flux", "sd3", "qwen_image", "pixart", "dit", "wan", "cogvideox", "hunyuan_video")
every_host = pytest.mark.parametrize("name", NAMES)


def built(name: str) -> tuple[nn.Module, dict[str, Any]]:
    return BY_NAME[name].build()


def walk(model: nn.Module, inputs: dict[str, Any], *systems: Any, **options: Any) -> list[Tensor]:
    """Outputs of a forward a step, each on inputs of its own."""
    with attach(model, *systems, schedule=TIMES, **options):
        return [output(model, moved(inputs, step)) for step in range(len(TIMES))]


def moved(inputs: dict[str, Any], step: int) -> dict[str, Any]:
    """The inputs at a step: its time, and other latents."""
    like = inputs["timestep"]
    time = TIMES[step] / 1000 if like.is_floating_point() and like.max() <= 1 else TIMES[step]
    torch.manual_seed(step)
    latents = inputs["hidden_states"]
    return {**inputs, "timestep": torch.full_like(like, time), "hidden_states": torch.randn_like(latents)}


@dataclass(frozen=True)
class ByHand:
    """The official choice, one row of blocks at a time, kept as a table between all tokens."""

    tables: dict[str, Table] = field(default_factory=dict, hash=False, compare=False)
    name: str = "by hand"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem | Mechanism, ...]:
        if site.kind == "cross" or clock.step < LAST:
            return ()
        if clock.step == LAST:
            return looking(self.look).plan(site, clock)
        if site.name not in self.tables:
            raise StateError(f"no table for {site.name}")
        return (self.tables[site.name],)

    def look(self, call: AttentionCall) -> None:
        n, scores = call.layout_q.n, call.q @ call.k.mT * call.scale
        keep = torch.ones(len(scores), n, dtype=torch.bool) if call.mask is None else padding(call.mask).keep
        scores = scores.masked_fill(~keep[:, None, None], -torch.inf)
        grid = [[pattern(s, p, call.layout_q) for s in rows] for rows, p in zip(scores, keep, strict=True)]
        block = torch.arange(n) // BLOCK
        self.tables[call.site.name] = Table(block, block, torch.stack([torch.stack(rows) for rows in grid]))


def padding(mask: Mask) -> KeyPadding:
    assert isinstance(mask, KeyPadding)
    return mask


def pattern(scores: Tensor, keep: Tensor, layout: Layout) -> Tensor:
    """(Q K) of one head."""
    n, blocks = len(scores), -(-len(scores) // BLOCK)
    spans = [range(n)[at : at + BLOCK] for at in range(0, n, BLOCK)]
    image = set(range(n)[layout.span(layout.image.name)])
    open_ = [j for j in range(blocks) if keep[list(spans[j])].any()]
    ours = [j for j in open_ if set(spans[j]) <= image]
    columns = [t for j in ours for t in spans[j]]
    whole, alone = scores.softmax(-1), torch.zeros_like(scores)
    alone[:, columns] = scores[:, columns].softmax(-1)
    chosen = torch.zeros(blocks, blocks, dtype=torch.bool)
    for i in range(blocks):
        rows = [r for r in spans[i] if keep[r]]
        of_all, of_ours = ([p[rows][:, list(spans[j])].sum().item() for j in range(blocks)] for p in (whole, alone))
        best = sorted(open_, key=lambda j: -of_all[j])[: int(len(open_) * KEEP) + 1]
        own = sorted(ours, key=lambda j: -of_ours[j])[: int(len(ours) * KEEP) + 1]
        chosen[i, [j for j in best if j not in ours] + own] = True
    return chosen


@every_host
def test_a_run_is_dense_then_attends_to_the_blocks_chosen_by_hand(name: str) -> None:
    model, inputs = built(name)
    dense, by_hand, outs = (walk(model, inputs, *s) for s in ((), (ByHand(),), (SparseD(keep=KEEP, block=BLOCK),)))
    for step in range(LAST):
        assert torch.equal(outs[step], dense[step])
    for step in range(LAST, len(TIMES)):
        torch.testing.assert_close(outs[step], by_hand[step], atol=1e-5, rtol=1e-4)
    assert (outs[-1] - dense[-1]).abs().max() > 1e-5


@every_host
def test_keeping_all_is_bitwise_the_host(name: str) -> None:
    model, inputs = built(name)
    for out, dense in zip(walk(model, inputs, SparseD(keep=1)), walk(model, inputs), strict=True):
        assert torch.equal(out, dense)


def test_padded_text_stays_unseen() -> None:
    model, inputs = built("qwen_image")
    other = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    other["encoder_hidden_states"][~inputs["encoder_hidden_states_mask"].bool()] += 3
    sparsed = SparseD(keep=KEEP, block=BLOCK)
    for a, b in zip(walk(model, inputs, sparsed), walk(model, other, sparsed), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_a_pipeline_draws_and_begins_anew_at_another_size() -> None:
    pipe = tiny_flux()

    def draw(size: int) -> Tensor:
        g = torch.Generator().manual_seed(0)
        return pipe(
            "a red square", height=size, width=size, num_inference_steps=5, output_type="latent", generator=g
        ).images

    plain = [draw(size) for size in (32, 48)]
    with attach(pipe, SparseD(keep=0.3, block=8)) as run:
        small, large, again = draw(32), draw(48), draw(32)
        text = run.explain(5)
    assert torch.equal(small, again)
    assert not torch.equal(small, plain[0]) and not torch.equal(large, plain[1])
    phases = [line.split(":")[0].strip() for line in text.splitlines() if line.startswith("  ")]
    assert phases == ["steps 0-1", "steps 2-2", "steps 3-4"]
    assert torch.equal(draw(32), plain[0])


def test_it_stacks_with_another_mask() -> None:
    model, inputs = built("flux")
    with_disc, alone = (walk(model, inputs, *s) for s in ((Clear(radius=1.5), sparse()), (Clear(radius=1.5),)))
    assert torch.equal(with_disc[0], alone[0]) and not torch.equal(with_disc[-1], alone[-1])
    assert all(out.isfinite().all() for out in with_disc)


def sparse(**options: Any) -> SparseD:
    return SparseD(keep=KEEP, block=BLOCK, **options)


def test_some_heads_of_a_site_can_be_chosen() -> None:
    model, inputs = built("flux")
    some = walk(model, inputs, sparse(), where=at(heads=(1,)))
    dense, all_ = walk(model, inputs), walk(model, inputs, sparse())
    assert not torch.equal(some[-1], dense[-1]) and not torch.equal(some[-1], all_[-1])


def test_a_plain_module_is_told_its_tokens_and_its_step() -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, sparse(), layout=PLAIN) as run:
        outs = []
        for step in range(5):
            run.step(step, of=5)
            outs.append(output(model, inputs))
    dense = output(model, inputs)
    assert torch.equal(outs[0], dense) and torch.equal(outs[3], outs[4])
    assert (outs[4] - dense).abs().max() > 1e-5


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_agrees_with_eager_in_three_graphs() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    eager = walk(model, inputs, sparse())
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    for a, b in zip(walk(outer, inputs, sparse()), eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 3


@pytest.mark.compile
@pytest.mark.usefixtures("fresh_compiler")
def test_an_eager_step_reads_what_a_compiled_one_found() -> None:
    """As where the compiler falls back at its limit."""
    model, inputs = BY_NAME["plain"].build()
    outer: Any = torch.compile(model, fullgraph=True, backend="eager")

    def walk(called: Any, eager_from: int) -> list[Tensor]:
        with attach(called, sparse(), layout=PLAIN) as run:
            outs = []
            for step in range(5):
                run.step(step, of=5)
                with torch.compiler.set_stance("force_eager" if step >= eager_from else "default"):
                    outs.append(output(called, inputs))
        return outs

    wanted = walk(model, 0)
    for eager_from in (3, 4):
        for a, b in zip(walk(outer, eager_from), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.bad_input
def test_a_step_that_is_not_known_or_left_out_is_refused() -> None:
    model, inputs = built("flux")
    with pytest.raises(ValueError, match=r"'sparsed' needs the step of a forward; attach the pipeline, .* schedule="):
        with attach(model, SparseD()):
            output(model, inputs)
    with attach(model, sparse(), schedule=TIMES, where=at(during=(0.5, 1))) as run:
        with pytest.raises(StateError, match=r"'sparsed' reads 'blocks' in step 3 of 5 at '.*' and no step before"):
            run.explain(5)
        output(model, moved(inputs, 0))
        with pytest.raises(StateError, match=r"'sparsed' at '.*' \(cond\) reads 'blocks' before any step put it"):
            output(model, moved(inputs, 3))
