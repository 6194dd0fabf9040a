"""DMA attached to Llama, Qwen2 and Qwen3: exact copies within the window, trained scores, caches, padding, graphs."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.biases import DenseBias
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, Pairs, PlanItem
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.papers.dma import DMA
from tests.hosts.transformers.texts import SHARED
from tests.papers.dma import reference

pytestmark = pytest.mark.host
LENGTH, HEADS = 14, {"kv_heads": 2, "head_dim": 8}
every_host = pytest.mark.parametrize("name", ["Llama", "Qwen2", "Qwen3"])


def model(name: str, **options: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**SHARED, "head_dim": 8, "initializer_range": 0.3, **options})
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def ids(n: int = LENGTH) -> Tensor:
    """Tokens that come once in a row: equal ones have equal values, and scores, in the first layer."""
    return torch.stack([torch.randperm(39, generator=torch.Generator().manual_seed(s))[:n] + 1 for s in (0, 1)])


def scored(host: Any, window: int, std: float = 1.0, **options: Any) -> DMA:
    """With random scores."""
    torch.manual_seed(1)
    with attach(host, DMA(window=window)) as run:
        system = DMA(window=window).trainable(run.sites, **HEADS, std=std, **options)
    assert system.scores is not None
    for name, value in system.scores.named_parameters():
        if "dt_proj" in name:
            torch.nn.init.normal_(value, std=0.5)
    system.scores.to(next(host.parameters()).dtype)
    return system


def logits(host: Any, *systems: DMA, tokens: Tensor | None = None, **more: Any) -> Tensor:
    with attach(host, *systems):
        return host(input_ids=ids() if tokens is None else tokens, **more).logits


class ByHand(Mechanism):
    """Scores and choice written out, as one dense bias."""

    def __init__(self, scores: Any, window: int, causal: bool) -> None:
        self.scores, self.window, self.causal = scores, window, causal

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        ratio = call.q.shape[1] // call.v.shape[1]
        rows = torch.stack([self.sample(v) for v in call.v.detach()]).to(call.q.dtype)
        return Pairs(bias=DenseBias(rows.repeat_interleave(ratio, dim=1)))

    def sample(self, v: Tensor) -> Tensor:
        n, weights = v.shape[1], (self.scores.dt_proj.weight.detach(), self.scores.A.detach())
        score = reference.score(v, *weights, self.scores.form)
        seen = [[j <= i or not self.causal for j in range(n)] for i in range(n)]
        kept = [[reference.kept(each.tolist(), row, self.window) for row in seen] for each in score]
        return torch.where(torch.tensor(kept), score[:, None], -torch.inf)


class HandMade:
    name = "by hand"

    def __init__(self, system: DMA, causal: bool = True) -> None:
        self.system, self.causal = system, causal

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        assert self.system.scores is not None
        return (ByHand(self.system.scores.at(site), self.system.window, self.causal),)


@every_host
def test_up_to_the_window_an_unscored_host_is_an_exact_copy(name: str) -> None:
    host = model(name).double()
    plain = host(input_ids=ids()).logits
    assert torch.equal(logits(host, DMA(window=LENGTH)), plain)
    for form in ("exp", "linear"):
        same = logits(host, scored(host, LENGTH, std=0.0, form=form))
        torch.testing.assert_close(same, plain, atol=1e-12, rtol=0)
    assert (logits(host, scored(host, LENGTH)) - plain).abs().max() > 1e-3
    assert (logits(host, DMA(window=LENGTH - 1)) - plain).abs().max() > 1e-3
    assert torch.equal(host(input_ids=ids()).logits, plain)  # detached


@pytest.mark.parametrize(
    ("name", "form", "causal"),
    [("Llama", "exp", True), ("Qwen2", "linear", True), ("Qwen3", "exp", True), ("Llama", "exp", False)],
)
def test_every_layer_keeps_the_keys_chosen_by_hand(name: str, form: Any, causal: bool) -> None:
    host = model(name, is_causal=causal).double()
    system = scored(host, 5, form=form)
    found = logits(host, system)
    with attach(host, HandMade(system, causal)):
        wanted = host(input_ids=ids()).logits
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", ["DynamicCache", "StaticCache"])
@pytest.mark.parametrize("padded", [False, True])
def test_decoding_with_a_cache_is_one_forward(kind: str, padded: bool) -> None:
    import transformers

    host = model("Llama").double()
    system, room = scored(host, 5), {} if kind == "DynamicCache" else {"max_cache_len": 20}
    keep = torch.arange(LENGTH) >= torch.tensor([[0], [3 if padded else 0]])
    whole = logits(host, system, attention_mask=keep.long())
    cache, start, found = getattr(transformers, kind)(config=host.config, **room), 0, []
    with attach(host, system), torch.no_grad():
        for n in (6, 1, 1, 4, 2):
            mask = keep[:, : start + n].long()
            part = ids()[:, start : start + n]
            found.append(host(input_ids=part, past_key_values=cache, attention_mask=mask).logits)
            start += n
    torch.testing.assert_close(torch.cat(found, 1)[keep], whole[keep], atol=1e-9, rtol=0)


def test_padding_is_not_seen_nor_counted() -> None:
    host = model("Qwen3").double()
    system, keep = scored(host, 5), torch.arange(LENGTH) >= torch.tensor([[4], [0]])
    found = logits(host, system, attention_mask=keep.long())[:1, 4:]
    alone = logits(host, system, tokens=ids()[:1, 4:])
    torch.testing.assert_close(found, alone, atol=1e-4, rtol=0)  # the host's rotary tables are float32


def test_a_sliding_layer_keeps_the_best_keys_of_its_own_window() -> None:
    host = model("Qwen2", sliding_window=6, use_sliding_window=True, max_window_layers=0).double()
    plain = host(input_ids=ids()).logits
    torch.testing.assert_close(logits(host, DMA(window=6)), plain, atol=1e-12, rtol=0)
    narrow = model("Qwen2", sliding_window=4, use_sliding_window=True, max_window_layers=0).double()
    torch.testing.assert_close(logits(host, DMA(window=4)), narrow(input_ids=ids()).logits, atol=1e-12, rtol=0)


def test_scores_are_trained_and_the_host_is_not_changed() -> None:
    host = model("Llama")
    system, before = scored(host, 5), {name: p.clone() for name, p in host.state_dict().items()}
    assert system.scores is not None
    count = sum(p.numel() for p in system.scores.parameters())
    assert count == 2 * (2 * (2 * 8) + 2)
    optimiser, losses = torch.optim.Adam(system.scores.parameters(), lr=0.1), []
    for p in host.parameters():
        p.requires_grad_(False)
    with attach(host, system):
        for _ in range(8):
            loss = host(input_ids=ids(), labels=ids()).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    assert min(losses) < losses[0]
    assert all(torch.equal(p, before[name]) for name, p in host.state_dict().items())


@pytest.fixture
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.compile
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_agrees_with_eager_in_one_graph() -> None:
    host = model("Llama")
    system = scored(host, 5)
    eager = logits(host, system, use_cache=False)
    compiled: Any = torch.compile(host, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(logits(compiled, system, use_cache=False), eager, rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 0}, "window=0 must be a whole number of at least 1"), ({"window": 2.0}, "window=2.0 must be")],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DMA(**options)


def test_scores_of_other_heads_and_a_site_without_scores_are_refused() -> None:
    host = model("Llama")
    with attach(host, DMA()) as run:
        sites = run.sites
    with pytest.raises(ValueError, match=r"weight \(4, 32\) must be \(2, 16\)"):
        logits(host, DMA(window=5).trainable(sites, kv_heads=4, head_dim=8))
    with pytest.raises(
        ValueError, match=r"no scores for site '.*layers.1.self_attn'; there are some for model/layers/0"
    ):
        logits(host, DMA(window=5).trainable(sites[:1], **HEADS))
