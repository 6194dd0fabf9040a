"""Rollouts of models at work: rows without maps against products of maps, and what cannot be followed."""

from importlib import import_module
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from saccade.attach import attach
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.site import at
from saccade.models.attention_alone import Attention
from saccade.papers.position_bias import RolloutRecorder, gradient_influence, head_mean, rollout

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip


def llama(**changes: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES | {"initializer_range": 0.5} | changes)
    return LlamaForCausalLM(config).eval()


def gpt2(**changes: Any) -> Any:
    torch.manual_seed(0)
    options: dict[str, Any] = {"vocab_size": 40, "n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.5}
    return GPT2LMHeadModel(GPT2Config(**options | changes)).eval()


def ids(n: int = 9) -> torch.Tensor:
    return torch.randint(1, 40, (2, n), generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("residual", [None, 0.5, (0.2, 0.5, 0.9)])
def test_rows_are_those_of_the_hosts_own_maps(make: Any, residual: Any) -> None:
    maps = make(attn_implementation="eager")(ids(), output_attentions=True).attentions
    wanted = rollout([head_mean(one) for one in maps], residual, mask="causal")
    host, watch = make(), RolloutRecorder()
    plain = host(ids()).logits
    with attach(host, watch) as run:
        assert torch.equal(host(ids()).logits, plain)
        found = watch.influence(run.state, rows=(-1, 4), residual=residual)
        whole = rollout([head_mean(one) for one in watch.maps(run.state)], residual)
    torch.testing.assert_close(found, wanted[:, [-1, 4]], rtol=0, atol=1e-6)
    torch.testing.assert_close(whole, wanted, rtol=0, atol=1e-6)


def test_runs_of_queries_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    host, watch = llama(), RolloutRecorder()
    with attach(host, watch) as run:
        host(ids())
        whole = watch.influence(run.state, rows=range(9))
        monkeypatch.setattr("saccade.papers.position_bias.system.HELD", 2 * 4 * 9 * 2)
        torch.testing.assert_close(watch.influence(run.state, rows=range(9)), whole)
        torch.testing.assert_close(watch.maps(run.state)[0].sum(-1), torch.ones(2, 4, 9).double())


def test_padding_is_no_source_and_no_row() -> None:
    host, watch, keep = llama(), RolloutRecorder(), torch.ones(2, 9).long()
    keep[0, :3] = 0
    with attach(host, watch) as run:
        host(ids(), attention_mask=keep)
        row = watch.influence(run.state)[:, 0]
        torch.testing.assert_close(row.sum(-1), torch.ones(2).double())
        assert not row[0, :3].any() and row[0, 3:].min() > 0


def test_layers_are_chosen_by_where() -> None:
    host, watch = llama(), RolloutRecorder(where=at("*layers.1.*"))
    with attach(host, watch) as run:
        host(ids())
        (only,) = watch.maps(run.state)
        torch.testing.assert_close(watch.influence(run.state)[:, 0], only.mean(1)[:, -1])


def test_what_cannot_be_followed_is_refused() -> None:
    host, watch = llama(), RolloutRecorder()
    with attach(host, watch) as run:
        with pytest.raises(StateError, match="no site was watched yet; run the model first"):
            watch.influence(run.state)
        host.generate(ids(), max_new_tokens=3, do_sample=False)
        with pytest.raises(StateError, match=r"calls have \(queries, keys\) \[\(1, 11\)\]"):
            watch.influence(run.state)
        host(ids())
        with pytest.raises(ValueError, match=r"rows=\(9,\) must be tokens from -9 to 8"):
            watch.influence(run.state, rows=(9,))
        with pytest.raises(ValueError, match="residual has 2 shares for 3 layers"):
            watch.influence(run.state, residual=(0.5, 0.5))


def test_heads_are_rolled_out_by_their_maps() -> None:
    with pytest.raises(ValueError, match=r"where.heads=\(1,\) would leave heads out of the mean; roll out `maps`"):
        RolloutRecorder(where=at("*", heads=(1,)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_text_and_image_of_a_diffusion_transformer(name: str) -> None:
    """Every token sees all, in joint and in single blocks: a row has no position masked."""
    pipe, watch = getattr(import_module(f"tiny_{name}"), f"tiny_{name}")(), RolloutRecorder()
    with attach(pipe, watch) as run:
        pipe("a circle", height=32, width=32, num_inference_steps=1, max_sequence_length=8, output_type="np")
        rows = watch.influence(run.state, rows=(-1, 0), residual=0.5)
        maps = [head_mean(one) for one in watch.maps(run.state)]
    assert rows.min() > 0
    torch.testing.assert_close(rows, rollout(maps, 0.5)[:, [-1, 0]])


def test_a_full_mask_has_no_early_bias() -> None:
    torch.manual_seed(0)
    host, watch = Attention(2, 8), RolloutRecorder()
    with attach(host, watch, layout=Layout.plain(6)) as run:
        host(torch.zeros(1, 6, 48))
        torch.testing.assert_close(watch.influence(run.state)[0, 0], torch.full((6,), 1 / 6).double())


def test_gradients_say_which_inputs_move_the_answer() -> None:
    host = llama()
    found = gradient_influence(host, ids(), row=4)
    torch.testing.assert_close(found.sum(1), torch.ones(2).double())
    assert not found[:, 5:].any() and found[:, :5].min() > 0
    inputs = host.get_input_embeddings()(ids()).detach()
    at_once = host(inputs_embeds=inputs).logits[0, 4].detach()
    jacobian: Any = torch.autograd.functional.jacobian(
        lambda x: host(inputs_embeds=x, use_cache=False).logits[0, 4, at_once.argmax()], inputs[:1]
    )
    norms = jacobian[0].double().norm(dim=-1)
    torch.testing.assert_close(found[0], norms / norms.sum(), rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        for value in host.lm_head.parameters():
            value.zero_()
    with pytest.raises(ValueError, match="the logits of row=-1 do not depend on any input"):
        gradient_influence(host, ids())


@pytest.mark.compile
def test_a_compiled_model_gives_the_same_rows() -> None:
    host, watch = llama(), RolloutRecorder()
    with attach(host, watch) as run:
        host(ids())
        plain = watch.influence(run.state)
    compiled: Any = torch.compile(host, backend="eager")
    with attach(compiled, watch) as run:
        compiled(ids(), use_cache=False)
        torch.testing.assert_close(watch.influence(run.state), plain)
        compiled(ids(12), use_cache=False)
        assert watch.influence(run.state).shape == (2, 1, 12)
