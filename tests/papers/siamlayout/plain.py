"""What the blocks compute, written out in plain operations: no modules, no fused attention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Table = tuple[Tensor, Tensor]


def linear(part: Any, x: Tensor) -> Tensor:
    return x @ part.weight.T + (0 if part.bias is None else part.bias)


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + ((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)).tanh())


def norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def modulation(part: Any, temb: Tensor, count: int) -> list[Tensor]:
    return [x[:, None] for x in linear(part, silu(temb)).chunk(count, dim=1)]


def mlp(part: Any, x: Tensor) -> Tensor:
    return linear(part.net[2], gelu(linear(part.net[0].proj, x)))


def heads(x: Tensor, count: int, scaled: Any = None) -> Tensor:
    x = x.unflatten(-1, (count, -1))
    if scaled is None or not hasattr(scaled, "weight"):
        return x
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * scaled.weight


def turned(x: Tensor, table: Table | None) -> Tensor:
    if table is None:
        return x
    cos, sin = (part[:, None] for part in table)
    even, odd = x[..., ::2], x[..., 1::2]
    return x * cos + torch.stack((-odd, even), dim=-1).flatten(-2) * sin


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (torch.einsum("bnhc,bmhc->bhnm", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("bhnm,bmhc->bnhc", weights, v).flatten(2)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Tokens with the projections and norms they pass through, and the rows of the rotary table that are theirs."""

    x: Tensor
    project: Callable[[str, Tensor], Tensor]  # of "q", "k" and "v"
    norms: tuple[Any, Any]
    table: Table | None


def joint(count: int, *streams: Stream) -> list[Tensor]:
    """Attention of all streams to one another, parted again."""
    found = []
    for letter in "qkv":
        parts = []
        for stream in streams:
            scaled = None if letter == "v" else stream.norms[letter == "k"]
            made = heads(stream.project(letter, stream.x), count, scaled)
            parts.append(made if letter == "v" else turned(made, stream.table))
        found.append(torch.cat(parts, dim=1))
    return list(attend(*found).split([stream.x.shape[1] for stream in streams], dim=1))


def of_image(attn: Any, x: Tensor, table: Table | None, more: Callable[[str, Tensor], Any] = lambda n, x: 0) -> Stream:
    return Stream(
        x=x, project=lambda n, x: linear(getattr(attn, f"to_{n}"), x) + more(f"to_{n}", x),
        norms=(getattr(attn, "norm_q", None), getattr(attn, "norm_k", None)), table=table,
    )  # fmt: skip


