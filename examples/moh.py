"""Let the tokens of a small trained language model choose their heads by norm, ever fewer of them; half a minute.

python examples/moh.py
"""

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

import saccade
from saccade.data.text import read_text
from saccade.metrics import masked_bound
from saccade.papers.moh import MoH

place = saccade.models.path("shakespeare-lm")
model, tokenizer = AutoModelForMaskedLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
text = tokenizer(read_text("captions", "held-out"), verbose=False, return_tensors="pt").input_ids[:, :512]
heads = model.config.num_attention_heads

for routed in (0.5, 0.375, 0.25, 0.125):
    system = MoH(shared=0.5, routed=routed)
    with saccade.attach(model, system):
        noise = torch.Generator().manual_seed(0)
        bound = masked_bound(model, text.view(4, 128), mask_id=tokenizer.mask_token_id, draws=8, generator=noise)
    active = system.counts(heads).active
    print(f"{active} of {heads} heads a token: {bound.mean():.2f} nats a character, untuned")
