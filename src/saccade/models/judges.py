"""Networks that score edits, opened from folders on this machine: CLIP for texts, DINO for structure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

Picture = Float[np.ndarray, "1 h w 3"]


def text_judge(folder: Path | str) -> Callable[[Picture, str], float]:
    """CLIP's score of a picture and a text: 100 times the cosine, at least 0. `folder`: a transformers CLIP model."""
    from transformers import AutoModel, AutoProcessor

    model, processor = _opened(AutoModel, folder), _opened(AutoProcessor, folder)

    @torch.no_grad()
    def judge(picture: Picture, text: str) -> float:
        inputs = processor(text=[text], images=[_image(picture)], return_tensors="pt", truncation=True)
        out = model(**inputs)
        return 100 * max(0.0, float(cosine_similarity(out.image_embeds, out.text_embeds)))

    return judge


def key_features(folder: Path | str) -> Callable[[Picture], Float[np.ndarray, "n c"]]:
    """The keys of a vision transformer's last attention, one vector a token (Splice). `folder`: a DINO ViT."""
    from transformers import AutoImageProcessor, AutoModel

    model, processor = _opened(AutoModel, folder), _opened(AutoImageProcessor, folder)
    last = _last_keys(model, folder)

    @torch.no_grad()
    def features(picture: Picture) -> Float[np.ndarray, "n c"]:
        kept: list[Tensor] = []
        hook = last.register_forward_hook(lambda module, args, keys: kept.append(keys))
        try:
            model(**processor(images=[_image(picture)], return_tensors="pt"))
        finally:
            hook.remove()
        return kept[0][0].float().numpy()

    return features


def _opened(kind: Any, folder: Path | str) -> Any:
    try:
        opened = kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"folder='{folder}' holds no model with processor for transformers to open: {error}") from None
    return opened.eval() if isinstance(opened, torch.nn.Module) else opened


def _last_keys(model: Any, folder: Path | str) -> Any:
    found = [module for name, module in model.named_modules() if name.endswith((".key", ".k_proj"))]
    if not found:
        raise ValueError(f"folder='{folder}' is a {type(model).__name__} without a layer that makes keys; give a ViT")
    return found[-1]


def _image(picture: Picture) -> Image.Image:
    return Image.fromarray((picture[0].clip(0, 1) * 255).round().astype(np.uint8))
