"""Variants in tiny random decoders of transformers: what must equal the host's own attention, caches, streams, undo."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.cache_utils import DynamicCache, StaticCache

from saccade.papers.deconstructing_attention.host_state import StateLayer
from saccade.papers.deconstructing_attention.hosts import deconstruct
from saccade.papers.deconstructing_attention.model import VARIANTS

SIZES: dict[str, Any] = {
    "vocab_size": 13, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
GPT2_SIZES: dict[str, Any] = {
    "vocab_size": 13, "n_embd": 16, "n_layer": 3, "n_head": 4, "n_positions": 64, "attn_pdrop": 0.0, "pad_token_id": 0,
    "scale_attn_by_inverse_layer_idx": True,
}  # fmt: skip
HOSTS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)),
}
OPTIONS: dict[str, Any] = {"context": 40, "sequence": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3] * 2}


def host(name: str) -> Any:
    torch.manual_seed(0)
    model = HOSTS[name]().double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def ids(rows: int, tokens: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 13, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def near(a: Tensor, b: Tensor, tolerance: float = 1e-6) -> None:
    """Rotary tables of transformers are single precision."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", HOSTS)
def test_embeddings_are_what_the_first_layer_reads_anyway(name: str) -> None:
    model, text = host(name), ids(2, 9)
    wanted = model(text).logits
    with deconstruct(model, "static_emb_qk", layout=(2, 3)):
        near(model(text).logits, wanted)
    with deconstruct(model, "static_emb_qk", layout=(1, 3)):
        assert not torch.allclose(model(text).logits, wanted, atol=1e-3)


@pytest.mark.parametrize("layout", ["uniform", "even"])
@pytest.mark.parametrize("name", HOSTS)
def test_a_text_that_is_the_fixed_sequence_meets_its_own_maps(name: str, layout: str) -> None:
    model, text = host(name), ids(1, 9)
    wanted = model(text).logits
    with deconstruct(model, "fixed_seq_qk", layout=layout, sequence=text[0]):
        near(model(text).logits, wanted)
        near(model(text.repeat(3, 1)).logits, wanted.repeat(3, 1, 1))
        other = ids(1, 9, seed=5)
        assert not torch.allclose(model(other).logits, host(name)(other).logits, atol=1e-3)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gpt2"])
def test_the_random_stream_is_a_pass_of_the_plain_decoder(name: str) -> None:
    model = host(name)
    plain = deepcopy(model)
    seen: list[Tensor] = []
    found = deconstruct(model, "rnd_emb_qk", layout="uniform", context=12, generator=torch.Generator().manual_seed(1))
    table, decoder = found.fixed, plain.base_model
    assert table is not None and 0.01 < float(table.std()) < 0.03
    for layer in decoder.layers if hasattr(decoder, "layers") else decoder.h:
        entry = layer.input_layernorm if hasattr(layer, "input_layernorm") else layer.ln_1
        entry.register_forward_hook(lambda _, __, out: seen.append(out))
    first = decoder.layers[0] if hasattr(decoder, "layers") else decoder.h[0]
    first.register_forward_pre_hook(lambda _, given: (table[:, :7], *given[1:]))
    decoder(ids(1, 7))
    read: list[dict[int, Tensor]] = []
    for mixer in found.mixers:
        mixer.register_forward_hook(lambda *_: read.append(dict(found.sources.read)))
    model(ids(4, 7))
    for i, wanted in enumerate(seen):
        near(read[-1][i], wanted)
    assert not found.sources.read and found.sources.embedded is None


