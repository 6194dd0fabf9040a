"""VMoBA on tiny random models of the real classes: video and image DiTs, in training and without, compiled, stacked."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import Table
from saccade.core.mechanism import Mechanism, Pairs, PlanItem
from saccade.core.site import Site, at
from saccade.core.state import Memory
from saccade.ops import chosen_keys
from saccade.papers.clear import Clear
from saccade.papers.vmoba import VMoBA, chosen_chunks
from tests.hosts.tiny import BY_NAME, output
from tests.papers.vmoba import reference
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
SYSTEMS = {  # grids (3, 2, 3), (3, 3, 4), (3, 2, 3) and (1, 4, 4)
    "wan": VMoBA(frames=1, tile=(1, 1), box=(3, 1, 3)),
    "cogvideox": VMoBA(frames=1, tile=(3, 2), box=(1, 3, 2), tau=0.4),
    "hunyuan_video": VMoBA(frames=0.5, tile=(1, 3), box=(1, 2, 1), tau=0.4),
    "flux": VMoBA(tile=(2, 2), tau=0.4),
}
every_host = pytest.mark.parametrize("name", SYSTEMS)
both_ways = pytest.mark.parametrize("short", [10**9, 0], ids=["one softmax", "two branches"])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_keys, "BLOCK", 8)


def run(model: nn.Module, inputs: dict[str, Any], *systems: Any, **options: Any) -> Tensor:
    with attach(model, *systems, **options):
        return output(model, inputs)


class ByHand(Mechanism):
    """The pairs chosen one by one, as a table between all tokens."""

    def __init__(self, system: VMoBA, layer: int) -> None:
        self.system, self.layer = system, layer

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        image, span = call.layout_q.image, call.layout_q.span("image")
        kinds = [sized for sized in (self.system.frames, self.system.tile, self.system.box) if sized is not None]
        blocks = kinds[self.layer % len(kinds)]
        assert image.grid is not None
        label = reference.labels(blocks if isinstance(blocks, tuple) else (blocks,), image.grid)
        own = label == torch.arange(int(label.max()) + 1)[:, None]
        q, k = (x[:, :, span].detach() for x in (call.q, call.k))
        allowed = torch.ones(*call.q.shape[:2], call.layout_q.n, call.layout_q.n, dtype=torch.bool)
        for row in range(len(q)):
            gate = reference.gates(q[row], k[row], label)
            for pairs in reference.groups("head_global", len(gate), len(own), len(label)):
                kept = reference.kept_by_sum(gate, own, pairs, self.system.tau, True)
                head, chosen = pairs[0][0], torch.zeros_like(own)
                chosen[tuple(torch.tensor(sorted((c, s) for _, c, s in kept)).T)] = True
                allowed[row, head, span, span] = chosen[label].mT
        tokens = torch.arange(call.layout_q.n)
        return Pairs(mask=Table(tokens, tokens, allowed))


class HandMade:
    """Of every self-attention, layers counted here."""

    name = "by hand"

    def __init__(self, system: VMoBA) -> None:
        self.system, self.layers = system, list[str]()

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross":
            return ()
        if site.name not in self.layers:
            self.layers.append(site.name)
        return (ByHand(self.system, self.layers.index(site.name)),)


@both_ways
@every_host
def test_every_layer_attends_to_the_blocks_chosen_by_hand(
    name: str, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    model, inputs = BY_NAME[name].build()
    out = run(model, inputs, SYSTEMS[name])
    torch.testing.assert_close(out, run(model, inputs, HandMade(SYSTEMS[name])), atol=1e-5, rtol=1e-4)
    assert (out - run(model, inputs)).abs().max() > 1e-5


@every_host
def test_keeping_all_is_bitwise_the_host(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    assert torch.equal(run(model, inputs, VMoBA(frames=1, tau=1)), output(model, inputs))


@every_host
def test_it_runs_in_bfloat16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", 0)
    model, inputs = BY_NAME[name].build()
    exact, dense = run(model, inputs, SYSTEMS[name]), output(model, inputs)
    model = model.to(torch.bfloat16)
    half = {
        key: x.bfloat16() if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 1 else x
        for key, x in inputs.items()
    }
    plain, ours = output(model, half).float(), run(model, half, SYSTEMS[name]).float()
    assert ours.isfinite().all()
    assert (ours - exact).abs().mean() < 4 * (plain - dense).abs().mean() + 0.01


def test_cross_attention_is_left_alone_and_layers_count_without_it() -> None:
    model, inputs = BY_NAME["wan"].build()
    with attach(model, SYSTEMS["wan"]) as attached:
        output(model, inputs)
        text = attached.explain(2)
        sites = {site.name: site for site in attached.report().sites}
    assert "Frames" in text and "Tile" in text  # layers 0 and 1, though they are sites 0 and 2
    assert all(sites[f"blocks.{i}.attn1"].systems == ("vmoba",) for i in (0, 1))
    assert not any(site.systems for name, site in sites.items() if name.endswith("attn2"))
    assert {sites[f"blocks.{i}.attn1"].density for i in (0, 1)} == {None}  # chosen inside the call


def test_padded_text_stays_unseen() -> None:
    model, inputs = BY_NAME["hunyuan_video"].build()
    other = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    other["encoder_hidden_states"][~inputs["encoder_attention_mask"].bool()] += 3
    system = SYSTEMS["hunyuan_video"]
    torch.testing.assert_close(run(model, inputs, system), run(model, other, system), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["wan", "hunyuan_video"])
def test_rows_of_guidance_are_independent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", 0)
    model, inputs = BY_NAME[name].build()
    rows = [
        {k: x[row : row + 1] if isinstance(x, Tensor) and len(x) == 2 else x for k, x in inputs.items()}
        for row in (0, 1)
    ]
    alone = torch.cat([run(model, row, SYSTEMS[name]) for row in rows])
    torch.testing.assert_close(run(model, inputs, SYSTEMS[name]), alone, atol=1e-5, rtol=1e-4)


def trained(model: nn.Module, inputs: dict[str, Any], steps: int = 2) -> list[Tensor]:
    """The parameters after some steps."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        result = model(**inputs)
        (result[0] if isinstance(result, tuple) else result).square().mean().backward()
        optimiser.step()
    return [p.detach().clone() for p in model.parameters()]


