"""DiT-Mem on a small random Wan transformer: a bank, retrieval, the encoder, and memory as keys; in seconds."""

from collections.abc import Sequence

import torch

import saccade
from saccade.models.scenes_wan import ScenesWan
from saccade.papers.dit_mem import Bank, DiTMem, MemoryEncoder, VideoIndex

torch.manual_seed(0)
CAPTIONS = ["a ball falls", "a ball rolls", "a cat sleeps", "a cat runs"]
WORDS = sorted({word for caption in CAPTIONS for word in caption.split()})


def embed(captions: Sequence[str]) -> torch.Tensor:
    """Bags of words; `cls_embedder` takes an encoder of transformers instead."""
    return torch.tensor([[float(word in caption.split()) for word in WORDS] for caption in captions])


transformer = ScenesWan(hidden=48, head_dim=24, blocks=2, latent_channels=4, text_dim=16).transformer().eval()
stored = dict(zip(CAPTIONS, torch.randn(4, 4, 5, 16, 16), strict=True))  # latents of each video of the bank
bank = Bank(index=VideoIndex.of(CAPTIONS, CAPTIONS, embed), read=lambda name: stored[name])
found = bank.retrieve(["a ball falls"], k=2, exclude=[{"a ball falls"}])  # not the very video
print(found, "|", ", ".join(f"{hit.name} {hit.score:.2f}" for hit in found.hits[0]))

encoder = MemoryEncoder(
    dim=48, latent=(5, 16, 16), channels=4, widths=(16, 24), heads=4, stride=(2, 2, 2), pools=((2, 2, 2), (1, 2, 2))
).eval()
with torch.no_grad():
    memory = encoder.memory(found.stacked())
print(f"{memory.expanded().shape[1]} memory tokens, {memory.n} distinct: each weighs as {memory.counts[0]}")  # type: ignore[index]

inputs = {
    "hidden_states": torch.randn(1, 4, 3, 16, 16), "timestep": torch.tensor([500.0]),
    "encoder_hidden_states": torch.randn(1, 6, 16), "return_dict": False,
}  # fmt: skip
with torch.no_grad():
    plain = transformer(**inputs)[0]
    with saccade.attach(transformer, DiTMem(memory=memory)):
        merged = transformer(**inputs)[0]
    with saccade.attach(transformer, DiTMem(memory=memory.expanded())):
        whole = transformer(**inputs)[0]
    with saccade.attach(transformer, DiTMem()):
        assert torch.equal(transformer(**inputs)[0], plain)
moved, rounding = ((whole - other).abs().max() for other in (plain, merged))
print(f"memory moves the output by {moved:.3f}; merged and whole differ by {rounding:.0e}")
