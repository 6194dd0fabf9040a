"""Where the mass of the last token comes from over depth, in theory and in a small random Llama: a table and a picture.

python examples/position_bias.py
"""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import saccade
from saccade.papers.position_bias import (
    Causal,
    RolloutRecorder,
    Window,
    front_row,
    peak_distance,
    plot_depths,
    position_profile,
)

TOKENS = 64
for layers in (1, 2, 4, 8, 16, 32):
    plain, decay = (position_profile(front_row(TOKENS, layers, slope=slope)) for slope in (0.0, 0.5))
    said = f"decay 0.5: peak {decay.peak:2} back, {peak_distance(layers, 0.5):2} predicted"
    print(f"{layers:2} layers  causal: {plain.sink:.2f} on the first token  {said}")

torch.manual_seed(0)
sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4}
model = LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes))
with torch.no_grad(), saccade.attach(model, watch := RolloutRecorder()) as run:
    model(torch.randint(50, (1, TOKENS)))
    for residual in (None, 0.5):
        found = position_profile(watch.influence(run.state, residual=residual)[0, 0])
        print(f"Llama of 6 layers, residual={residual}: early bias {found.early_bias:.2f}, sink {found.sink:.2f}")
kinds = {"causal": (Causal(), 0.0), "window of 8": (Window(width=8), 0.0), "decay 0.5": (Causal(), 0.5)}
plot_depths(kinds, tokens=TOKENS, layers=(1, 2, 4, 8, 16, 32)).savefig("position_bias.png")
print("position_bias.png")
