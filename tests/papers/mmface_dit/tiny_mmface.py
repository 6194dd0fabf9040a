"""A small model without zeros, what conditions it, and the paper's model written plainly from official weights."""

from collections.abc import Mapping
from math import log
from typing import Any

import torch
from torch import Tensor, nn

from saccade.papers import MMFaceDiT

SIZES: dict[str, Any] = {
    "depth": 2, "width": 16, "heads": 2, "side": 8, "channels": 3, "picture_channels": 2, "words_width": 6,
}  # fmt: skip


def made(**changes: Any) -> MMFaceDiT:
    """Weights that are nowhere zero."""
    torch.manual_seed(0)
    model = MMFaceDiT(**SIZES | changes).eval()
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    return model


def given(rows: int = 2, *, words: int = 5, sides: tuple[int, int] = (8, 8), seed: int = 1) -> tuple[Any, ...]:
    """x, t and a condition."""
    draw = torch.Generator().manual_seed(seed)
    condition = {
        "picture": torch.randn(rows, 2, *sides, generator=draw),
        "modality": torch.arange(rows) % 2,
        "words": torch.randn(rows, words, 6, generator=draw),
        "pooled": torch.randn(rows, 6, generator=draw),
    }
    return torch.randn(rows, 3, *sides, generator=draw), torch.rand(rows, generator=draw), condition


def plain(
    state: Mapping[str, Tensor],
    x: Tensor,
    t: Tensor,
    condition: Mapping[str, Tensor],
    *,
    heads: int,
    order: str = "zero",
    scale: float = 999,
) -> Tensor:
    """The paper's model, token by token and head by head, on weights under their official names."""
    weights = {name: value.double() for name, value in state.items()}

    def linear(name: str, value: Tensor) -> Tensor:
        bias = weights.get(f"{name}.bias")
        out = value @ weights[f"{name}.weight"].T
        return out if bias is None else out + bias

    both = torch.cat((x, condition["picture"]), dim=1).double()
    rows, columns = both.shape[2] // 2, both.shape[3] // 2
    kernel = weights["x_embedder.proj.weight"]
    patches = [both[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for i in range(rows) for j in range(columns)]
    image = torch.stack([torch.einsum("bcyx,dcyx->bd", patch, kernel) for patch in patches], dim=1)
    image = image + weights["x_embedder.proj.bias"]
    text = linear("clip_seq_proj", condition["words"].double())
    rates = torch.exp(-log(10000) * torch.arange(128) / 128)
    angles = (t * scale).float()[:, None] * rates
    wave = torch.cat((angles.cos(), angles.sin()), dim=1).double()
    c = linear("c_embedder.proj", condition["pooled"].double()) + weights["modality_embedder.weight"][
        condition["modality"]
    ]  # fmt: skip
    c = c + linear("t_embedder.mlp.2", silu(linear("t_embedder.mlp.0", wave)))
    places = [(i, j) for i in range(rows) for j in range(columns)]
    places += [(k if order == "sequence" else 0, 0) for k in range(text.shape[1])]
    for number in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))):
        image, text = block(f"blocks.{number}", linear, image, text, c, places, heads)
    shift, scaled = linear("final_layer.adaLN_modulation.1", silu(c))[:, None].chunk(2, dim=2)
    out = linear("final_layer.linear", normed(image) * (1 + scaled) + shift)
    picture = torch.zeros(len(x), x.shape[1], x.shape[2], x.shape[3], dtype=torch.float64)
    for n, (i, j) in enumerate(places[: rows * columns]):
        for place in range(4):
            y, z = 2 * i + place // 2, 2 * j + place % 2
            picture[:, :, y, z] = out[:, n, place * x.shape[1] : (place + 1) * x.shape[1]]
    return picture


def block(
    name: str, linear: Any, image: Tensor, text: Tensor, c: Tensor, places: list[tuple[int, int]], heads: int
) -> tuple[Tensor, Tensor]:
    """Both streams after one block."""
    v = linear(f"{name}.adaLN_modulation.1", silu(c))[:, None].chunk(12, dim=2)
    entered = normed(image) * (1 + v[1]) + v[0], normed(text) * (1 + v[7]) + v[6]
    q, k, value = (
        torch.cat([linear(f"{name}.attn.to_{part}{mark}", x) for mark, x in zip(("", "_t"), entered, strict=True)], 1)
        for part in "qkv"
    )
    size = q.shape[2] // heads
    outs = []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        turned = [turn(each[:, :, own], places) for each in (q, k)]
        outs.append((turned[0] @ turned[1].mT / size**0.5).softmax(-1) @ value[:, :, own])
    seen = torch.cat(outs, dim=2)
    image = image + v[2] * linear(f"{name}.attn.to_out", seen[:, : image.shape[1]])
    text = text + v[8] * linear(f"{name}.attn.to_out_t", seen[:, image.shape[1] :])
    image = image + v[5] * perceptron(linear, f"{name}.mlp_i", normed(image) * (1 + v[4]) + v[3])
    return image, text + v[11] * perceptron(linear, f"{name}.mlp_t", normed(text) * (1 + v[10]) + v[9])


def turn(x: Tensor, places: list[tuple[int, int]]) -> Tensor:
    """Complex multiplication: the first half of the pairs turns with the row, the second with the column."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    half = pairs.shape[-1] // 2
    angles = [[place[axis] * 10000 ** (-k / half) for axis in (0, 1) for k in range(half)] for place in places]
    turns = torch.exp(1j * torch.tensor(angles, dtype=torch.float64)).to(torch.complex64)  # as the paper stores them
    return torch.view_as_real(pairs * turns).flatten(-2)


def perceptron(linear: Any, name: str, x: Tensor) -> Tensor:
    """GELU in its approximation by tanh."""
    inner = linear(f"{name}.0", x)
    inner = 0.5 * inner * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (inner + 0.044715 * inner**3)))
    return linear(f"{name}.2", inner)


def normed(x: Tensor) -> Tensor:
    """Layer norm without weights."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x)."""
    return x / (1 + (-x).exp())
