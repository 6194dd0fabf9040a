"""Watch a masked-diffusion language model fill in a speech, densely and by SparseD; a few seconds.

python examples/shakespeare.py
"""

from functools import partial

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

import saccade
from saccade.metrics import agreement, masked_bound
from saccade.papers.sparsed import SparseD
from saccade.runs import generate

PROMPT, LENGTH, STEPS = "ROMEO:\n", 192, 96

place = saccade.models.path("shakespeare-lm")
model, tokenizer = AutoModelForMaskedLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
mask = tokenizer.mask_token_id
prompt = tokenizer(PROMPT, return_tensors="pt").input_ids


def written(*systems: SparseD) -> torch.Tensor:
    """The same noise for every system."""
    noise = torch.Generator().manual_seed(0)
    write = partial(generate, model, prompt, length=LENGTH, steps=STEPS, block=32, mask_id=mask, temperature=0.7)
    with saccade.attach(model, *systems) as run:
        return write(generator=noise, on_step=lambda step, of: run.step(step, of=of))


dense = written()
for name, systems in {"dense": (), "half of the blocks": (SparseD(keep=0.5, block=8, generation=LENGTH),)}.items():
    ids = written(*systems)
    nats = masked_bound(model, ids, mask_id=mask, after=len(PROMPT))
    same = agreement(ids, dense, after=len(PROMPT))
    print(f"--- {name}: {nats.item():.2f} nats a character, {same.item():.0%} as dense\n{tokenizer.decode(ids[0])}\n")