@pytest.mark.parametrize("variant", [*VARIANTS, "approx(reading='per_order')"])
@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.filterwarnings("ignore:first-order sums came within")
@torch.no_grad()
def test_caches_change_nothing(name: str, variant: str) -> None:
    model, text = host(name), ids(2, 9)
    with deconstruct(model, variant, layout="even", **OPTIONS):
        whole, cache, found = model(text, use_cache=False).logits, DynamicCache(), []
        for piece in text.split([4, 1, 1, 3], dim=1):
            found.append(model(piece, past_key_values=cache).logits)
        near(torch.cat(found, 1), whole)
        kinds = [isinstance(layer, StateLayer) for layer in cache.layers]
        assert kinds == [True, False, True] and cache.get_seq_length() == 9
        near(model(text[:, :4], past_key_values=(again := DynamicCache())).logits, whole[:, :4])
        near(model(text[:, 4:], past_key_values=deepcopy(again)).logits, whole[:, 4:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_generation_with_beams_is_that_without_a_cache(variant: str) -> None:
    model, text = host("llama"), ids(2, 4)
    with deconstruct(model, variant, layout="even", **OPTIONS):
        for beams in (1, 3):
            options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "num_beams": beams}
            made = model.generate(text, **options)
            assert made.shape == (2, 10) and torch.equal(made, model.generate(text, **options, use_cache=False))


def hand_mixed(model: Any, name: str, variant: str, x: Tensor) -> Tensor:
    """The first layer's attention by plain loops; no rotary positions."""
    decoder = model.base_model
    if name == "gpt2":
        attention, kv_heads = decoder.h[0].attn, 4
        q, k, v = attention.c_attn(x).chunk(3, -1)
        out = attention.c_proj
    else:
        attention, kv_heads = decoder.layers[0].self_attn, 2
        q, k, v, out = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x), attention.o_proj
    q = F.silu(q)
    q, k, v = q.view(*x.shape[:2], 4, -1), k.view(*x.shape[:2], kv_heads, -1), v.view(*x.shape[:2], kv_heads, -1)
    if name == "qwen3":
        q, k = attention.q_norm(q), attention.k_norm(k)
    mixed = torch.zeros_like(q)
    for row in range(len(x)):
        for head in range(4):
            other = head * kv_heads // 4
            s = torch.stack([q[row, j, head] @ k[row, j, other] for j in range(x.shape[1])]) / q.shape[-1] ** 0.5
            for i in range(x.shape[1]):
                mixed[row, i, head] = s[: i + 1].softmax(0) @ v[row, : i + 1, other]
    return out(mixed.flatten(2))


@pytest.mark.parametrize("name", HOSTS)
def test_position_scores_equal_plain_loops(name: str) -> None:
    model = host(name)
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    wanted = hand_mixed(model, name, "nonapprox", x)
    found = deconstruct(model, "nonapprox", layout=(2, 3)).mixers[0](x)[0]
    near(found, wanted, 1e-10)


def test_small_scores_make_the_series_the_hosts_softmax() -> None:
    model, text = host("qwen2"), ids(2, 9)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight.mul_(1e-4)
            layer.self_attn.q_proj.bias.mul_(1e-4)
    wanted = model(text).logits
    with deconstruct(model, "approx", layout="uniform"):
        near(model(text).logits, wanted, 1e-9)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_mlp_sees_no_other_token_and_is_as_large(name: str) -> None:
    model, text = host(name), ids(1, 5)
    size = sum(weight.numel() for weight in model.parameters())
    own = deconstruct(model, "mlp", layout="uniform")
    used = [weight for part in own.mixers for weight in (*part.gate.parameters(), *part.up.parameters())]
    assert used and all(weight.requires_grad for weight in used)
    with torch.no_grad():
        for part in own.mixers:
            for layer in (part.gate, part.up, part.down):
                layer.weight.normal_()
    other = text.clone()
    other[:, 0] = text[:, 0] % 12 + 1
    near(model(text).logits[:, 1:], model(other).logits[:, 1:], 1e-12)
    assert not torch.allclose(model(text).logits[:, 0], model(other).logits[:, 0])
    gated = sum(weight.numel() for part in own.mixers for weight in part.parameters()) - sum(
        weight.numel() for part in own.mixers for weight in part.attention.parameters()
    )
    if name == "gpt2":
        replaced = sum(weight.numel() for part in own.mixers for weight in part.attention.c_attn.parameters())
        assert gated == replaced
    own.undo()
    assert sum(weight.numel() for weight in model.parameters()) == size


def test_undone_it_is_the_host_to_the_bit() -> None:
    model, text = host("qwen3"), ids(2, 6)
    before, names = model(text).logits, list(model.state_dict())
    with deconstruct(model, "rnd_emb_qk", layout="uniform", context=8):
        assert not torch.equal(model(text).logits, before)
    assert torch.equal(model(text).logits, before) and list(model.state_dict()) == names
    hooks = [hook for module in model.modules() for hook in (module._forward_hooks, module._forward_pre_hooks)]
    assert not any(hooks)


