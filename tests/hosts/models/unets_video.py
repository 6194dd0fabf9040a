"""Tiny models for video that fold their batch: rows of frames within a frame, rows of places through time."""

from typing import Any

import torch

from tests.hosts.host import Host
from tests.hosts.models.unets import MAPS, Made

FRAMES = 4
DOWN: dict[str, Any] = {
    "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4, "cross_attention_dim": 8,
}  # fmt: skip


def _blocks(name: str) -> dict[str, Any]:
    return {f"{way}_block_types": (f"CrossAttn{way.title()}Block{name}",) * 2 for way in ("down", "up")}


def _inputs(**more: Any) -> dict[str, Any]:
    return {
        "sample": torch.randn(2, 4, FRAMES, 8, 4), "encoder_hidden_states": torch.randn(2, 3, 8), "timestep": 500,
        "return_dict": False, **more,
    }  # fmt: skip


def unet_3d() -> Made:
    from diffusers import UNet3DConditionModel

    return UNet3DConditionModel(**DOWN, **_blocks("3D"), attention_head_dim=8), _inputs()


def animatediff() -> Made:
    from diffusers import UNetMotionModel

    model = UNetMotionModel(
        **DOWN, **_blocks("Motion"), num_attention_heads=2, motion_num_attention_heads=2, motion_max_seq_length=8
    )
    return model, _inputs(encoder_hidden_states=torch.randn(2 * FRAMES, 3, 8))


def sparse_control() -> Made:
    from diffusers import SparseControlNetModel

    model = SparseControlNetModel(
        **DOWN, down_block_types=_blocks("Motion")["down_block_types"], attention_head_dim=2,
        conditioning_embedding_out_channels=(4, 4), motion_num_attention_heads=2, motion_max_seq_length=8,
    )  # fmt: skip
    control = {"controlnet_cond": torch.rand(2, 4, FRAMES, 8, 4), "conditioning_mask": torch.ones(2, 1, FRAMES, 8, 4)}
    return model, _inputs(encoder_hidden_states=torch.randn(2 * FRAMES, 3, 8), **control)


def i2vgen() -> Made:
    from diffusers import I2VGenXLUNet

    model = I2VGenXLUNet(**DOWN, **_blocks("3D"), attention_head_dim=2)
    return model, _inputs(
        fps=torch.tensor([8, 8]), image_latents=torch.randn(2, 4, FRAMES, 8, 4), image_embeddings=torch.randn(2, 1, 8)
    )


def svd() -> Made:
    from diffusers import UNetSpatioTemporalConditionModel

    model = UNetSpatioTemporalConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=8,
        num_attention_heads=2, addition_time_embed_dim=8, projection_class_embeddings_input_dim=24,
        **_blocks("SpatioTemporal"),
    )  # fmt: skip
    inputs = _inputs(encoder_hidden_states=torch.randn(2, 2, 8), added_time_ids=torch.ones(2, 3))
    return model, {**inputs, "sample": inputs["sample"].transpose(1, 2)}


def latte() -> Made:
    from diffusers import LatteTransformer3DModel

    model = LatteTransformer3DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, sample_size=8,
        cross_attention_dim=16, patch_size=2, norm_type="ada_norm_single", num_embeds_ada_norm=1000, caption_channels=8,
        norm_elementwise_affine=False, video_length=FRAMES,
    )  # fmt: skip
    inputs = _inputs(timestep=torch.tensor([500, 500]))
    del inputs["sample"]
    return model, {"hidden_states": torch.randn(2, 4, FRAMES, 8, 8), **inputs}


SPACE, TIME = "image 32 (1x8x4)", "image 4 (4x1x1)"
HOSTS = (
    Host("unet_3d", unet_3d, TIME, maps=MAPS),
    Host("animatediff", animatediff, SPACE, maps=MAPS),
    Host("sparse_control", sparse_control, SPACE, maps=(*MAPS, "conditioning_mask")),
    Host("i2vgen", i2vgen, TIME),
    Host("svd", svd, SPACE),
    Host("latte", latte, "image 16 (1x4x4)", maps=("encoder_attention_mask",)),
)
