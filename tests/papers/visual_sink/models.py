"""Tiny random models whose sinks are planted in one channel, and attention with weight moved, written out by loops."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

IMAGE_ID, CHANNEL, LOUD, PICTURE = 36, 7, 35, tuple(range(4, 20))
TEXT: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip


def llava(layers: int = 5) -> Any:
    """Random, with a word that is loud in one channel; some of the picture's tokens are loud there too."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
    )
    text = LlamaConfig(**TEXT | {"num_hidden_layers": layers})
    host = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE_ID)
    ).eval()
    loud(host.model.language_model)
    with torch.no_grad():
        host.model.multi_modal_projector.linear_2.weight[CHANNEL] *= 60
    return host


def llama() -> Any:
    torch.manual_seed(0)
    host = LlamaForCausalLM(LlamaConfig(**TEXT)).eval()
    loud(host.model)
    return host


def loud(body: Any) -> None:
    with torch.no_grad():
        for block in body.layers:
            for projection in (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj):
                projection.weight *= 12
        body.embed_tokens.weight *= 5
        body.embed_tokens.weight[LOUD, CHANNEL] = 3.0


def prompts(rows: int, words: int = 6, seed: int = 0) -> Tensor:
    """Four words, the picture's sixteen tokens, more words; the first is the loud one."""
    noise = torch.Generator().manual_seed(seed)
    before, after = (torch.randint(1, 35, (rows, n), generator=noise) for n in (4, words))
    before[:, 0] = LOUD
    return torch.cat((before, torch.full((rows, 16), IMAGE_ID), after), dim=1)


def pictures(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is redone by hand, for tau, rho, take and least as in the system."""

    tau: float
    rho: float
    take: float
    least: float
    prompt: int
    image: tuple[tuple[int, ...], ...]

    def row(self, alpha: list[float], image: set[int], sinks: set[int]) -> list[float]:
        """One head and query."""
        seen = sum(alpha[j] for j in image)
        clear = sum(alpha[j] for j in image - sinks)
        if not image & sinks or seen < self.least or clear < self.rho * seen:
            return alpha
        freed = self.take * sum(alpha[j] for j in sinks)
        made = list(alpha)
        for j in sinks:
            made[j] = (1 - self.take) * alpha[j]
        for j in image - sinks:
            made[j] = alpha[j] + freed * alpha[j] / clear
        return made

    def maps(self, x: Tensor, alpha: Tensor) -> tuple[Tensor, int]:
        """All heads and queries of a layer whose input is x, and how many of them changed."""
        phi = x[..., CHANNEL].abs() / (x.square().mean(-1) + 1e-6).sqrt()
        made, count = alpha.clone(), 0
        for b in range(len(x)):
            image = set(self.image[b % len(self.image)])
            sinks = {j for j in range(self.prompt) if phi[b, j] > self.tau}
            for h in range(alpha.shape[1]):
                for i in set(range(alpha.shape[2])) - image:
                    row = self.row(alpha[b, h, i].tolist(), image, sinks)
                    count += row != alpha[b, h, i].tolist()
                    made[b, h, i] = torch.tensor(row, dtype=alpha.dtype)
        return made, count


def by_hand(host: Any, x: Tensor, how: Written) -> tuple[Tensor, int]:
    """Logits over embedded tokens, in one forward without a cache, and how many rows of maps changed."""
    body = getattr(host.model, "language_model", host.model)
    turn, changed = body.rotary_emb(x, torch.arange(x.shape[1])[None]), 0
    causal = torch.ones(x.shape[1], x.shape[1]).tril().bool()
    for number, block in enumerate(body.layers):
        module, h = block.self_attn, block.input_layernorm(x)
        q, k, v = (p(h).unflatten(-1, (-1, 8)).transpose(1, 2) for p in (module.q_proj, module.k_proj, module.v_proj))
        q, k = apply_rotary_pos_emb(q, k, *turn)
        k, v = (y.repeat_interleave(2, dim=1) for y in (k, v))
        alpha = (q @ k.mT * 8**-0.5).masked_fill(~causal, -torch.inf).softmax(-1)
        if 2 <= number < len(body.layers) - 1:
            alpha, count = how.maps(x, alpha)
            changed += count
        x = x + module.o_proj((alpha @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.post_attention_layernorm(x))
    return host.lm_head(body.norm(x)), changed


def entered(host: Any, **inputs: Tensor) -> Tensor:
    """The embedded tokens, words and picture."""
    found: list[Tensor] = []
    body = getattr(host.model, "language_model", host.model)
    hook = body.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: found.append(args[0]), with_kwargs=True
    )
    with torch.no_grad():
        host(**inputs, use_cache=False)
    hook.remove()
    return found[0]
