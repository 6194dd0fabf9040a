"""Tiny control nets of U-Nets."""

import torch

from tests.hosts.host import Host
from tests.hosts.models.unets import BOTH, DOWN, IMAGE, MAPS, Made, picture_inputs


def controlnet() -> Made:
    from diffusers import ControlNetModel

    model = ControlNetModel(**DOWN, attention_head_dim=2, conditioning_embedding_out_channels=(4, 4))
    return model, picture_inputs(8, 4, controlnet_cond=torch.rand(2, 3, 16, 8))


def controlnet_union() -> Made:
    from diffusers import ControlNetUnionModel

    model = ControlNetUnionModel(
        **DOWN, attention_head_dim=2, conditioning_embedding_out_channels=(16, 16), num_control_type=2,
        num_trans_channel=16, num_trans_head=2, num_proj_channel=16, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=54,
    )  # fmt: skip
    added = {"text_embeds": torch.randn(2, 6), "time_ids": torch.ones(2, 6)}
    kinds = {"control_type": torch.tensor([[1.0, 0.0]] * 2), "control_type_idx": [0]}
    return model, picture_inputs(8, 4, controlnet_cond=[torch.rand(2, 3, 16, 8)], added_cond_kwargs=added, **kinds)


def controlnet_xs() -> Made:
    from diffusers import UNetControlNetXSModel

    model = UNetControlNetXSModel(
        sample_size=8, down_block_types=DOWN["down_block_types"], up_block_types=BOTH["up_block_types"],
        block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=8, num_attention_heads=2,
        ctrl_conditioning_embedding_out_channels=(4, 4), ctrl_block_out_channels=(4, 8), ctrl_num_attention_heads=2,
        ctrl_max_norm_num_groups=4,
    )  # fmt: skip
    return model, picture_inputs(8, 4, controlnet_cond=torch.rand(2, 3, 16, 8))


HOSTS = (
    Host("controlnet", controlnet, IMAGE, maps=MAPS),
    Host("controlnet_union", controlnet_union, IMAGE, maps=MAPS),
    Host("controlnet_xs", controlnet_xs, IMAGE, maps=MAPS),
)
