"""A whole Wan pipeline, a few million parameters, for the videos and captions of `saccade.data.scenes`.

Every part is the upstream class with small numbers: text encoder (UMT5 by the word), transformer, causal video
autoencoder of factor 4 in space and 2 in time, flow-matching scheduler. 9 frames of 48 pixels are 5 x 12 x 12 latents,
which the transformer takes 2 x 2 at a time: 180 video tokens. The autoencoder takes frames by fours after the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from transformers.models.t5.modeling_t5 import T5EncoderModel
from transformers.models.umt5.configuration_umt5 import UMT5Config
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from saccade.models.scene_words import END, PAD, t5_tokenizer, word_ids

TIME_FACTOR = 2  # frames of a latent, but for the first, which is a frame by itself
SPACE_FACTOR = 4
_FIRST_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


@dataclass(frozen=True, kw_only=True)
class ScenesWan:
    """Sizes of all parts; the defaults are those of the shipped weights.

    The autoencoder has the patches and shortcuts of Wan 2.2, the transformer is that of Wan 2.1.
    `autoencoder_widths`: multiples of `autoencoder_width`, the second at half the resolution in space and in time.
    Raises ValueError for options out of range.
    """

    hidden: int = 192
    head_dim: int = 48
    feed_forward: int = 576
    blocks: int = 5
    time_channels: int = 64
    text_dim: int = 128
    text_heads: int = 4
    text_layers: int = 3
    latent_channels: int = 8
    autoencoder_width: int = 24
    autoencoder_widths: tuple[int, ...] = (1, 1)
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.hidden % self.head_dim:
            raise ValueError(f"hidden={self.hidden} must be a multiple of head_dim={self.head_dim}")
        if len(self.autoencoder_widths) != 2:
            raise ValueError(f"autoencoder_widths={self.autoencoder_widths} must be two, for half the frames")

    def transformer(self) -> WanTransformer3DModel:

        return WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=self.hidden // self.head_dim,
            attention_head_dim=self.head_dim,
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            text_dim=self.text_dim,
            freq_dim=self.time_channels,
            ffn_dim=self.feed_forward,
            num_layers=self.blocks,
            rope_max_seq_len=256,
        )

    def autoencoder(self) -> AutoencoderKLWan:

        patch = SPACE_FACTOR // TIME_FACTOR
        return AutoencoderKLWan(
            base_dim=self.autoencoder_width,
            z_dim=self.latent_channels,
            dim_mult=list(self.autoencoder_widths),
            num_res_blocks=1,
            temperal_downsample=[True],
            latents_mean=[0.0] * self.latent_channels,
            latents_std=[1.0] * self.latent_channels,
            in_channels=3 * patch**2,
            out_channels=3 * patch**2,
            patch_size=patch,
            is_residual=True,
            scale_factor_temporal=TIME_FACTOR,
            scale_factor_spatial=SPACE_FACTOR,
        )

    def text_encoder(self) -> UMT5EncoderModel:

        config = UMT5Config(
            vocab_size=len(word_ids()),
            d_model=self.text_dim,
            d_kv=self.text_dim // self.text_heads,
            d_ff=3 * self.text_dim,
            num_layers=self.text_layers,
            num_heads=self.text_heads,
            feed_forward_proj="relu",
            dropout_rate=0.0,
            pad_token_id=PAD,
            eos_token_id=END,
            is_encoder_decoder=False,
            use_cache=False,
        )
        return UMT5EncoderModel(config)

    def pipeline(self, **parts: Any) -> WanPipeline:
        """The pipeline; `parts` (`transformer`, `vae`, `text_encoder`) replace random new ones."""

        made = {"vae": self.autoencoder, "transformer": self.transformer, "text_encoder": self.text_encoder}
        fresh = {name: make() for name, make in made.items() if name not in parts}
        scheduler = FlowMatchEulerDiscreteScheduler(shift=self.shift, use_dynamic_shifting=False)
        return WanPipeline(scheduler=scheduler, tokenizer=t5_tokenizer(), **fresh, **parts)  # type: ignore[arg-type]


def umt5_weights(t5: T5EncoderModel) -> Mapping[str, Tensor]:
    """Weights with which a UMT5 of the same sizes is the same function as `t5`.

    UMT5 has a bias by distance in every layer, where T5 has one for all.
    """
    weights = t5.state_dict()
    depth = t5.config.num_layers
    return weights | {_FIRST_BIAS.replace(".0.", f".{i}.", 1): weights[_FIRST_BIAS] for i in range(depth)}


@torch.no_grad()
def standardise_(vae: AutoencoderKLWan, latents: Tensor) -> None:
    """Set the means of `vae`, by channel, and one deviation for all, to those of `latents` (b c t h w).

    One deviation: channels that carry little stay small, instead of being blown up to noise.
    """
    channels = latents.transpose(0, 1).flatten(1).double()
    means = channels.mean(1)
    deviation = (channels - means[:, None]).std().item()
    vae.register_to_config(latents_mean=means.tolist(), latents_std=[deviation] * len(means))
