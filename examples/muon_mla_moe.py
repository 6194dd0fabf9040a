"""Train a small decoder of latents and experts with AdamW and with Muon, then let it write; seconds.

python examples/muon_mla_moe.py
"""

import torch

from saccade.data.text import read_text
from saccade.models.shakespeare_lm import character_tokenizer
from saccade.nn.moe import balance_offsets_
from saccade.papers import LatentMoE, cache_numbers, split_params
from saccade.runs import decode
from saccade.train.causal import CausalLoss, held_out_nats

LENGTH, BATCH, STEPS, RATE = 48, 8, 100, 1e-2
tokenizer = character_tokenizer()
text, held = (
    torch.tensor(tokenizer(read_text("captions", split), verbose=False).input_ids) for split in ("train", "held-out")
)


def trained(*, muon: bool) -> LatentMoE:
    """A decoder after its training, AdamW at one rate with Muon's, or alone."""
    torch.manual_seed(0)
    model = LatentMoE(depth=2, width=48, heads=4, experts=6, top=2)
    loss, split = CausalLoss(model), split_params(model)
    optimisers = split.optimisers(RATE) if muon else [torch.optim.AdamW(model.parameters(), RATE, (0.9, 0.95))]
    for _ in range(STEPS):
        starts = torch.randint(len(text) - LENGTH, (BATCH, 1))
        loss({"ids": text[starts + torch.arange(LENGTH + 1)]})["loss"].backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        balance_offsets_(model)
    nats = held_out_nats(model, held, length=LENGTH, windows=32).mean()
    print(f"{'Muon' if muon else 'AdamW'}: {nats:.3f} nats a character after {STEPS} steps")
    return model.eval()


trained(muon=False)
model = trained(muon=True)
print(split_params(model))
every, at_work = LatentMoE.weights(model.config)
print(f"{at_work:,} of {every:,} weights work for a character; {cache_numbers(model)} numbers are kept of it")

memories = model.fresh_memories()
start = torch.tensor(tokenizer("a red ").input_ids)[None]
written = decode(model, start, tokens=60, memories=memories, temperature=0.7)
print(tokenizer.decode(written[0]), f"({sum(each.size for each in memories):,} bytes kept)")
