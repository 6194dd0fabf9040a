"""Doge: the same numbers as transformers' model by its own weights, names both ways, published sizes."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.models.checkpoint_names import LoadError
from saccade.papers.dma import Doge
from saccade.papers.dma.model import DogeConfig
from saccade.runs import decode

SMALL: dict[str, Any] = {"vocabulary": 50, "depth": 2, "width": 32, "heads": 4, "ffn": "swiglu(hidden=48)"}


LARGER = [("100M", 116_044_320), ("260M", 268_478_280), ("320M", 335_750_272)]


def theirs(config: DogeConfig, window: int, *, kv_heads: int = 2, hidden: int = 48, **more: Any) -> Any:
    from transformers import DogeConfig as TheirConfig
    from transformers import DogeForCausalLM

    return DogeForCausalLM(
        TheirConfig(
            vocab_size=config.vocabulary, hidden_size=config.width, intermediate_size=hidden,
            num_hidden_layers=config.depth, num_attention_heads=config.heads, num_key_value_heads=kv_heads,
            keep_window_size=window, tie_word_embeddings=config.tied, attn_implementation="eager", **more,
        )
    )  # fmt: skip


def pair(window: int, tied: bool = True) -> tuple[Any, Doge]:
    """Their model with random weights, and ours with the same."""
    torch.manual_seed(0)
    ours = Doge(**SMALL, tied=tied, mixer=f"dma(kv_heads=2, window={window})")
    model = theirs(ours.config, window).double().eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            around = 1.0 if "residual" in name or "norm" in name else 0.0
            value.normal_(around, 1.0 if name.endswith(".A") else 0.2)
    ours.load_official(model.state_dict())
    return model, ours.double().eval()


def different(n: int) -> Tensor:
    """Tokens that come once: values of equal ones, and so their scores, are equal in the first layer."""
    return torch.stack([torch.randperm(50, generator=torch.Generator().manual_seed(seed))[:n] for seed in (0, 1)])


@pytest.mark.host
@pytest.mark.parametrize("window", [64, 7])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers(window: int, tied: bool) -> None:
    (model, ours), ids = pair(window, tied), different(23)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).out, model(ids).logits, atol=2e-5, rtol=0)  # their norms are float32
        longer = pair(9, tied)[1](ids).out
    assert (longer - ours(ids).out).abs().max() > 1e-2


@pytest.mark.host
def test_padded_texts_are_those_of_transformers() -> None:
    (model, ours), ids = (each.float() for each in pair(7)), different(15)  # in float64 theirs gives NaN
    keep = torch.arange(15) >= torch.tensor([[0], [4]])
    with torch.no_grad():
        wanted = model(ids, attention_mask=keep.long()).logits
        torch.testing.assert_close(ours(ids, keep=keep).out[keep], wanted[keep], atol=1e-4, rtol=0)


@pytest.mark.host
def test_it_writes_what_transformers_writes() -> None:
    (model, ours), ids = pair(7), different(9)[:1]
    wanted = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(decode(ours, ids, tokens=6, memories=ours.fresh_memories()), wanted)


def test_official_names_go_both_ways_and_others_are_refused() -> None:
    ours = Doge(**SMALL, mixer="dma(kv_heads=2)")
    state = ours.official_state()
    assert "model.layers.1.self_attn.dt_proj.weight" in state and "model.layers.0.input_residual" in state
    other = Doge(**SMALL, mixer="dma(kv_heads=2)")
    other.load_official(state)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in ours.state_dict().items())
    other.load_official({**state, "lm_head.weight": state["model.embed_tokens.weight"].clone()})
    for name in ("model.layers.0.self_attn.bias", "lm_head.weight"):
        with pytest.raises(LoadError, match=f"1 unexpected: {name}"):
            other.load_official({**state, name: torch.zeros(50, 32)})
    with pytest.raises(LoadError, match=r"missing: .*self_attn.A"):
        other.load_official({name: value for name, value in state.items() if not name.endswith("0.self_attn.A")})


@pytest.mark.host
@pytest.mark.parametrize(
    ("name", "count"),
    [("40M", 40_709_384)] + [pytest.param(*each, marks=pytest.mark.slow) for each in LARGER],
)  # fmt: skip
def test_published_sizes_have_the_parameters_of_transformers(name: str, count: int) -> None:
    config: DogeConfig = Doge.sizes[name]
    hidden = int(str(config.ffn).partition("=")[2].rstrip(")"))
    with torch.device("meta"):
        wanted = theirs(config, 2048, kv_heads=config.heads // 2, hidden=hidden)
    shapes = {key: tuple(value.shape) for key, value in wanted.state_dict().items() if key != "lm_head.weight"}
    with torch.device("meta"):
        ours = Doge.of(name)
        macs = ours.macs(torch.zeros(1, 16, dtype=torch.int64))
    found = {key: tuple(value.shape) for key, value in ours.official_state().items()}
    assert found == shapes and Doge.parameters_of(config) == count
    width, depth, inner = config.width, config.depth, config.width // 2  # of q and o as wide as the model, k and v half
    layer = 2 * width**2 + 2 * width * inner + inner * config.heads // 2 + 3 * width * hidden
    attention = config.heads * 16 * (128 + 128)  # as if no pair were spared
    assert macs == 16 * (depth * (layer + attention) + width * config.vocabulary)