def test_gradients_go_through_the_stream() -> None:
    model, text = host("llama").train(), ids(2, 6)
    with deconstruct(model, "fixed_seq_qk", layout="uniform", sequence=OPTIONS["sequence"]):
        model(text, labels=text).loss.backward()
    queries = [layer.self_attn.q_proj.weight.grad for layer in model.model.layers]
    assert all(grad is not None and grad.abs().max() > 0 for grad in queries)
    embedded = model.model.embed_tokens.weight.grad
    absent = [token for token in OPTIONS["sequence"][:6] if token not in text]
    assert absent and all(embedded[token].abs().max() > 0 for token in absent)  # reached by the stream alone


def test_padding_on_the_right_is_not_seen() -> None:
    model, text = host("llama"), ids(1, 5)
    padded = torch.cat((text, torch.zeros(1, 3, dtype=torch.long)), 1)
    mask = (torch.arange(8) < 5).long()[None]
    for variant in VARIANTS:
        with deconstruct(model, variant, **OPTIONS):
            near(model(padded, attention_mask=mask).logits[:, :5], model(text).logits, 1e-9)


def test_messages() -> None:
    model, text = host("llama"), ids(1, 5)
    with pytest.raises(ValueError, match="variant='linear' is unknown; choose one of mlp, approx"):
        deconstruct(model, "linear")
    with pytest.raises(ValueError, match="variant 'mlp' has no option 'reading'"):
        deconstruct(model, "mlp(reading='taylor')")
    with pytest.raises(ValueError, match=r"layout=\(4,\) has layer 4; layers are counted from 1 to 3"):
        deconstruct(model, "mlp", layout=(4,))
    with pytest.raises(ValueError, match="sequence=None holds no token"):
        deconstruct(model, "fixed_seq_qk")
    with pytest.raises(ValueError, match="GPT2Model|no decoder"):
        deconstruct(torch.nn.Linear(2, 2), "mlp")
    dropping = GPT2LMHeadModel(GPT2Config(**GPT2_SIZES | {"attn_pdrop": 0.1}))
    with pytest.raises(ValueError, match="layer 1 drops out 0.1 of its attention .* attn_pdrop=0"):
        deconstruct(dropping, "rnd_emb_qk")
    windowed = Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    with pytest.raises(ValueError, match="layer 1 has sliding_window=4, which no variant has"):
        deconstruct(Qwen2ForCausalLM(windowed), "nonapprox")
    with deconstruct(model, "rnd_emb_qk", context=4) as found:
        with pytest.raises(ValueError, match="5 tokens are more than the 4 of the fixed stream"):
            model(text)
        with pytest.raises(ValueError, match="position_ids must be 0 to 3, where the fixed stream's tokens stand"):
            model(text[:, :4], position_ids=torch.arange(1, 5)[None])
        with pytest.raises(ValueError, match="padding on the left, which moves tokens; pad on the right"):
            model(text[:, :4], attention_mask=torch.tensor([[0, 1, 1, 1]]))
        with pytest.raises(ValueError, match=r"attention_mask must be \(batch, tokens\)"):
            model(text[:, :4], attention_mask=torch.ones(1, 1, 4, 4, dtype=torch.bool))
        with pytest.raises(RuntimeError, match="layer 1 was run outside a forward of its decoder"):
            found.mixers[0](torch.zeros(1, 4, 16).double())
    with deconstruct(model, "nonapprox") as found:
        cache = StaticCache(config=model.config, max_cache_len=8)
        with pytest.raises(ValueError, match="layer 0 of past_key_values is a StaticLayer of 0 tokens"):
            model(text, past_key_values=cache)
        model(text, past_key_values=(cache := DynamicCache()))
        with pytest.raises(ValueError, match="cannot be cropped"):
            cache.layers[0].crop(1)
    with pytest.raises(RuntimeError, match="filled by a deconstructed layer"):
        model(text, past_key_values=cache)
