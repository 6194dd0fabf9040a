"""Tiny models in which text and image are one sequence, and the grid is read from latents or shapes."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host
from tests.hosts.models.flux_kin import DEEP, HEADS, places

TIMES = torch.tensor([500.0, 500.0])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
SIZES = {name: torch.tensor([[48.0, 64.0]] * 2) for name in ("original_size", "target_size", "crop_coords")}


def latents(**more: Any) -> dict[str, Any]:
    """Two rows of latents of 6 x 8, parted into 3 x 4 patches, and of six words."""
    return {
        "hidden_states": torch.randn(2, 4, 6, 8),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "timestep": TIMES,
        "return_dict": False,
        **more,
    }


def hunyuan_image(glyphs: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import HunyuanImageTransformer2DModel

    model = HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_refiner_layers=1, patch_size=(2, 2), text_embed_dim=16,
        text_embed_2_dim=glyphs, rope_axes_dim=(8, 8), **DEEP,
    )  # fmt: skip
    return model, latents(encoder_attention_mask=MASK)


def hunyuan_image_glyphs() -> tuple[nn.Module, dict[str, Any]]:
    """With words of a second encoder, of which the real ones are moved to the front."""
    model, given = hunyuan_image(glyphs=8)
    glyphs = torch.randn(2, 3, 8)
    return model, {
        **given, "encoder_hidden_states_2": glyphs, "encoder_attention_mask_2": torch.tensor([[1, 0, 0], [1, 1, 0]])
    }  # fmt: skip


def hunyuan_image_refiner() -> tuple[nn.Module, dict[str, Any]]:
    """Its latents have a time, of one frame."""
    from diffusers import HunyuanImageTransformer2DModel

    model = HunyuanImageTransformer2DModel(
        in_channels=4, out_channels=4, num_refiner_layers=1, patch_size=(1, 2, 2), text_embed_dim=16,
        rope_axes_dim=(4, 4, 8), guidance_embeds=True, **DEEP,
    )  # fmt: skip
    return model, latents(
        hidden_states=torch.randn(2, 4, 1, 6, 8), encoder_attention_mask=MASK, guidance=torch.tensor([1000.0, 1000.0])
    )


def krea2() -> tuple[nn.Module, dict[str, Any]]:
    """Two heads share a key; words are those of two layers of an encoder."""
    from diffusers import Krea2Transformer2DModel

    model = Krea2Transformer2DModel(
        in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, timestep_embed_dim=8, text_hidden_dim=16, num_text_layers=2, text_num_attention_heads=2,
        text_num_key_value_heads=2, text_intermediate_size=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return model, latents(
        hidden_states=torch.randn(2, 12, 4), encoder_hidden_states=torch.randn(2, 6, 2, 16), timestep=TIMES / 1000,
        position_ids=torch.cat((torch.zeros(6, 3), places(3, 4))), encoder_attention_mask=MASK.bool(),
    )  # fmt: skip


def aura_flow() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import AuraFlowTransformer2DModel

    model = AuraFlowTransformer2DModel(
        sample_size=8, num_mmdit_layers=2, num_single_dit_layers=2, joint_attention_dim=16, caption_projection_dim=32,
        pos_embed_max_size=16, **HEADS,
    )  # fmt: skip
    return model, latents(timestep=TIMES / 1000)


def cogview3_plus() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import CogView3PlusTransformer2DModel

    model = CogView3PlusTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, text_embed_dim=16, time_embed_dim=8, condition_dim=4,
        pos_embed_max_size=8, sample_size=8, **HEADS,
    )  # fmt: skip
    return model, latents(**SIZES)


def cogview4() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import CogView4Transformer2DModel

    model = CogView4Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, text_embed_dim=16, time_embed_dim=8, condition_dim=4, **HEADS
    )
    return model, latents(**SIZES)


def glm_image() -> tuple[nn.Module, dict[str, Any]]:
    """Each patch has a token of another model added to it."""
    from diffusers import GlmImageTransformer2DModel

    model = GlmImageTransformer2DModel(
        in_channels=4, out_channels=4, num_layers=2, text_embed_dim=16, time_embed_dim=8, condition_dim=4,
        prior_vq_quantizer_codebook_size=8, **HEADS,
    )  # fmt: skip
    sizes = {name: SIZES[name] for name in ("target_size", "crop_coords")}
    ids = torch.arange(24).reshape(2, 12) % 8
    return model, latents(prior_token_id=ids, prior_token_drop=torch.zeros(2, 12, dtype=torch.bool), **sizes)


def prx() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import PRXTransformer2DModel

    model = PRXTransformer2DModel(
        in_channels=4, context_in_dim=16, hidden_size=32, mlp_ratio=2.0, num_heads=2, depth=2, axes_dim=[8, 8]
    )
    return model, latents(timestep=TIMES / 1000, attention_mask=MASK.bool())


def nucleus_moe() -> tuple[nn.Module, dict[str, Any]]:
    """Two heads share a key; the last block is one of experts, whose weights the host leaves to be loaded."""
    from diffusers import NucleusMoEImageTransformer2DModel

    model = NucleusMoEImageTransformer2DModel(
        in_channels=4, out_channels=1, num_layers=2, attention_head_dim=64, num_attention_heads=4,
        num_key_value_heads=2, joint_attention_dim=16, axes_dims_rope=(16, 24, 24),
        dense_moe_strategy="leave_first_block_dense", num_experts=2, moe_intermediate_dim=16, capacity_factors=1.0,
    )  # fmt: skip
    for weight in model.transformer_blocks[1].img_mlp.experts.parameters():
        nn.init.normal_(weight)
    return model, latents(
        hidden_states=torch.randn(2, 12, 4), img_shapes=[(1, 3, 4)] * 2, timestep=TIMES / 1000,
        encoder_hidden_states_mask=MASK,
    )  # fmt: skip


def ernie_image() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import ErnieImageTransformer2DModel

    model = ErnieImageTransformer2DModel(
        hidden_size=32, num_attention_heads=2, num_layers=2, ffn_hidden_size=32, in_channels=4, out_channels=4,
        patch_size=2, text_in_dim=16, rope_axes_dim=(4, 4, 8),
    )  # fmt: skip
    given = latents(text_lens=torch.tensor([5, 2]))
    text = given.pop("encoder_hidden_states")
    return model, {**given, "text_bth": text}


def bria_fibo2() -> tuple[nn.Module, dict[str, Any]]:
    """With two pictures to edit; the second block reads words."""
    from diffusers import BriaFibo2Transformer2DModel

    model = BriaFibo2Transformer2DModel(
        in_channels=4, dim=64, n_layers=2, n_refiner_layers=1, n_heads=2, cap_feat_dim=16, injection_layer_ids=(1,),
        perceiver_num_layers=1, min_num_gist_tokens=2, max_num_gist_tokens=4, gist_step=1, gist_min_text_len=2,
        gist_max_text_len=6, axes_dims=(8, 12, 12), axes_lens=(16, 8, 8),
    )  # fmt: skip
    return model, latents(
        encoder_hidden_states=torch.randn(2, 2, 6, 16), timestep=TIMES / 1000,
        context_latents=[torch.randn(2, 4, 4, 6), torch.randn(2, 4, 8, 2)],
    )  # fmt: skip


def bria_fibo2_padded() -> tuple[nn.Module, dict[str, Any]]:
    """A row of fewer words has fewer gist tokens, and all of these go last."""
    model, given = bria_fibo2()
    return model, {**given, "encoder_attention_mask": MASK.bool()}


def ideogram4() -> tuple[nn.Module, dict[str, Any]]:
    """Words are padded at the left; padding and picture say which they are."""
    from diffusers import Ideogram4Transformer2DModel

    model = Ideogram4Transformer2DModel(
        in_channels=4, num_layers=2, intermediate_size=32, adaln_dim=8, llm_features_dim=16, mrope_section=(4, 2, 2),
        **HEADS,
    )  # fmt: skip
    real = torch.cat((MASK.flip(1), torch.ones(2, 12, dtype=torch.long)), dim=1)
    roles = torch.tensor([3] * 6 + [2] * 12)
    ids = torch.cat((torch.arange(6)[:, None].expand(-1, 3), places(3, 4).long() + 65536)).expand(2, -1, -1)
    return model, latents(
        hidden_states=torch.randn(2, 18, 4), encoder_hidden_states=torch.randn(2, 18, 16), timestep=TIMES / 1000,
        position_ids=ids, segment_ids=real * 2 - 1, indicator=roles * real,
    )  # fmt: skip


FIRST, LAST, ALONE = "text 6 | image 12 (1x3x4)", "image 12 (1x3x4) | text 6", "image 12 (1x3x4)"
PICTURES = f"{ALONE} | reference1 6 (1x2x3) | reference2 4 (1x4x1)"
HOSTS = (
    Host("hunyuan_image", hunyuan_image, LAST),
    Host("hunyuan_image_glyphs", hunyuan_image_glyphs, f"{ALONE} | text 9"),
    Host("hunyuan_image_refiner", hunyuan_image_refiner, LAST),
    Host("krea2", krea2, FIRST),
    Host("aura_flow", aura_flow, f"registers 8 | {FIRST}"),
    Host("cogview3_plus", cogview3_plus, FIRST),
    Host("cogview4", cogview4, FIRST),
    Host("glm_image", glm_image, FIRST),
    Host("prx", prx, ALONE),
    Host("nucleus_moe", nucleus_moe, ALONE),
    Host("ernie_image", ernie_image, LAST, text="text_bth"),
    Host("bria_fibo2", bria_fibo2, PICTURES),
    Host("bria_fibo2_padded", bria_fibo2_padded, PICTURES, text_axis=2),
    Host("ideogram4", ideogram4, FIRST),
)
