"""What the cost of a language model's text hangs on: weights at work, layers, heads, and numbers kept of each token."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.core.checks import check_whole

BYTES = 2  # of a number kept
PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder.

    parameters   at work for one token: of experts only those that serve it
    latent       numbers kept of a token in a layer where all heads share them (latent attention); None: keys and values
    Raises ValueError for heads that kv_heads does not divide, and for numbers below 1.
    """

    parameters: float
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    latent: int | None = None

    def __post_init__(self) -> None:
        check_whole(1, layers=self.layers, heads=self.heads, kv_heads=self.kv_heads, head_dim=self.head_dim)
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} must be a multiple of kv_heads={self.kv_heads}")
        if self.parameters <= 0:
            raise ValueError(f"parameters={self.parameters} must be positive")

    @property
    def kept(self) -> int:
        """Numbers kept of a token, over all layers."""
        return self.layers * (2 * self.kv_heads * self.head_dim if self.latent is None else self.latent)

    @property
    def bytes_per_token(self) -> int:
        """Of the cache, in half precision."""
        return BYTES * self.kept

    @property
    def weight_bytes(self) -> float:
        """Of the weights at work, in half precision."""
        return BYTES * self.parameters


QWEN3 = {  # the parameters as the released cost model has them
    name: Shape(parameters=parameters, layers=layers, heads=heads, kv_heads=8, head_dim=128)
    for name, parameters, layers, heads in (
        ("0.6B", 0.752e9, 28, 16),
        ("1.7B", 2.03e9, 28, 16),
        ("4B", 4.02e9, 36, 32),
        ("8B", 8.19e9, 36, 32),
        ("14B", 14.77e9, 40, 40),
        ("32B", 32.76e9, 64, 64),
    )
}


def shape_of(config: Any) -> Shape:
    """The shape of a decoder by its transformers config, or by the file or folder that holds one.

    Weights are counted on the meta device, nothing is allocated.
    Raises ValueError for a config that does not say what layers, heads or experts it has.
    """
    if isinstance(config, str | Path):
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(config)
    text = config.get_text_config()
    layers, heads = (_said(text, name) for name in ("num_hidden_layers", "num_attention_heads"))
    latent = getattr(text, "kv_lora_rank", None)
    head_dim = getattr(text, "head_dim", None) or _said(text, "hidden_size") // heads
    return Shape(
        parameters=_at_work(config, text),
        layers=layers,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=head_dim,
        latent=None if latent is None else latent + text.qk_rope_head_dim,
    )


def _at_work(config: Any, text: Any) -> int:
    """Weights of a model but for those of experts that do not serve a token."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        named = list(AutoModelForCausalLM.from_config(config).named_parameters())
    every = sum(weight.numel() for _, weight in named)
    routed = sum(weight.numel() for name, weight in named if ".experts." in name)
    if not routed:
        return every
    chosen, experts = (_first(text, names) for names in (PER_TOKEN, EXPERTS))
    return every - routed + routed * chosen // experts


def _said(config: Any, name: str) -> int:
    return _first(config, (name,))


def _first(config: Any, names: tuple[str, ...]) -> int:
    for name in names:
        if isinstance(found := getattr(config, name, None), int):
            return found
    raise ValueError(f"{type(config).__name__} says nothing of {' or '.join(names)}; make a Shape by hand")
