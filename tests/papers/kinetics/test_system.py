"""Sparse decoding in real models of transformers, with their caches, and the cache in pages."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from saccade.attach import attach
from saccade.core.site import at
from saccade.papers.kinetics import PagedCache, Sampling, Selection, SparseDecode

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
MODELS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
TIGHT = Selection(method="top", top=3, local=2, sink=1)


def model(name: str = "llama", **changes: Any) -> Any:
    config, kind = MODELS[name]
    torch.manual_seed(0)
    return kind(config(**SIZES | changes)).eval()


def ids(rows: int, n: int) -> torch.Tensor:
    return torch.randint(1, 40, (rows, n), generator=torch.Generator().manual_seed(n))


def written(host: Any, prompt: torch.Tensor, **given: Any) -> torch.Tensor:
    found = host.generate(
        prompt, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True, **given
    )
    return torch.stack(found.logits, dim=1)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["local", "top", "block", "strided", "random"])
def test_a_budget_beyond_the_text_is_the_host(name: str, method: str) -> None:
    host, prompt = model(name), ids(2, 9)
    dense = written(host, prompt)
    with attach(host, SparseDecode(keys=Selection(method=method, top=48, local=32))):
        torch.testing.assert_close(written(host, prompt), dense)
    with attach(host, SparseDecode(keys=Sampling(draws=64))):
        torch.testing.assert_close(written(host, prompt), dense)


def by_hand(host: Any, prompt: torch.Tensor, following: torch.Tensor, how: Selection, skip: int) -> torch.Tensor:
    """Logits of the tokens after the prompt, attention rewritten over the whole text in one forward of each."""
    found = []
    for end in range(prompt.shape[1], prompt.shape[1] + following.shape[1]):
        text = torch.cat((prompt, following), dim=1)[:, : end + 1]
        found.append(_last(host, text, prompt.shape[1], how, skip))
    return torch.stack(found, dim=1)


def _last(host: Any, text: torch.Tensor, dense: int, how: Selection, skip: int) -> torch.Tensor:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    inner = host.model
    x = inner.embed_tokens(text)
    turn = inner.rotary_emb(x, torch.arange(text.shape[1])[None])
    for number, block in enumerate(inner.layers):
        module = block.self_attn
        h = block.input_layernorm(x)
        q, k, v = (p(h).unflatten(-1, (-1, 8)).transpose(1, 2) for p in (module.q_proj, module.k_proj, module.v_proj))
        q, k = apply_rotary_pos_emb(q, k, *turn)
        k, v = (y.repeat_interleave(2, dim=1) for y in (k, v))
        scores = q @ k.mT * 8**-0.5
        allowed = torch.ones(text.shape[1], text.shape[1]).tril().bool().expand(*scores.shape[:2], -1, -1).clone()
        for i in range(dense, text.shape[1]) if number >= skip else ():
            lengths = torch.full((len(text),), i + 1)
            allowed[:, :, i] = how.kept(scores[:, :, i].masked_fill(~allowed[:, :, i], 0), lengths, 2)
        out = scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ v
        x = x + module.o_proj(out.transpose(1, 2).flatten(2))
        x = x + block.mlp(block.post_attention_layernorm(x))
    return host.lm_head(inner.norm(x))[:, -1]


@pytest.mark.parametrize("skip", [0, 1])
def test_decoding_is_attention_rewritten(skip: int) -> None:
    host, prompt = model(), ids(2, 9)
    with attach(host, SparseDecode(keys=TIGHT, skip=skip)), torch.no_grad():
        cache = host(prompt, use_cache=True).past_key_values
        following, found = ids(2, 4), []
        for token in following.split(1, dim=1):
            found.append(host(token, past_key_values=cache, use_cache=True).logits[:, -1])
    with torch.no_grad():
        wanted = by_hand(host, prompt, following, TIGHT, skip)
    torch.testing.assert_close(torch.stack(found, 1), wanted, rtol=1e-4, atol=1e-5)


def test_padding_on_the_left_is_no_key() -> None:
    """Rows of a batch keep what each keeps alone."""
    host, long, short = model(), ids(1, 12), ids(1, 8)
    batch = torch.cat((long, torch.cat((torch.zeros(1, 4, dtype=torch.long), short), dim=1)))
    there = torch.ones(2, 12, dtype=torch.long)
    there[1, :4] = 0
    with attach(host, SparseDecode(keys=TIGHT)):
        together = written(host, batch, attention_mask=there)
        alone = torch.cat([written(host, each, attention_mask=torch.ones_like(each)) for each in (long, short)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_the_prompt_and_first_layers_stay_dense() -> None:
    host, prompt = model(), ids(2, 20)
    with torch.no_grad():
        dense = host(prompt).logits
        with attach(host, SparseDecode(keys=TIGHT, skip=0)):
            torch.testing.assert_close(host(prompt).logits, dense)
    whole = written(host, prompt)
    with attach(host, SparseDecode(keys=TIGHT, skip=3)):
        assert torch.equal(written(host, prompt), whole)
    with attach(host, SparseDecode(keys=TIGHT)):
        assert not torch.allclose(written(host, prompt), whole)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="skip=-1 must be"):
        SparseDecode(skip=-1)
    with pytest.raises(ValueError, match=r"where.heads=\(0,\) cannot be chosen here"):
        SparseDecode(where=at(heads=(0,)))


def test_two_of_them_keep_what_both_keep() -> None:
    host, prompt = model(), ids(1, 20)
    wide, narrow = (SparseDecode(keys=Selection(method="local", local=n, sink=1), skip=0) for n in (9, 5))
    with attach(host, wide, narrow):
        both = written(host, prompt)
    with attach(host, narrow):
        torch.testing.assert_close(written(host, prompt), both)


@given(tokens=st.integers(1, 60), pages=st.integers(1, 5), seed=st.integers(0, 9))
def test_a_cache_in_pages_reads_the_best_ones(tokens: int, pages: int, seed: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    k, v, q = (torch.randn(2, h, n, 8, generator=noise) for h, n in ((2, tokens), (2, tokens), (4, 1)))
    cut = tokens // 3
    cache = PagedCache(k[:, :, :cut], v[:, :, :cut], page=4, pages=pages)
    for token in range(cut, tokens):
        cache.append(k[:, :, token : token + 1], v[:, :, token : token + 1])
    assert torch.equal(cache.k, k) and torch.equal(cache.v, v)
    count = -(-tokens // 4)
    allowed = torch.ones(2, 2, tokens, dtype=torch.bool)
    if count > pages + 1:
        mean_q = q[:, :, 0].unflatten(1, (2, 2)).mean(2)
        means = torch.stack([k[:, :, 4 * p : 4 * p + 4].mean(2) for p in range(count - 1)], dim=2)
        best = (means @ mean_q[..., None])[..., 0].topk(pages).indices
        page = torch.arange(tokens) // 4
        allowed = (page[None, None, :, None] == best[:, :, None]).any(-1) | (page == count - 1)
    mask = allowed.repeat_interleave(2, dim=1)[:, :, None]
    wide_k, wide_v = (x.repeat_interleave(2, dim=1) for x in (k, v))
    wanted = F.scaled_dot_product_attention(q, wide_k, wide_v, attn_mask=mask)
    torch.testing.assert_close(cache.attend(q), wanted, rtol=1e-4, atol=1e-5)
