"""Every block of every variant on every host against plain operations in double precision; gradients too."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.papers.siamlayout import LayoutStream
from tests.papers.siamlayout import plain
from tests.papers.siamlayout.tiny import TEXT, adapter, host, inputs, layout

pytestmark = pytest.mark.host
VARIANTS: dict[str, dict[str, Any]] = {
    "siamese": {}, "lora": {"rank": 3}, "adapter": {"variant": "adapter"}, "m3": {"variant": "m3"},
}  # fmt: skip
CASES = [
    (kind, name) for kind in ("sd3", "sd3.5", "flux") for name in VARIANTS if (kind, name) != ("flux", "lora")
]  # fmt: skip


def traced(model: Any, branches: list[Any], kind: str) -> list[dict[str, Any]]:
    """Inputs and outputs of every block of one forward."""
    seen: list[dict[str, Any]] = []
    blocks = [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", ())]
    for block, branch in zip(blocks, branches, strict=True):

        def before(m: Any, args: Any, given: Any, branch: Any = branch) -> None:
            seen.append({"block": m, "branch": branch, **given})

        block.register_forward_pre_hook(before, with_kwargs=True)
        block.register_forward_hook(lambda m, args, out: seen[-1].update(out=out))
    model(**inputs(kind))
    return seen


def tables(model: Any, given: dict[str, Any], n: int) -> plain.Tables:
    found = given.get("image_rotary_emb")
    if found is None:
        return plain.Tables()
    place = model.pos_embed(-torch.ones(n, 3))
    return plain.Tables(
        text=tuple(x[:TEXT] for x in found), image=tuple(x[TEXT:] for x in found), layout=tuple(place)  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "variant"), CASES)
@torch.no_grad()
def test_blocks_compute_what_is_written(kind: str, variant: str) -> None:
    model = host(kind)
    made = adapter(model, **VARIANTS[variant])
    held = layout(kind)
    n = held.mask.shape[1] * (held.text.shape[2] if kind == "flux" else 1)
    with LayoutStream(model, made, scale=0.7 if variant != "m3" else 1.0) as stream, stream.holding(held):
        seen = traced(model, [*made.double_blocks, *made.single_blocks], kind)
    scale = 1.0 if variant == "m3" else 0.7
    assert len(seen) == (4 if kind == "flux" else 3)
    for given in seen:
        both, image = given["encoder_hidden_states"], given["hidden_states"]
        run = plain.single if not hasattr(given["block"], "norm1") else plain.double
        parts = image, both[:, :-n], both[:, -n:]
        written = run(given["block"], given["branch"], variant, *parts, given["temb"], tables(model, given, n))
        if scale != 1:  # what is added is scaled before the block's feed-forward
            with Scaled(given["branch"].out, scale):
                written = run(given["block"], given["branch"], variant, *parts, given["temb"], tables(model, given, n))
        text, found = given["out"]
        close(found, written[0])
        if written[1] is not None:
            close(text[:, :-n], written[1])
            close(text[:, -n:], written[2])


class Scaled:
    """Weights of `Z` multiplied meanwhile."""

    def __init__(self, part: Any, scale: float) -> None:
        self.parts = [part.up.weight] if hasattr(part, "up") else [part.weight, part.bias]
        self.scale = scale

    def __enter__(self) -> None:
        for each in self.parts:
            each.mul_(self.scale)

    def __exit__(self, *_: object) -> None:
        for each in self.parts:
            each.div_(self.scale)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7 * float(other.abs().max()))


@pytest.mark.parametrize(
    ("kind", "variant"), [("sd3", "siamese"), ("sd3", "lora"), ("flux", "siamese"), ("flux", "m3")]
)
def test_gradients_are_those_of_finite_differences(kind: str, variant: str) -> None:
    model = host(kind)
    made = adapter(model, **VARIANTS[variant])
    held, parameters = layout(kind), list(made.parameters())
    weights = torch.randn(inputs(kind)["hidden_states"].shape, generator=torch.Generator().manual_seed(3)).double()

    def value() -> Tensor:
        return (model(**inputs(kind))[0] * weights).sum()

    with LayoutStream(model, made) as stream, stream.holding(held):
        gradients = torch.autograd.grad(value(), parameters, allow_unused=True, materialize_grads=True)
        length = float(sum(g.square().sum() for g in gradients)) ** 0.5
        step, ends = (1e-3 if kind == "flux" else 1e-5), []  # FLUX turns queries and keys in single precision
        with torch.no_grad():
            for sign in (1, -2):
                for p, g in zip(parameters, gradients, strict=True):
                    p.add_(sign * step * g / length)
                ends.append(float(value()))
    assert length > 0.1
    assert length == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)