@both_ways
@pytest.mark.parametrize(
    "name", ["wan", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hunyuan_video", "cogvideox"))]
)
def test_training_with_gradient_checkpointing_is_training(
    name: str, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    system, after = SYSTEMS[name], list[list[Tensor]]()
    for attached, checkpointed in ((system, False), (system, True), (HandMade(system), False)):
        model, inputs = BY_NAME[name].shallow()
        before = [*model.parameters(), *model.state_dict()]
        if checkpointed:
            model.enable_gradient_checkpointing()
        model.train()
        with attach(model, attached):
            assert len([*model.parameters(), *model.state_dict()]) == len(before)  # no new parameters
            after.append(trained(model, inputs))
    for others in after[1:]:
        for a, b in zip(after[0], others, strict=True):
            torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_dropout_is_refused() -> None:
    class Dropping(nn.Module):
        heads = 2

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)

    model = Dropping()
    with (
        attach(model, VMoBA(frames=1), layout=Layout.image_only((3, 2, 2))),
        pytest.raises(ValueError, match=r"dropout_p=0.1 at site 'self'; call eval\(\) on the model, or set dropout"),
    ):
        model(torch.randn(1, 2, 12, 4))


def test_a_flux_pipeline_samples_with_the_first_quarter_dense() -> None:
    pipe = tiny_flux()

    def sample() -> Tensor:
        g = torch.Generator().manual_seed(0)
        return pipe(
            "a red square", height=32, width=32, num_inference_steps=4, output_type="latent", generator=g
        ).images

    dense = sample()
    with attach(pipe, VMoBA(tile=(2, 2), select="topk", scope="query_head", k=2, skip=0.25)) as attached:
        ours, again, text = sample(), sample(), attached.explain(4)
    assert torch.equal(ours, again) and not torch.equal(ours, dense) and torch.equal(sample(), dense)
    assert [line.split(":")[0].strip() for line in text.splitlines() if line.startswith("  ")] == [
        "steps 0-0", "steps 1-3",
    ]  # fmt: skip


@both_ways
def test_it_stacks_with_another_mask(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    model, inputs = BY_NAME["cogvideox"].build()
    system, disc = SYSTEMS["cogvideox"], Clear(radius=2)
    both = run(model, inputs, disc, system)
    torch.testing.assert_close(both, run(model, inputs, disc, HandMade(system)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both, run(model, inputs, system, disc), atol=1e-6, rtol=1e-5)
    assert not torch.equal(both, run(model, inputs, system)) and not torch.equal(both, run(model, inputs, disc))


def test_some_heads_of_a_site_can_be_chosen() -> None:
    model, inputs = BY_NAME["wan"].build()
    some = run(model, inputs, SYSTEMS["wan"], where=at(heads=(1,)))
    assert not torch.equal(some, output(model, inputs)) and not torch.equal(some, run(model, inputs, SYSTEMS["wan"]))


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@both_ways
@pytest.mark.compile
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["wan", "hunyuan_video"])
def test_compiled_agrees_with_eager_in_one_graph(name: str, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_chunks, "SHORT", short)
    model, inputs = BY_NAME[name].shallow()
    eager = run(model, inputs, SYSTEMS[name])
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(run(outer, inputs, SYSTEMS[name]), eager, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.bad_input
def test_a_step_that_is_not_known_is_refused() -> None:
    model, inputs = BY_NAME["wan"].build()
    with pytest.raises(ValueError, match=r"'vmoba' needs the step of a forward; attach the pipeline, .* schedule="):
        run(model, inputs, VMoBA(tile=(1, 1), skip=0.5))


@pytest.mark.bad_input
def test_blocks_that_do_not_fit_a_host_are_refused() -> None:
    model, inputs = BY_NAME["wan"].build()
    with pytest.raises(ValueError, match=r"tile=\(2, 2\) must divide the grid \(t, h, w\) = \(3, 2, 3\)"):
        run(model, inputs, VMoBA(tile=(2, 2)))
    picture, latents = BY_NAME["flux"].build()
    with pytest.raises(ValueError, match=r"frames=1 divides a video in time, grid=\(1, 4, 4\) is one frame; give tile"):
        run(picture, latents, VMoBA(frames=1))
