"""Re-ttention on tiny random models of the real classes, over whole schedules, against windows written out by hand."""

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
from saccade.core.masks import KeyPadding
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.partial import Partial, Parts, whole
from saccade.core.site import Site, at
from saccade.core.state import Memory
from saccade.papers.clear import Clear
from saccade.papers.re_ttention import RasterWindow, ReTtention
from tests.hosts.test_waits import waits
from tests.hosts.tiny import BY_NAME, PLAIN, output
from tests.papers.sparsed.test_sparsed_hosts import moved as at_step
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
TIMES = (1000, 900, 800, 700, 600, 500, 400)
KEEP = 0.3
NAMES = ("flux", "sd3", "qwen_image", "pixart", "dit", "wan", "cogvideox", "hunyuan_video", "hunyuan_dit")
QUICK = ("pixart", "cogvideox", "flux")  # text apart, text in the sequence, by guidance in turn
every_host = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in NAMES]
)
PHASES = ("dense", "take", "sparse", "sparse", "take", "sparse", "sparse")


def system(**options: Any) -> ReTtention:
    return ReTtention(keep=KEEP, dense=0.15, period=3, **options)


def moved(inputs: dict[str, Any], step: int) -> dict[str, Any]:
    """The inputs at a step: its time, and other latents."""
    like = inputs["timestep"]
    fraction = like.is_floating_point() and like.max() <= 1
    latents = at_step(inputs, min(step, 4))["hidden_states"] + 0.1 * step
    time = TIMES[step] / 1000 if fraction else TIMES[step]
    return {**inputs, "timestep": torch.full_like(like, time), "hidden_states": latents.to(inputs["hidden_states"])}


def walk(model: nn.Module, inputs: dict[str, Any], *systems: Any, **options: Any) -> list[Tensor]:
    """Outputs of a forward a step, each on inputs of its own."""
    with attach(model, *systems, schedule=TIMES, **options):
        return [output(model, moved(inputs, step)) for step in range(len(TIMES))]


@dataclass(frozen=True)
class Maps(Mechanism):
    """One step by n x n maps, with statistics in a dictionary of the test."""

    phase: str
    kept: dict[str, Any] = field(hash=False, compare=False)

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        scores = (call.q @ call.k.mT).double() * call.scale
        if call.mask is not None:
            assert isinstance(call.mask, KeyPadding)
            scores = scores.masked_fill(~call.mask.keep[:, None, None], -torch.inf)
        allowed = RasterWindow(KEEP).materialize(call.layout_q, call.layout_k)
        v, where = call.v.double(), (call.site.name, None if call.rows is None else call.rows.roles)
        narrow = scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
        if self.phase == "take":
            rho = (scores.softmax(-1) * allowed).sum(-1, keepdim=True)
            self.kept[where] = rho, scores.softmax(-1) @ v - rho * narrow, 0
            return parts
        rho, residual, age = self.kept[where]
        self.kept[where] = rho, residual, age + 1
        risen = torch.where(rho > 1 - 1e-6, rho, rho + 0.04 * age)
        return whole(Partial((risen * narrow + residual).to(call.q.dtype)))


@dataclass(frozen=True)
class ByHand:
    kept: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    name: str = "by hand"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        phase = PHASES[clock.step]
        return () if phase == "dense" or site.kind == "cross" else (Maps(phase, self.kept),)


