"""The decoder: what it keeps and counts, how it stores, writes and learns with either optimiser."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.models import CausalLM
from saccade.models.architecture import Architecture
from saccade.nn.moe import MoE
from saccade.nn.routing import record_routing
from saccade.papers.muon_mla_moe.model import LatentMoE, LatentMoEConfig, cache_numbers
from saccade.runs import decode
from saccade.train.causal import CausalStage, CausalTask, held_out_nats
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

TINY: dict[str, Any] = {"vocabulary": 11, "depth": 2, "width": 16, "heads": 2, "experts": 6, "top": 2, "dense": 32}


def model(**changes: Any) -> LatentMoE:
    torch.manual_seed(0)
    return LatentMoE(**TINY | changes)


def ids(rows: int, tokens: int) -> Tensor:
    return torch.randint(11, (rows, tokens), generator=torch.Generator().manual_seed(0))


def test_text_is_the_same_with_a_memory_and_without() -> None:
    tiny = model().double().eval()
    memories = tiny.fresh_memories()
    whole = decode(tiny, ids(2, 3), tokens=6)
    assert torch.equal(decode(tiny, ids(2, 3), tokens=6, memories=memories), whole)
    assert sum(each.size for each in memories) == 2 * 8 * cache_numbers(tiny) * 8  # rows, tokens but the last, bytes
    assert cache_numbers(tiny) == 2 * (8 + 4) and cache_numbers(CausalLM(depth=2, width=16, heads=2)) == 2 * 2 * 16


def test_padding_on_the_left_is_not_seen_with_a_memory_or_without() -> None:
    tiny, text = model().double().eval(), ids(1, 6)
    padded, keep = torch.cat((ids(1, 3), text), 1), torch.arange(9)[None] >= 3
    wanted, memories = tiny(text).out, tiny.fresh_memories()
    torch.testing.assert_close(tiny(padded, keep=keep).out[:, 3:], wanted, rtol=0, atol=1e-6)
    tiny(padded[:, :7], memories, keep=keep[:, :7])
    found = tiny(padded[:, 7:], memories, keep=keep[:, 7:]).out
    torch.testing.assert_close(found, wanted[:, 4:], rtol=0, atol=1e-6)


def test_eight_experts_at_work_multiply_as_much_as_the_dense_layer() -> None:
    config = LatentMoEConfig(width=64, depth=1)
    every, at_work = LatentMoE.weights(config)
    assert config.expert == 32 and every - at_work == 56 * 3 * 64 * 32
    dense = CausalLM.parameters_of(config_of_dense(config))
    assert at_work == dense + 62 * 64  # the router
    ffn = LatentMoE(config).blocks[0].ffn
    assert isinstance(ffn, MoE) and ffn.shared is not None and ffn.shared.up.out_features == 2 * 32


def config_of_dense(config: LatentMoEConfig) -> Any:
    dense = f"swiglu(hidden={8 * config.expert})"
    return CausalLM.config_class(depth=config.depth, width=config.width, heads=4, mixer=config.mixer, ffn=dense)


@pytest.mark.parametrize("size", ["tiny", "512"])
def test_counts_of_the_sizes(size: str) -> None:
    """By formula: attention, experts at work and idle, norms, the tied embedding; multiply-adds of one token."""
    config: LatentMoEConfig = replace(LatentMoE.sizes[size], depth=2)
    d, expert, latent = config.width, config.expert, config.latent or config.width // 2
    rope, heads = config.rope_dim or d // config.heads // 2, config.heads
    attention = d * latent + 2 * latent * d + d * d + d * rope + d * heads * rope + d * d
    each, work = 3 * d * expert, config.top + config.shared
    block = attention + latent + 2 * d + d * config.experts
    every = config.depth * (block + each * (config.experts + config.shared)) + d + config.vocabulary * d
    at_work = every - config.depth * each * (config.experts - config.top)
    assert LatentMoE.weights(config) == (every, at_work)
    with torch.device("meta"):
        made = LatentMoE(config)
        found = made.macs(torch.zeros(1, 1, dtype=torch.long))
    pairs = heads * (2 * d // heads + rope)
    products = config.depth * (attention + d * config.experts + each * work + pairs) + config.vocabulary * d
    assert found == products


def test_six_of_sixty_two_and_gates_that_sum_to_one() -> None:
    tiny = model(experts=62, top=6, dense=64)
    with record_routing(tiny.eval()) as found:
        tiny(ids(2, 4))
    (routing,) = found["blocks.0.ffn.router"]
    assert routing.index.shape == (2, 4, 6) and all(
        len(set(each.tolist())) == 6 for each in routing.index.flatten(0, 1)
    )
    torch.testing.assert_close(routing.weight.sum(-1), torch.ones(2, 4))


def test_stored_and_read_again(tmp_path: Path) -> None:
    tiny = model(scores="sigmoid").eval()
    tiny.blocks[0].ffn.router.offset += 0.1  # type: ignore[union-attr, operator]
    tiny.save_pretrained(tmp_path)
    again = Architecture.from_pretrained(tmp_path)
    assert isinstance(again, LatentMoE) and again.config == tiny.config
    assert torch.equal(again.eval()(ids(1, 5)).out, tiny(ids(1, 5)).out)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_it_learns_and_its_routers_balance(kind: Any, tmp_path: Path) -> None:
    text = torch.arange(600) * 3 % 11
    optim = Optim(kind=kind, lr=5e-3, muon_lr=1e-2, flatten=True)
    stage = CausalStage(fit=Fit(steps=25, precision="no", decay=0.5, optim=optim), length=16, batch=4)
    tiny = model()
    before = held_out_nats(tiny, text, length=16, windows=4).mean()
    fit(CausalTask(tiny, text, stage), stage.fit, tmp_path)
    assert held_out_nats(tiny, text, length=16, windows=4).mean() < before - 0.5
    router: Any = tiny.blocks[0].ffn.router
    assert bool(router.offset.any()) and not bool(router.load.any())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 7}, "top=7 must be between 1 and experts=6"),
        ({"top": 0}, "top=0 must be at least 1"),
        ({"shared": -1}, "shared=-1 must be at least 0"),
        ({"rope_dim": 5}, "rope_dim=5 must be even"),
        ({"latent": 17}, "latent=17 must be between 1 and width=16"),
        ({"dense": 3}, "hidden=0 must be at least 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**options)