def of_text(attn: Any, x: Tensor, table: Table | None, more: Callable[[str, Tensor], Any] = lambda n, x: 0) -> Stream:
    return Stream(
        x=x, project=lambda n, x: linear(getattr(attn, f"add_{n}_proj"), x) + more(f"add_{n}_proj", x),
        norms=(getattr(attn, "norm_added_q", None), getattr(attn, "norm_added_k", None)), table=table,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Rotary tables of each stream; None where the host has none."""

    text: Table | None = None
    image: Table | None = None
    layout: Table | None = None


def after(part: Any, x: Tensor, seen: Tensor, gates: list[Tensor], more: Callable[[Tensor], Any]) -> Tensor:
    gate, shift, scale, gate_mlp = gates
    x = x + gate * seen
    inner = norm(x) * (1 + scale) + shift
    return x + gate_mlp * (mlp(part, inner) + more(inner))


def double(
    block: Any, branch: Any, variant: str, image: Tensor, text: Tensor, layout: Tensor, temb: Tensor, tables: Tables
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(image, text, layout) after a block with two streams."""
    attn, last = block.attn, getattr(block, "context_pre_only", False)
    dual = getattr(block, "use_dual_attention", False)
    shift, scale, gate, *gates = modulation(block.norm1.linear, temb, 9 if dual else 6)
    normed = norm(image) * (1 + scale) + shift
    if last:
        c_scale, c_shift = modulation(block.norm1_context.linear, temb, 2)
        c_gates: list[Tensor] = []
    else:
        c_shift, c_scale, *c_gates = modulation(block.norm1_context.linear, temb, 6)
    words = norm(text) * (1 + c_scale) + c_shift
    streams = [of_image(attn, normed, tables.image), of_text(attn, words, tables.text)]
    added: Any = 0
    if variant == "m3":
        more, e_gates = own_layout(branch.norm.linear, layout, temb, branch.ff is not None)
        projected = Stream(x=more, project=lambda n, x: linear(branch.linear[f"add_{n}_proj"], x),
                           norms=streams[1].norms, table=tables.layout)  # fmt: skip
        a_x, a_c, a_e = joint(attn.heads, *streams, projected)
        if branch.ff is not None:
            layout = after(branch.ff, layout, linear(branch.linear["to_add_out"], a_e), e_gates, lambda x: 0)
    else:
        a_x, a_c = joint(attn.heads, *streams)
        added, layout = beside(block, branch, variant, normed, layout, temb, tables)
    x = image + gate * linear(attn.to_out[0], a_x) + added
    if dual:
        second = norm(image) * (1 + gates[4]) + gates[3]
        (alone,) = joint(attn.heads, of_image(block.attn2, second, None))
        x = x + gates[5] * linear(block.attn2.to_out[0], alone)
    m_shift, m_scale, m_gate = gates[:3]
    x = x + m_gate * mlp(block.ff, norm(x) * (1 + m_scale) + m_shift)
    if last:
        return x, None, layout
    return x, after(block.ff_context, text, linear(attn.to_add_out, a_c), c_gates, lambda x: 0), layout


def own_layout(part: Any, layout: Tensor, temb: Tensor, updates: bool) -> tuple[Tensor, list[Tensor]]:
    if not updates:
        scale, shift = modulation(part, temb, 2)
        return norm(layout) * (1 + scale) + shift, []
    shift, scale, *gates = modulation(part, temb, 6)
    return norm(layout) * (1 + scale) + shift, gates


def beside(
    block: Any, branch: Any, variant: str, normed: Tensor, layout: Tensor, temb: Tensor, tables: Tables
) -> tuple[Tensor, Tensor]:
    """What the second branch adds to the image, and its layout."""
    if variant == "adapter":
        q = heads(linear(block.attn.to_q, normed), block.attn.heads, block.attn.norm_q)
        k = heads(linear(branch.to_k, layout), block.attn.heads, block.attn.norm_k)
        return linear(branch.out, attend(q, k, heads(linear(branch.to_v, layout), block.attn.heads))), layout
    if variant == "lora":
        return low_rank(block, branch, normed, layout, temb)
    own, gates = own_layout(branch.norm.linear, layout, temb, branch.ff is not None)
    streams = of_image(branch.attn, normed, tables.image), of_text(branch.attn, own, tables.layout)
    s_x, s_e = joint(branch.attn.heads, *streams)
    if branch.ff is not None:
        layout = after(branch.ff, layout, linear(branch.attn.to_add_out, s_e), gates, lambda x: 0)
    return linear(branch.out, linear(branch.attn.to_out[0], s_x)), layout


def low_rank(block: Any, branch: Any, normed: Tensor, layout: Tensor, temb: Tensor) -> tuple[Tensor, Tensor]:
    def terms(part: Any, x: Tensor) -> Tensor:
        return x @ part.down.weight.T @ part.up.weight.T

    def more(name: str, x: Tensor) -> Tensor:
        return terms(branch.attn[name.replace(".", "_")], x)

    updates = len(branch.ff) > 0
    base, gates = own_layout(block.norm1_context.linear, layout, temb, updates)
    added = [x[:, None] for x in terms(branch.norm, silu(temb)).chunk(6 if updates else 2, dim=1)]
    shift, scale = (added[0], added[1]) if updates else (added[1], added[0])
    own = base + norm(layout) * (1 + scale) + shift
    streams = of_image(block.attn, normed, None, more), of_text(block.attn, own, None, more)
    s_x, s_e = joint(block.attn.heads, *streams)
    if updates:
        seen = linear(block.attn.to_add_out, s_e) + more("to_add_out", s_e)
        both = [a + b for a, b in zip(gates, added[2:], strict=True)]
        layout = after(
            block.ff_context, layout, seen, both, lambda x: terms(branch.ff[1], gelu(terms(branch.ff[0], x)))
        )
    return terms(branch.out, linear(block.attn.to_out[0], s_x) + more("to_out.0", s_x)), layout


def single(
    block: Any, branch: Any, variant: str, image: Tensor, text: Tensor, layout: Tensor, temb: Tensor, tables: Tables
) -> tuple[Tensor, Tensor, Tensor]:
    """(image, text, layout) after a block with one stream."""
    both = torch.cat((text, image), dim=1)
    assert tables.text is not None and tables.image is not None and tables.layout is not None
    table = tuple(torch.cat(pair) for pair in zip(tables.text, tables.image, strict=True))
    shift, scale, gate = modulation(block.norm.linear, temb, 3)
    normed, attn = norm(both) * (1 + scale) + shift, block.attn
    streams = [of_image(attn, normed, (table[0], table[1]))]
    added: Any = 0
    if variant == "m3":
        e_shift, e_scale, e_gate = modulation(branch.norm.linear, temb, 3)
        own = norm(layout) * (1 + e_scale) + e_shift
        streams.append(Stream(x=own, project=lambda n, x: linear(branch.linear[f"to_{n}"], x), norms=streams[0].norms,
                              table=tables.layout))  # fmt: skip
        seen, s_e = joint(attn.heads, *streams)
        layout = layout + e_gate * linear(branch.proj_out, torch.cat((s_e, gelu(linear(branch.proj_mlp, own))), dim=2))
    else:
        (seen,) = joint(attn.heads, *streams)
        if variant == "adapter":
            added, layout = beside(block, branch, variant, normed[:, text.shape[1] :], layout, temb, tables)
        else:
            tokens = torch.cat((layout, image), dim=1)
            e_shift, e_scale, e_gate = modulation(branch.norm.linear, temb, 3)
            own = norm(tokens) * (1 + e_scale) + e_shift
            parts = tuple(torch.cat(pair) for pair in zip(tables.layout, tables.image, strict=True))
            (s,) = joint(attn.heads, of_image(branch.attn, own, (parts[0], parts[1])))
            out = e_gate * linear(branch.proj_out, torch.cat((s, gelu(linear(branch.proj_mlp, own))), dim=2))
            n = layout.shape[1]
            added, layout = linear(branch.out, out[:, n:]), layout + out[:, :n]
    out = both + gate * linear(block.proj_out, torch.cat((seen, gelu(linear(block.proj_mlp, normed))), dim=2))
    return out[:, text.shape[1] :] + added, out[:, : text.shape[1]], layout