@every_host
def test_a_run_is_dense_then_mended_windows_as_by_hand(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    dense, by_hand, outs = (walk(model, inputs, *s) for s in ((), (ByHand(),), (system(),)))
    for step, phase in enumerate(PHASES):
        torch.testing.assert_close(outs[step], by_hand[step], atol=1e-5, rtol=1e-4)
        apart = (outs[step] - dense[step]).abs().max()
        assert apart > 1e-5 if phase == "sparse" else apart <= 1e-5
    assert torch.equal(outs[0], dense[0])


@pytest.mark.parametrize("name", ["pixart", "flux"])
def test_all_steps_dense_is_bitwise_the_host(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    for out, dense in zip(walk(model, inputs, ReTtention(keep=KEEP, period=1)), walk(model, inputs), strict=True):
        assert torch.equal(out, dense)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pixart", "cogvideox"])
def test_bfloat16_is_within_its_own_rounding(name: str) -> None:
    model, inputs = BY_NAME[name].shallow()
    fine, fine_dense = walk(model, inputs, system()), walk(model, inputs)
    half = {key: _half(x) for key, x in inputs.items()}
    model = model.to(torch.bfloat16)
    outs, dense = walk(model, half, system()), walk(model, half)
    for out, wanted, plain, exact in zip(outs, fine, dense, fine_dense, strict=True):
        assert out.dtype == torch.bfloat16
        rounding = (plain.float() - exact).abs().max()
        assert (out.float() - wanted).abs().max() <= 2 * rounding + 1e-2


def _half(x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(map(_half, x))
    return x.to(torch.bfloat16) if isinstance(x, Tensor) and x.is_floating_point() else x


def test_padded_text_stays_unseen() -> None:
    model, inputs = BY_NAME["qwen_image"].shallow()
    other = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    other["encoder_hidden_states"][~inputs["encoder_hidden_states_mask"].bool()] += 3
    for a, b in zip(walk(model, inputs, system()), walk(model, other, system()), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_guidance_rows_have_statistics_of_their_own() -> None:
    """Both rows of a batch against each alone."""
    model, inputs = BY_NAME["pixart"].shallow()
    both = walk(model, inputs, system())
    per_row = ("hidden_states", "encoder_hidden_states", "encoder_attention_mask", "timestep")
    for row in (0, 1):
        steps = [{k: x[row : row + 1] if k in per_row else x for k, x in moved(inputs, s).items()} for s in range(7)]
        with attach(model, system(), schedule=TIMES):
            alone = [output(model, step) for step in steps]
        for out, other in zip(both, alone, strict=True):
            torch.testing.assert_close(out[row : row + 1], other, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_pipeline_draws_and_begins_anew_at_another_size_and_number_of_steps() -> None:
    pipe = tiny_flux()

    def draw(size: int, steps: int = 6) -> Tensor:
        g = torch.Generator().manual_seed(0)
        return pipe(
            "a red square", height=size, width=size, num_inference_steps=steps, output_type="latent", generator=g
        ).images

    plain = draw(32)
    with attach(pipe, ReTtention(keep=KEEP, dense=0.2, period=4)) as run:
        first, large, again = draw(32), draw(48, steps=7), draw(32)
        text, report = run.explain(6), run.report()
    assert torch.equal(first, again) and not torch.equal(first, plain)
    assert large.isfinite().all()
    phases = [line.split(":")[0].strip() for line in text.splitlines() if line.startswith("  ")]
    assert phases == ["steps 0-0", "steps 1-1", "steps 2-4", "steps 5-5"]
    assert 0 < report.density < 1.5
    assert torch.equal(draw(32), plain)


def test_the_report_counts_the_windows_of_steps_that_take_statistics() -> None:
    model, inputs = BY_NAME["pixart"].build()
    with attach(model, system(), schedule=TIMES) as run:
        for step in range(len(TIMES)):
            output(model, moved(inputs, step))
    layout = run._interceptors()[0].layout_q
    assert layout is not None
    share = RasterWindow(KEEP).bind(layout, layout).density()
    site = run.report().sites[0]
    assert site.density == pytest.approx((1 + 2 * (1 + share) + 4 * share) / 7)


def test_it_stacks_with_another_mask() -> None:
    """The other's mask holds at every step: dense is what it leaves."""
    model, inputs = BY_NAME["flux"].shallow()
    disc = Clear(radius=2.5)
    alone = walk(model, inputs, disc)
    for stack in ((disc, system()), (system(), disc)):
        outs = walk(model, inputs, *stack)
        for step, phase in enumerate(PHASES):
            assert outs[step].isfinite().all()
            if phase != "sparse":
                torch.testing.assert_close(outs[step], alone[step], atol=1e-5, rtol=1e-4)
        assert (outs[2] - alone[2]).abs().max() > 1e-6


def test_a_plain_module_is_given_its_tokens_and_its_step() -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, ReTtention(keep=KEEP, dense=0, ramp=0), layout=PLAIN) as run:
        outs = []
        for step in range(4):
            run.step(step, of=5)
            outs.append(output(model, inputs))
    dense = output(model, inputs)
    for out in outs:  # nothing moves
        torch.testing.assert_close(out, dense, atol=1e-6, rtol=1e-5)


def test_warm_steps_wait_for_nothing() -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, system(), layout=PLAIN) as run:
        found = []
        for step in range(len(PHASES)):
            run.step(step, of=len(PHASES))
            with waits() as asked:
                output(model, inputs)
            found.append(len(asked))
    assert found[3:] == [0, 0, 0, 0] and found[1] > 0  # sparse, take, sparse, sparse; the first of either prepares


@pytest.mark.slow
def test_some_heads_of_a_site_can_be_chosen() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    some = walk(model, inputs, system(), where=at(heads=(1,)))
    dense, all_ = walk(model, inputs), walk(model, inputs, system())
    assert not torch.equal(some[2], dense[2]) and not torch.equal(some[2], all_[2])


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("others", [(), (Clear(radius=1.5),)], ids=["alone", "stacked"])
def test_compiled_agrees_with_eager_in_three_graphs(others: tuple[Any, ...]) -> None:
    model, inputs = BY_NAME["flux"].shallow()
    eager = walk(model, inputs, *others, system())
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    for a, b in zip(walk(outer, inputs, *others, system()), eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 3


@pytest.mark.bad_input
def test_a_step_that_is_not_known_or_left_out_is_refused() -> None:
    model, inputs = BY_NAME["flux"].build()
    with pytest.raises(
        ValueError, match=r"'re_ttention' needs the step of a forward; attach the pipeline, .* schedule="
    ):
        with attach(model, system()):
            output(model, inputs)
    with attach(model, system(), schedule=TIMES, where=at(during=(0.2, 1))) as run:
        with pytest.raises(StateError, match=r"'re_ttention' reads 'age' in step 2 of 7 at '.*' and no step before"):
            run.explain(7)
        output(model, moved(inputs, 0))
        with pytest.raises(StateError, match=r"'re_ttention' at '.*' \(cond\) reads 'ratio' before any step put it"):
            output(model, moved(inputs, 2))


@pytest.mark.bad_input
def test_a_batch_of_another_size_is_refused() -> None:
    model, inputs = BY_NAME["dit"].build()
    with attach(model, system(), schedule=TIMES):
        output(model, moved(inputs, 1))
        fewer = {key: x[:1] if isinstance(x, Tensor) else x for key, x in moved(inputs, 2).items()}
        with pytest.raises(
            StateError, match=r"kept 'ratio' of shape \(2, 2, 16\), this call needs \(1, 2, 16\); clear"
        ):
            output(model, fewer)
