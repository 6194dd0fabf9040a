"""A whole FLUX pipeline, a few million parameters, for the pictures and captions of `saccade.data.scenes`.

Every part is the upstream class with small numbers: text encoders (T5 by the word, CLIP pooled), transformer,
autoencoder of factor 4, flow-matching scheduler. 64 pixels are 16 x 16 latents, packed 2 x 2 into 64 image tokens.

The text pads of FLUX carry no mask. Here T5 ignores its pads by construction (`pin_pads_`), so a caption's embedding is
the same at any `max_sequence_length`, and pads leave T5 as zeros.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel
from transformers.models.t5.configuration_t5 import T5Config
from transformers.models.t5.modeling_t5 import T5EncoderModel

from saccade.models.scene_words import BEGIN, END, MAX_CLIP, PAD, clip_tokenizer, t5_tokenizer, word_ids

_PAD_AXIS, _WORD_AXIS = 0, 1  # coordinates of the T5 stream that say "this is a pad" and "this is a word"
_PAD_SIZE, _WORD_SIZE, _PINNED = 1e4, 8.0, 4.0


@dataclass(frozen=True, kw_only=True)
class ScenesFlux:
    """Sizes of all parts; the defaults are those of the shipped weights.

    Raises ValueError for options out of range.
    """

    hidden: int = 192
    head_dim: int = 64
    double_blocks: int = 2
    single_blocks: int = 3
    rope_axes: tuple[int, ...] = (16, 24, 24)
    text_dim: int = 128
    text_heads: int = 4
    t5_layers: int = 3
    clip_layers: int = 2
    latent_channels: int = 4
    autoencoder_widths: tuple[int, ...] = (16, 32, 32)
    groups: int = 8
    shift: float = 1.0

    def __post_init__(self) -> None:
        if sum(self.rope_axes) != self.head_dim:
            raise ValueError(f"rope_axes={self.rope_axes} must add up to head_dim={self.head_dim}")
        if self.hidden % self.head_dim:
            raise ValueError(f"hidden={self.hidden} must be a multiple of head_dim={self.head_dim}")

    def transformer(self) -> FluxTransformer2DModel:

        return FluxTransformer2DModel(
            patch_size=1,
            in_channels=4 * self.latent_channels,
            num_layers=self.double_blocks,
            num_single_layers=self.single_blocks,
            attention_head_dim=self.head_dim,
            num_attention_heads=self.hidden // self.head_dim,
            joint_attention_dim=self.text_dim,
            pooled_projection_dim=self.text_dim,
            guidance_embeds=False,
            axes_dims_rope=self.rope_axes,  # type: ignore[arg-type]
        )

    def autoencoder(self) -> AutoencoderKL:

        depth = len(self.autoencoder_widths)
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * depth,  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * depth,  # type: ignore[arg-type]
            block_out_channels=self.autoencoder_widths,  # type: ignore[arg-type]
            layers_per_block=1,
            latent_channels=self.latent_channels,
            norm_num_groups=self.groups,
            sample_size=64,
            shift_factor=0.0,
            scaling_factor=1.0,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )

    def t5(self) -> T5EncoderModel:

        config = T5Config(
            vocab_size=len(word_ids()),
            d_model=self.text_dim,
            d_kv=self.text_dim // self.text_heads,
            d_ff=3 * self.text_dim,
            num_layers=self.t5_layers,
            num_heads=self.text_heads,
            dropout_rate=0.0,
            pad_token_id=PAD,
            eos_token_id=END,
            is_encoder_decoder=False,
            use_cache=False,
        )
        return T5EncoderModel(config)

    def clip(self) -> CLIPTextModel:

        config = CLIPTextConfig(
            vocab_size=len(word_ids()),
            hidden_size=self.text_dim,
            intermediate_size=2 * self.text_dim,
            projection_dim=self.text_dim,
            num_hidden_layers=self.clip_layers,
            num_attention_heads=self.text_heads,
            max_position_embeddings=MAX_CLIP,
            pad_token_id=PAD,
            bos_token_id=BEGIN,
            eos_token_id=END,
        )
        return CLIPTextModel(config)

    def pipeline(self, **parts: Any) -> FluxPipeline:
        """The pipeline; `parts` (`transformer`, `vae`, `text_encoder`, `text_encoder_2`) replace random new ones."""

        made = {
            "vae": self.autoencoder,
            "transformer": self.transformer,
            "text_encoder": self.clip,
            "text_encoder_2": self.t5,
        }
        fresh = {name: make() for name, make in made.items() if name not in parts}
        pin_pads_(parts.get("text_encoder_2") or fresh["text_encoder_2"])  # type: ignore[arg-type]
        scheduler = FlowMatchEulerDiscreteScheduler(shift=self.shift, use_dynamic_shifting=False)
        return FluxPipeline(
            scheduler=scheduler,
            tokenizer=clip_tokenizer(),  # type: ignore[arg-type]
            tokenizer_2=t5_tokenizer(),  # type: ignore[arg-type]
            **fresh,
            **parts,
        )


@torch.no_grad()
def pin_pads_(t5: T5EncoderModel) -> None:
    """Set, in place, the few entries of `t5` that make words blind to pads and pads come out as zeros.

    Two coordinates of the stream are constants that no layer writes: one large on pads only, one on words only. In
    every head the last query channel reads "word", the last key channel "pad", with opposite signs: whatever else a
    pad holds, its score is too low to count. The large constant leaves nothing of a pad after the norms. Idempotent.
    """
    words = t5.shared.weight
    words[:, (_PAD_AXIS, _WORD_AXIS)] = torch.tensor([0.0, _WORD_SIZE]).to(words)
    words[PAD] = 0
    words[PAD, _PAD_AXIS] = _PAD_SIZE
    blocks: Any = t5.encoder.block
    for block in blocks:
        attention, dense = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
        last = slice(t5.config.d_kv - 1, None, t5.config.d_kv)  # rows of the last channel of every head
        for matrix, axis, value in ((attention.q, _WORD_AXIS, _PINNED), (attention.k, _PAD_AXIS, -_PINNED)):
            matrix.weight[last] = 0
            matrix.weight[last, axis] = value
        for matrix in (attention.o, dense.wo):
            matrix.weight[[_PAD_AXIS, _WORD_AXIS]] = 0
        for layer in block.layer:
            layer.layer_norm.weight[[_PAD_AXIS, _WORD_AXIS]] = 1
    t5.encoder.final_layer_norm.weight[_PAD_AXIS] = 0
