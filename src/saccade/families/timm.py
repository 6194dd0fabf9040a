"""timm's vision transformers: class and register tokens first, then one grid of patches; or windows as batch rows."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.plain import switched_off
from saccade.seam.family import Family, Inputs, Layouts, grid_ids, joint_layouts
from saccade.seam.rotary import Rotary
from saccade.seam.routes import torch_routes

NORM_AFTER = ("ResPostBlock", "ResPostRelPosBlock", "EvaBlockPostNorm")
FEATURES = "call the model itself; made with num_classes=0 and global_pool='' it returns its features"
CUT = "its blocks cut the stream into windows, which are batch rows, before attention; use hidden"
FOLDED = "its windows are batch rows that the block folds as a picture; edit q, k and v, or use a hook of your own"
POOLING = {"attn_pool": "pooling: one learned query reads the finished tokens"}


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    height, width = model.patch_embed.dynamic_feat_size(inputs["x"].shape[-2:])
    image = Segment("image", "image", height * width, (1, height, width))
    prefix = (Segment("prefix", "extra", model.num_prefix_tokens),) if model.num_prefix_tokens else ()
    return joint_layouts(Layout((*prefix, image)))


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """Tables of the EVA kind: whole places, scaled to the grid of pre-training."""
    rope = model.rope
    if getattr(rope, "grid_type", None) != "index" or rope.rotate_half or rope.grid_indexing != "ij":
        raise ValueError(
            f"rope={type(rope).__name__} of this model is no table of base and whole places (y, x) over neighbouring "
            "channels; leave out what needs host.rotary or host.raw"
        )
    sides = (layout.image.grid or (1, 1, 1))[1:]
    ids = grid_ids(layout, inputs["x"].device)[:, 1:] + rope.grid_offset
    if rope.ref_feat_shape is not None:
        ids = ids / ids.new_tensor(sides) * ids.new_tensor(rope.ref_feat_shape)
    ids = ids * layout.is_("image", ids.device)[:, None]
    return Rotary(ids=ids, theta=rope.temperature, axes_dim=(rope.dim // 2, rope.dim // 2))


def _project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    if module.qkv is None:
        k, v = module.k_proj(x), module.v_proj(x)
    else:
        _, k, v = F.linear(x, module.qkv.weight, _bias(module)).chunk(3, dim=-1)
    k, v = (t.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for t in (k, v))
    return getattr(module, "k_norm", nn.Identity())(k), v


def _bias(module: Any) -> Tensor | None:
    """EVA and BEiT keep that of q and v apart, and none for k."""
    if getattr(module, "q_bias", None) is None:
        return module.qkv.bias
    return torch.cat((module.q_bias, module.k_bias, module.v_bias))


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    if type(block).__name__ in NORM_AFTER:
        return tokens
    return (block.norm1 if hasattr(block, "norm1") else block.norm)(tokens)


def _window(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """One window, which is a batch row of its own; places count its tokens, which may stand apart in the picture."""
    module = model.get_submodule(site.name)
    height, width = getattr(module, "window_size", None) or _parent(model, site).partition_size
    return joint_layouts(Layout.image_only((1, height, width)))


def _parent(model: Any, site: Site) -> Any:
    return model.get_submodule(site.name.rpartition(".")[0])


def _family(name: str, *classes: str, **more: Any) -> Family:
    common: dict[str, Any] = {
        "sites": {"blocks.*.attn": "self"}, "left_alone": POOLING, "text": "none", "layout": _layout,
        "project": _project, "enter": _enter, "main_input": "x", "routes": torch_routes, "bind": "methods",
        "unseen": switched_off, "bypasses": dict.fromkeys(("forward_features", "forward_intermediates"), FEATURES),
    }  # fmt: skip
    return Family(name=name, library="timm", classes=classes, **{**common, **more})


NO_ROTARY = {"rotary": "its positions are added to tokens or scores; use a bias by place, as FlashBias does"}
VIT = _family("timm ViT", "timm.VisionTransformer", "timm.VisionTransformerRelPos", unsupported=NO_ROTARY)
BEIT = _family("timm BEiT", "timm.Beit", unsupported=NO_ROTARY)
EVA = _family("timm EVA", "timm.Eva", rotary=_rotary)
SWIN = _family(
    "timm Swin", "timm.SwinTransformer", sites={"layers.*.blocks.*.attn": "self"}, layout=_window, by_site=True,
    unsupported={**NO_ROTARY, **dict.fromkeys(("stream", "enter"), CUT)},
)  # fmt: skip
MAXVIT = _family(
    "timm MaxViT", "timm.MaxxVit", sites={"stages.*.blocks.*.attn_*.attn": "self"}, layout=_window, by_site=True,
    unsupported=dict.fromkeys(("hidden", "stream", "enter", "project", "rotary"), FOLDED),
)  # fmt: skip
