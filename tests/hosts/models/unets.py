"""Tiny U-Nets for pictures, whose attention stands on several grids, and transformers that stand in or before them."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host
from tests.hosts.stand_ins import Near

Made = tuple[nn.Module, dict[str, Any]]
DOWN: dict[str, Any] = {
    "in_channels": 4, "layers_per_block": 1, "block_out_channels": (16, 32), "norm_num_groups": 4,
    "cross_attention_dim": 8, "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
}  # fmt: skip
BOTH = DOWN | {
    "sample_size": 8, "out_channels": 4, "attention_head_dim": 2,
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
MAPS = ("attention_mask",)  # of image tokens, on one grid only


def picture_inputs(height: int, width: int, **more: Any) -> dict[str, Any]:
    return {
        "sample": torch.randn(2, 4, height, width), "encoder_hidden_states": torch.randn(2, 3, 8), "timestep": 500,
        "return_dict": False, **more,
    }  # fmt: skip


def _padding() -> torch.Tensor:
    return torch.tensor([[1, 1, 1], [1, 1, 0]])


def unet(**options: Any) -> Made:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**{**BOTH, **options}), picture_inputs(8, 4, encoder_attention_mask=_padding())


def unet_xl() -> Made:
    """A first block without attention, several layers in the next, sides that are odd."""
    model, inputs = unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=54,
    )  # fmt: skip
    added = {"text_embeds": torch.randn(2, 6), "time_ids": torch.ones(2, 6)}
    return model, {**inputs, "sample": torch.randn(2, 4, 7, 5), "added_cond_kwargs": added}


def unet_added(**options: Any) -> Made:
    """Keys and values of the text are added to those of the image, as in DeepFloyd IF."""
    return unet(
        down_block_types=("SimpleCrossAttnDownBlock2D", "AttnDownBlock2D"), attention_head_dim=8,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", up_block_types=("AttnUpBlock2D", "SimpleCrossAttnUpBlock2D"),
        **options,
    )  # fmt: skip


def gligen() -> Made:
    model, inputs = unet(attention_type="gated")
    boxes = {"boxes": torch.rand(2, 5, 4), "positive_embeddings": torch.randn(2, 5, 8), "masks": torch.ones(2, 5)}
    return model, {**inputs, "cross_attention_kwargs": {"gligen": boxes}}


def ddpm() -> Made:
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32),
        norm_num_groups=4, attention_head_dim=8, down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D"),
    )  # fmt: skip
    return model, {"sample": torch.randn(2, 4, 8, 4), "timestep": 500, "return_dict": False}


def kandinsky3() -> Made:
    from diffusers import Kandinsky3UNet

    model = Kandinsky3UNet(
        time_embedding_dim=16, groups=4, attention_head_dim=8, layers_per_block=2, block_out_channels=(16, 16, 16),
        cross_attention_dim=8, encoder_hid_dim=8,
    )  # fmt: skip
    return model, picture_inputs(16, 8, encoder_attention_mask=_padding())


def cascade() -> Made:
    from diffusers import StableCascadeUNet

    model = StableCascadeUNet(
        in_channels=4, out_channels=4, timestep_ratio_embedding_dim=8, patch_size=1, conditioning_dim=16,
        block_out_channels=(16, 16), num_attention_heads=(2, 2), down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1), down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 2),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2,
        clip_text_in_channels=8, clip_text_pooled_in_channels=8, clip_image_in_channels=8, clip_seq=2,
        self_attn=(True, False), switch_level=(True,), timestep_conditioning_type=("sca",),
    )  # fmt: skip
    words = {"clip_text_pooled": torch.randn(2, 1, 8), "clip_text": torch.randn(2, 3, 8)}
    return model, {
        "sample": torch.randn(2, 4, 8, 4), "timestep_ratio": torch.tensor([0.5, 0.5]),
        "clip_img": torch.randn(2, 1, 8), "return_dict": False, **words,
    }  # fmt: skip


def prior() -> Made:
    from diffusers import PriorTransformer

    model = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=2, embedding_dim=8, num_embeddings=3,
        additional_embeddings=4,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 8), "proj_embedding": torch.randn(2, 8), "timestep": 500,
        "encoder_hidden_states": torch.randn(2, 3, 8), "attention_mask": _padding().bool(), "return_dict": False,
    }  # fmt: skip


def transformer_2d() -> Made:
    from diffusers.models import Transformer2DModel

    model = Transformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, norm_num_groups=2,
        cross_attention_dim=8,
    )  # fmt: skip
    inputs = picture_inputs(6, 4, encoder_attention_mask=_padding())
    del inputs["timestep"]
    return model, {"hidden_states": inputs.pop("sample"), **inputs}


IMAGE = "image 32 (1x8x4)"
HOSTS = (
    Host("unet", unet, IMAGE),
    Host("unet_xl", unet_xl, "image 12 (1x4x3)"),
    Host("unet_added", unet_added, IMAGE, lacks=("project",)),
    Host("gligen", gligen, IMAGE),
    Host("ddpm", ddpm, IMAGE),
    Host("kandinsky3", kandinsky3, IMAGE, leaks=True),
    Host("cascade", cascade, IMAGE),
    Host("prior", prior, "text 3 | pooled 1 | time 1 | embedding 1 | prediction 1", Near(3), Near(1000)),
    Host("transformer_2d", transformer_2d, "image 24 (1x6x4)"),
)
