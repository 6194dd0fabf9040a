"""Route the tokens of a toy language model alone and by the tokens they resemble; see how many change their experts.

python examples/graph_moe.py
"""

import torch
from torch.nn import functional as F

from saccade.data.text import CHARACTERS, read_text
from saccade.nn.routing import Routing, record_routing
from saccade.papers import RoutedLM
from saccade.papers.graph_moe.fluctuation import decision_entropy, fluctuation

ids = torch.tensor([CHARACTERS.find(character) for character in read_text("captions")]).clamp(min=0)
watched = ids[:512].view(8, 64)


def routed(model: RoutedLM) -> list[Routing]:
    """Every layer's routing of the same text."""
    with torch.no_grad(), record_routing(model) as found:
        model(watched)
    return [calls[0] for calls in found.values()]


for ffn in ("moe(experts=8, shared=0, norm_topk=True)", "similar_moe(experts=8)"):
    torch.manual_seed(0)
    model = RoutedLM(words=len(CHARACTERS), depth=2, width=64, ffn=ffn)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    before = routed(model)
    for step in range(150):
        batch = ids[torch.randint(len(ids) - 65, (16, 1)) + torch.arange(65)]
        out, losses = model(batch[:, :-1])
        loss = F.cross_entropy(out.flatten(0, 1), batch[:, 1:].flatten())
        (loss + sum(losses.values())).backward()
        optimiser.step()
        optimiser.zero_grad()
        if step == 139:
            before = routed(model)
    changed = ", ".join(f"{fluctuation(a, b):.0%}" for a, b in zip(before, routed(model), strict=True))
    sure = ", ".join(f"{decision_entropy(routing):.2f}" for routing in routed(model))
    print(f"{ffn}: loss {loss:.2f}; in ten steps {changed} of the tokens change experts; entropy {sure} nats")
