"""Tiny models of FLUX's make, whose grids are read from ids."""

from typing import Any

import torch
from torch import Tensor, nn

from tests.hosts.host import Host

HEADS: dict[str, Any] = {"attention_head_dim": 16, "num_attention_heads": 2}
DEEP: dict[str, Any] = {"num_layers": 2, "num_single_layers": 2, **HEADS}
LIKE_FLUX: dict[str, Any] = {"in_channels": 4, "joint_attention_dim": 32, "axes_dims_rope": (4, 4, 8), **DEEP}
TEXT = 6


def places(height: int, width: int, number: int = 0, axes: int = 3) -> Tensor:
    """Ids (n axes) of a picture: its number, rows, columns, and zeros."""
    sides = (torch.tensor([number]), torch.arange(height), torch.arange(width), *[torch.arange(1)] * (axes - 3))
    return torch.cartesian_prod(*sides).float()


def inputs(axes: int = 3, text: int = TEXT, **more: Any) -> dict[str, Any]:
    """Two rows of a 3 x 4 picture."""
    return {
        "hidden_states": torch.randn(2, 12, 4),
        "encoder_hidden_states": torch.randn(2, text, 32),
        "timestep": torch.tensor([0.5, 0.5]),
        "img_ids": places(3, 4, axes=axes),
        "txt_ids": torch.zeros(text, axes),
        "return_dict": False,
        **more,
    }


def flux2() -> tuple[nn.Module, dict[str, Any]]:
    """With reference pictures of two sizes, and batched ids as its pipelines give them."""
    from diffusers import Flux2Transformer2DModel

    model = Flux2Transformer2DModel(
        in_channels=4, joint_attention_dim=32, timestep_guidance_channels=8, axes_dims_rope=(4, 4, 4, 4), **DEEP
    )
    ids = torch.cat((places(3, 4, axes=4), places(2, 3, number=10, axes=4), places(4, 1, number=20, axes=4)))
    words = torch.cartesian_prod(*[torch.arange(1)] * 3, torch.arange(TEXT)).float()
    return model, inputs(
        hidden_states=torch.randn(2, len(ids), 4), img_ids=ids.expand(2, -1, -1), txt_ids=words.expand(2, -1, -1),
        guidance=torch.tensor([4.0, 4.0]),
    )  # fmt: skip


def flux3() -> tuple[nn.Module, dict[str, Any]]:
    """With two reference pictures, which its forward takes apart from the image."""
    from diffusers import Flux3Transformer2DModel

    model = Flux3Transformer2DModel(
        in_channels=4, cond_in_channels=4, joint_attention_dim=32, timestep_channels=8, axes_dims_rope=(4, 4, 4, 4),
        **DEEP,
    )  # fmt: skip
    ids = torch.cat((places(2, 3, number=10, axes=4), places(4, 1, number=20, axes=4)))
    return model, inputs(axes=4, image_cond_hidden_states=torch.randn(2, len(ids), 4), image_cond_ids=ids)


def chroma() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import ChromaTransformer2DModel

    model = ChromaTransformer2DModel(
        approximator_num_channels=16, approximator_hidden_dim=16, approximator_layers=1, **LIKE_FLUX
    )
    mask = torch.ones(2, TEXT + 12, dtype=torch.bool)
    mask[0, 5:TEXT], mask[1, 2:TEXT] = False, False
    return model, inputs(attention_mask=mask)


def ovis_image() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import OvisImageTransformer2DModel

    return OvisImageTransformer2DModel(out_channels=4, **LIKE_FLUX), inputs()


def longcat_image() -> tuple[nn.Module, dict[str, Any]]:
    """With a picture to edit; it numbers text, image and picture."""
    from diffusers import LongCatImageTransformer2DModel

    ids = torch.cat((places(3, 4, number=1), places(2, 3, number=2)))
    return LongCatImageTransformer2DModel(**LIKE_FLUX), inputs(img_ids=ids, hidden_states=torch.randn(2, 18, 4))


def bria() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import BriaTransformer2DModel

    return BriaTransformer2DModel(pooled_projection_dim=None, **LIKE_FLUX), inputs(timestep=torch.tensor([500, 500]))


def bria_fibo() -> tuple[nn.Module, dict[str, Any]]:
    """Every block reads a layer of the text encoder of its own."""
    from diffusers import BriaFiboTransformer2DModel

    model = BriaFiboTransformer2DModel(text_encoder_dim=8, pooled_projection_dim=None, **LIKE_FLUX)
    return model, inputs(
        timestep=torch.tensor([500.0, 500.0]), text_encoder_layers=[torch.randn(2, TEXT, 8) for _ in range(4)]
    )


def flux_controlnet(modes: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import FluxControlNetModel

    model = FluxControlNetModel(pooled_projection_dim=32, num_mode=modes, **LIKE_FLUX)
    return model, inputs(controlnet_cond=torch.randn(2, 12, 4), pooled_projections=torch.randn(2, 32))


def flux_controlnet_union() -> tuple[nn.Module, dict[str, Any]]:
    """One token says which of its kinds of control it is given."""
    model, given = flux_controlnet(modes=3)
    return model, {**given, "controlnet_mode": torch.tensor([[1], [1]])}


PLAIN = "text 6 | image 12 (1x3x4)"
REFERENCES = f"{PLAIN} | reference1 6 (1x2x3) | reference2 4 (1x4x1)"
HOSTS = (
    Host("flux2", flux2, REFERENCES),
    Host("flux3", flux3, "image 12 (1x3x4)"),
    Host("chroma", chroma, PLAIN),
    Host("ovis_image", ovis_image, PLAIN),
    Host("longcat_image", longcat_image, f"{PLAIN} | reference1 6 (1x2x3)"),
    Host("bria", bria, PLAIN),
    Host("bria_fibo", bria_fibo, PLAIN),
    Host("flux_controlnet", flux_controlnet, PLAIN),
    Host("flux_controlnet_union", flux_controlnet_union, f"mode 1 | {PLAIN}"),
)
