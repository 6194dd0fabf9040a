"""Attention to the keys that score highest: as an operator, in a model of one's own, and in a Llama."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import saccade
from saccade.models import CausalLM
from saccade.papers.dma import DMA, Choice, dynamic_mask_attention, key_bias, key_usage
from saccade.runs import decode

torch.manual_seed(0)

# The operator: four query heads share two heads of keys; a query keeps 64 of up to 1,024.
q, k, v = (torch.randn(1, heads, 1024, 32) for heads in (4, 2, 2))
bias = key_bias(v, torch.randn(2, 2 * 32) / 8, torch.ones(2))
out = dynamic_mask_attention(q, k, v, bias, choice := Choice(window=64))
print(f"operator: {tuple(out.shape)}; {key_usage(choice, bias)}")

# A language model of such layers. Its memory forgets what is never kept again, so it stays as large as the window.
model = CausalLM(vocabulary=68, depth=2, width=64, heads=4, mixer="dma(kv_heads=2, window=16)").eval()
memories = model.fresh_memories()
written = decode(model, torch.tensor([[1, 2, 3]]), tokens=60, memories=memories)
print(f"model: {written.shape[1]} tokens written, keys remembered: {memories[0].kept['k'].shape[2]}")

# A decoder that is there already: with A = 0 it is unchanged up to the window, and its scores are trained from there.
sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
llama = LlamaForCausalLM(LlamaConfig(vocab_size=68, num_key_value_heads=2, **sizes)).eval()
text = torch.randint(68, (1, 48))
plain = llama(text).logits
with saccade.attach(llama, DMA(window=48)) as run:
    dma = DMA(window=48).trainable(run.sites, kv_heads=2, head_dim=16)
with saccade.attach(llama, dma):
    change = float((llama(text).logits - plain).detach().abs().max())
assert dma.scores is not None
weights = sum(p.numel() for p in dma.scores.parameters())
print(f"Llama: changed by {change:.1e} at first, {weights} weights to train")
