"""Trainable blocks: what architectures are built from.

A block is a token mixer and a feed-forward around a residual stream. Both answer one call,
`part(x, place) -> MixerOutput`, and are named by text in a configuration: `mixer="attention(qk_norm=True)"`.
"""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.nn.additive_attention import AdditiveAttention as AdditiveAttention
    from saccade.nn.aligned_positions import distance_code as distance_code
    from saccade.nn.aligned_positions import distance_table as distance_table
    from saccade.nn.aligned_positions import optimised_table as optimised_table
    from saccade.nn.attention import SelfAttention as SelfAttention
    from saccade.nn.block import DiTBlock as DiTBlock
    from saccade.nn.eval_mode import eval_mode as eval_mode
    from saccade.nn.linear_attention import LinearAttention as LinearAttention
    from saccade.nn.memory import Memory as Memory
    from saccade.nn.moe import MoE as MoE
    from saccade.nn.moe import balance_offsets_ as balance_offsets_
    from saccade.nn.part import AttentionTrace as AttentionTrace
    from saccade.nn.part import MixerOutput as MixerOutput
    from saccade.nn.part import TokenPositions as TokenPositions
    from saccade.nn.perturbable import Perturbable as Perturbable
    from saccade.nn.pointer import PointerHead as PointerHead
    from saccade.nn.registry import feedforward as feedforward
    from saccade.nn.registry import feedforwards as feedforwards
    from saccade.nn.registry import make_feedforward as make_feedforward
    from saccade.nn.registry import make_mixer as make_mixer
    from saccade.nn.registry import mixer as mixer
    from saccade.nn.registry import mixers as mixers
    from saccade.nn.residual import ResidualBlock as ResidualBlock
    from saccade.nn.routing import Router as Router
    from saccade.nn.routing import Routing as Routing
    from saccade.nn.routing import record_routing as record_routing

__all__ = [
    "AdditiveAttention",
    "AttentionTrace",
    "DiTBlock",
    "LinearAttention",
    "Memory",
    "MixerOutput",
    "MoE",
    "Perturbable",
    "PointerHead",
    "ResidualBlock",
    "Router",
    "Routing",
    "SelfAttention",
    "TokenPositions",
    "balance_offsets_",
    "distance_code",
    "distance_table",
    "eval_mode",
    "feedforward",
    "feedforwards",
    "make_feedforward",
    "make_mixer",
    "mixer",
    "mixers",
    "optimised_table",
    "record_routing",
]

__getattr__, __dir__ = lazily(__name__)
