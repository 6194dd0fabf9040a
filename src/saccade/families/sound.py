"""Models that make sound: self-attention over moments, cross-attention to the text.

Sound is a grid (n, 1, 1) of the segment `image`: a token is a moment, as a frame of a video that is one token small, so
what is said of time holds, what is said of height and width finds one row and one column. Tokens the model puts before
the sound (its length, the time, a memory) are the segment `prefix`, which no mask by place touches.

Stable Audio 3 asks for attention twice at a site and takes the difference. A plan acts on both calls; they share the
site's memory, so what a mechanism carries over steps is what the second call put there.
"""

from dataclasses import replace
from typing import Any

from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.cosmos import HALVES
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, project_heads
from saccade.seam.routes import diffusers_routes

TWO_MAPS = "attention here is the difference of two, each with keys of its own; use hidden, or a hook of your own"


def sound(moments: int, prefix: int = 0) -> Layout:
    """So many moments, after so many tokens that are none."""
    own = Segment("image", "image", moments, (moments, 1, 1))
    return Layout((Segment("prefix", "extra", prefix), own) if prefix else (own,))


def _stable_audio(model: Any, inputs: Inputs, site: Site) -> Layouts:
    prefix = inputs["global_hidden_states"].shape[1]
    return apart_layouts(
        sound(inputs["hidden_states"].shape[2], prefix), inputs["encoder_hidden_states"].shape[1], site
    )


def _stable_audio3(model: Any, inputs: Inputs, site: Site) -> Layouts:
    moments, memory = inputs["hidden_states"].shape[2] // model.config.patch_size, model.config.num_memory_tokens
    return apart_layouts(sound(moments, memory), inputs["encoder_hidden_states"].shape[1], site)


def _ace_step(model: Any, inputs: Inputs, site: Site) -> Layouts:
    moments = -(-inputs["hidden_states"].shape[1] // model.config.patch_size)
    return apart_layouts(sound(moments), inputs["encoder_hidden_states"].shape[1], site)


def _longcat(model: Any, inputs: Inputs, site: Site) -> Layouts:
    return apart_layouts(sound(inputs["hidden_states"].shape[1]), inputs["encoder_hidden_states"].shape[1], site)


def _minimax(model: Any, inputs: Inputs, site: Site) -> Layouts:
    return apart_layouts(sound(inputs["hidden_states"].shape[2], 1), 0, site)


def _grouped(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """k and v of fewer heads than q has."""
    k, v = (linear(x).unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for linear in (module.to_k, module.to_v))
    return module.norm_k(k), v


def _across(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """k and v where the norm, if there is one, acts across heads."""
    k, v = module.to_k(x), module.to_v(x)
    k, v = (t.unflatten(-1, (module.heads, -1)).transpose(1, 2) for t in (module.k_norm(k) if module.qk_norm else k, v))
    return k, v


STABLE_AUDIO = Family(
    name="Stable Audio",
    classes=("StableAudioDiTModel",),
    sites={"transformer_blocks.*.attn1": "self", "transformer_blocks.*.attn2": "cross"},
    layout=_stable_audio,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    shared=("rotary_embedding",),
    padding="encoder_attention_mask",
    project=project_heads,
    unsupported={"rotary": HALVES, "raw": HALVES, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)

STABLE_AUDIO_3 = replace(
    STABLE_AUDIO,
    name="Stable Audio 3",
    classes=("StableAudio3DiTModel",),
    sites={"transformer_blocks.*.self_attn": "self", "transformer_blocks.*.cross_attn": "cross"},
    layout=_stable_audio3,
    shared=(),
    project=None,
    unsupported={**STABLE_AUDIO.unsupported, "project": TWO_MAPS},
)

ACE_STEP = replace(
    STABLE_AUDIO,
    name="ACE-Step",
    classes=("AceStepTransformer1DModel",),
    sites={"layers.*.self_attn": "self", "layers.*.cross_attn": "cross"},
    layout=_ace_step,
    shared=(),
    padding=None,
    project=_grouped,
    guidance=Guidance(roles=("cond", "uncond"), stacked=True),
)

LONGCAT_AUDIO = replace(
    STABLE_AUDIO,
    name="LongCat-Audio",
    classes=("LongCatAudioDiTTransformer",),
    sites={"blocks.*.self_attn": "self", "blocks.*.cross_attn": "cross"},
    layout=_longcat,
    shared=(),
    project=_across,
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=1000,
)

MINIMAX_MUSIC_3 = replace(
    STABLE_AUDIO,
    name="MiniMax Music 3",
    classes=("MiniMaxMusic3Transformer1DModel",),
    sites={"transformer_blocks.*.attn": "self"},
    layout=_minimax,
    text="none",
    shared=(),
    padding=None,
    guidance=None,
)
