"""A small random model of a class of diffusers, or of a folder's config, and arguments of a forward by their names.

Sizes are tried until a forward runs. What the names do not tell must be given.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

MODELS = ("transformer", "unet", "controlnet")  # folders of a pipeline
LARGEST = 500  # million parameters of a model made here
GRID, WORDS, ROWS = (1, 4, 6), 5, 2
DEEP = re.compile(r"(num|n)_(\w+_)?(layers|blocks)|depth\w*|num_attention_heads|n_heads")  # what is cut to 2
WIDE = ("dim", "channels", "size")
OF_TEXT = ("cross_attention", "joint_attention", "text", "caption", "cap_feat", "context", "encoder_hid")


def made(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The model in eval mode, and keyword arguments that its forward takes.

    Raises ValueError for a name that is neither class nor folder, and where no arguments of ours fit.
    """
    cls, config = _named(name)
    torch.manual_seed(0)
    model = _small(cls, config)
    for given in _tries(model):
        if _runs(model, given):
            return model, given
    asked = [p.name for p in inspect.signature(model.forward).parameters.values() if p.default is p.empty]
    raise ValueError(
        f"no arguments made by their names fit {cls.__name__}.forward({', '.join(asked)}, ...); write a file whose "
        "make() returns a small model and the arguments of a forward, and give it as --inputs"
    )


def _named(name: str) -> tuple[Any, dict[str, Any]]:
    import diffusers

    place = Path(name)
    if not place.is_dir():
        if not isinstance(cls := getattr(diffusers, name, None), type) or not issubclass(cls, nn.Module):
            raise ValueError(
                f"model='{name}' is neither a folder nor a model of diffusers; `saccade hosts` lists those"
            )
        return cls, {}
    inside = next((place / part for part in MODELS if (place / part / "config.json").is_file()), place)
    if not (inside / "config.json").is_file():
        raise ValueError(f"model='{name}' holds no config.json of a model, nor has a folder {' or '.join(MODELS)}")
    config = json.loads((inside / "config.json").read_text())
    return _named(config.get("_class_name", ""))[0], {k: v for k, v in config.items() if not k.startswith("_")}


def _small(cls: Any, config: Mapping[str, Any]) -> nn.Module:
    """With two layers and heads where the class can be made so; its own numbers elsewhere."""
    own = inspect.signature(cls.__init__).parameters.values()
    whole = {**{p.name: p.default for p in own if p.default is not p.empty}, **config}
    deep = {k: v for k, v in whole.items() if type(v) is int and v > 2 and DEEP.fullmatch(k)}
    shallow = {k: 2 for k in deep if "head" not in k}
    for cut in (dict.fromkeys(deep, 2), shallow):
        try:
            return _built(cls, {**config, **cut})
        except (RuntimeError, TypeError, AssertionError):  # the class wants other numbers together
            continue
    return _built(cls, config)


def _built(cls: Any, config: Mapping[str, Any]) -> nn.Module:
    """The model, weighed before it is made; ValueError for one that is too large."""
    with torch.device("meta"):
        millions = sum(p.numel() for p in cls.from_config(dict(config)).parameters()) // 10**6
    if millions > LARGEST:
        raise ValueError(
            f"{cls.__name__} has {millions} million parameters even with two layers, more than {LARGEST}; write a file "
            "whose make() returns a small one and the arguments of a forward, and give it as --inputs"
        )
    return cls.from_config(dict(config)).eval()


def _runs(model: nn.Module, given: Mapping[str, Any]) -> bool:
    try:
        with torch.no_grad():
            model(**given)
    except Exception:  # noqa: BLE001  another guess is tried
        return False
    return True


def _tries(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Arguments by name, over shapes of the image and widths of the text."""
    config = dict(getattr(model, "config", {}))
    parameters = inspect.signature(model.forward).parameters
    main = next(iter(parameters))
    wide = {k: v for k, v in config.items() if type(v) is int and k.endswith(WIDE)}
    texts = [v for k, v in wide.items() if any(word in k for word in OF_TEXT)] or [*wide.values()]
    pooled = [v for k, v in wide.items() if "pooled" in k or "projection" in k] or [1]
    for shape, words, pool in product(_shapes(config), dict.fromkeys(texts), pooled):
        given = {name: _argument(p, config, words, pool) for name, p in parameters.items() if name != main}
        yield {main: torch.randn(ROWS, *shape), **{k: v for k, v in given.items() if v is not None}}


def _shapes(config: Mapping[str, Any]) -> Iterator[tuple[int, ...]]:
    channels, patch, along = config.get("in_channels") or 4, config.get("patch_size") or 1, config.get("patch_size_t")
    t, h, w = (along or 1, patch, patch) if isinstance(patch, int) else (1, 1, *patch)[-3:]
    frames, height, width = 3 * t, GRID[1] * h, GRID[2] * w
    yield GRID[1] * GRID[2], channels
    yield channels, height, width
    yield channels, frames, height, width
    yield frames, channels, height, width
    yield channels, 8 * height, 8 * width  # a U-Net halves it


def _argument(p: inspect.Parameter, config: Mapping[str, Any], words: int, pool: int) -> Any:
    """What an argument of this name holds; None for one that may be left out."""
    name, n = p.name, GRID[1] * GRID[2]
    axes = len(config.get("axes_dims_rope") or config.get("axes_dim") or (0, 0, 0))
    if name in ("num_frames", "height", "width"):
        return dict(zip(("num_frames", "height", "width"), GRID, strict=True))[name]
    known = {
        "timestep": torch.full((ROWS,), 500.0),
        "encoder_hidden_states": torch.randn(ROWS, WORDS, words),
        "pooled_projections": torch.randn(ROWS, pool),
        "encoder_attention_mask": torch.tensor([[1] * WORDS, [1] * (WORDS - 1) + [0]]),
        "encoder_hidden_states_mask": torch.tensor([[1] * WORDS, [1] * (WORDS - 1) + [0]]),
        "guidance": torch.full((ROWS,), 1000.0) if config.get("guidance_embeds") else None,
        "img_ids": torch.nn.functional.pad(torch.cartesian_prod(*map(torch.arange, GRID)), (0, axes - 3)).float(),
        "txt_ids": torch.zeros(WORDS, axes),
        "img_shapes": [[GRID]] * ROWS,
        "class_labels": torch.arange(ROWS) if p.default is p.empty or config.get("num_embeds_ada_norm") else None,
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        "return_dict": False,
    }
    assert n == len(known["img_ids"])
    return known.get(name)
