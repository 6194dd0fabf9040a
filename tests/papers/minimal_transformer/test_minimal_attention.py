"""Kinds of minimal attention: plain rewrites, the laws of their scores, and what they refuse."""

from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from saccade.models import CausalLM, DiT, ViT
from saccade.nn.attention import SelfAttention
from saccade.nn.part import TokenPositions
from saccade.papers import MinimalAttention
from saccade.papers.minimal_transformer.minimal_attention import Kind
from saccade.papers.minimal_transformer.similarities import Triangle

KINDS = get_args(Kind)
SYMMETRIC = tuple(kind for kind in KINDS if kind.startswith("symmetric"))
WIDTH, TOKENS, PLACE = 6, 5, TokenPositions()
X = torch.randn(2, TOKENS, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def made(kind: str, heads: int = 1, *, bias: bool = True, seed: int = 0) -> Any:
    attention = MinimalAttention(WIDTH, heads, kind=kind, bias=bias).double()  # type: ignore[arg-type]
    noise = torch.Generator().manual_seed(seed)
    for weight in attention.parameters():
        weight.data = 0.7 * torch.randn(weight.shape, dtype=weight.dtype, generator=noise)
    return attention


def lower(triangle: Any, head: int) -> torch.Tensor:
    numbers, size = iter(triangle.weight[head]), triangle.size
    return torch.stack([torch.stack([next(numbers) if j <= i else X.new_zeros(()) for j in range(size)])
                        for i in range(size)])  # fmt: skip


def score(attention: Any, head: int, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
    """Of two tokens, one head."""
    parts, size = attention.similarity, WIDTH // attention.heads
    cut = slice(head * size, (head + 1) * size)

    def through(layer: nn.Linear, token: torch.Tensor) -> torch.Tensor:
        return layer.weight @ token + (0 if layer.bias is None else layer.bias)

    match attention.kind:
        case "unchanged":
            return through(parts.query, i)[cut] @ through(parts.key, j)[cut] / size**0.5
        case "symmetric/shared":
            return through(parts.query, i)[cut] @ through(parts.query, j)[cut] / size**0.5
        case "symmetric/mirror":
            whole = lower(parts.triangle, head)
            return i @ (whole + whole.T - whole.diag().diag()) @ j / WIDTH**0.5
        case "symmetric/cholesky":
            return i @ lower(parts.triangle, head) @ lower(parts.triangle, head).T @ j / WIDTH**0.5
        case "symmetric/cholesky_slice":
            return i[cut] @ lower(parts.triangle, head) @ lower(parts.triangle, head).T @ j[cut] / size**0.5
    return through(parts.query, i)[head * WIDTH : (head + 1) * WIDTH] @ j / WIDTH**0.5


def by_loops(attention: Any, x: torch.Tensor) -> torch.Tensor:
    """Attention token by token, for one sequence."""
    value = attention.value(x).chunk(attention.heads, dim=-1)
    rows = []
    for i in x:
        heads = []
        for head in range(attention.heads):
            weights = torch.stack([score(attention, head, i, j) for j in x]).softmax(0)
            heads.append(sum(weight * v for weight, v in zip(weights, value[head], strict=True)))
        rows.append(attention.out(torch.cat(heads)))  # type: ignore[arg-type]
    return torch.stack(rows)


@pytest.mark.parametrize(("kind", "heads"), [*((k, 1) for k in KINDS), *((k, 2) for k in ("unchanged", *SYMMETRIC))])
def test_equals_a_plain_rewrite(kind: str, heads: int) -> None:
    attention = made(kind, heads)
    torch.testing.assert_close(attention(X, PLACE).out, torch.stack([by_loops(attention, x) for x in X]))
    wanted = torch.stack([torch.stack([score(attention, 0, i, j) for j in X[0]]) for i in X[0]])
    torch.testing.assert_close(attention.scores(X)[0, 0], wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    attention = made(kind)
    assert torch.autograd.gradcheck(lambda x: attention(x, PLACE).out, (X[:1, :3].clone().requires_grad_(),))
    attention(X, PLACE).out.square().sum().backward()
    dead = [name for name, weight in attention.named_parameters() if weight.grad is None]
    assert not dead


@pytest.mark.parametrize(("kind", "heads"), [*((k, 1) for k in KINDS), *((k, 3) for k in ("unchanged", *SYMMETRIC))])
@pytest.mark.parametrize("bias", [True, False])
def test_matrix_and_bias_say_the_scores_up_to_what_softmax_does_not_see(kind: str, heads: int, bias: bool) -> None:
    attention = made(kind, heads, bias=bias)
    matrix, added = attention.similarity.matrix(), attention.similarity.token_bias()
    found = (X[:, None] @ matrix @ X[:, None].mT + (added @ X.mT)[:, :, None]) / WIDTH**0.5
    assert matrix.shape == (heads, WIDTH, WIDTH) and added.shape == (heads, WIDTH)
    torch.testing.assert_close(found.softmax(-1), attention.scores(X).softmax(-1))
    if not bias or kind[10:] in ("mirror", "cholesky", "cholesky_slice"):
        torch.testing.assert_close(found, attention.scores(X))


@given(kind=st.sampled_from(SYMMETRIC), heads=st.sampled_from((1, 2, 3)), seed=st.integers(0, 99))
def test_symmetric_kinds_have_symmetric_scores(kind: str, heads: int, seed: int) -> None:
    scores = made(kind, heads, seed=seed).scores(X)
    torch.testing.assert_close(scores, scores.mT)
    if kind != "symmetric/mirror":  # Cauchy-Schwarz
        own = scores.diagonal(dim1=-2, dim2=-1)
        assert (own >= 0).all()
        assert (scores**2 <= own[..., None] * own[..., None, :] * (1 + 1e-9) + 1e-12).all()


def test_a_mirrored_triangle_is_of_either_sign_and_softmax_is_not_symmetric() -> None:
    scores = made("symmetric/mirror").scores(X)
    assert (scores.diagonal(dim1=-2, dim2=-1) < 0).any()
    assert not torch.allclose(scores.softmax(-1), scores.softmax(-1).mT)
    assert not torch.allclose(made("wqk").scores(X), made("wqk").scores(X).mT)


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 30))
def test_without_values_and_projection_outputs_are_convex_combinations(seed: int, scale: float) -> None:
    attention = made("wqk_novo", seed=seed)
    out, weights = attention(scale * X, PLACE).out, attention.scores(scale * X).softmax(-1)[:, 0]
    slack = 1e-9 * scale
    assert (out >= scale * X.amin(1, keepdim=True) - slack).all()
    assert (out <= scale * X.amax(1, keepdim=True) + slack).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, TOKENS, dtype=torch.float64))
    torch.testing.assert_close(weights @ (scale * X), out)
    constant = X[:, :1].expand_as(X)
    torch.testing.assert_close(attention(constant, PLACE).out, constant)


@given(kind=st.sampled_from(KINDS), order=st.permutations(range(TOKENS)))
def test_permutations_of_tokens_pass_through(kind: str, order: list[int]) -> None:
    attention = made(kind)
    torch.testing.assert_close(attention(X[:, order], PLACE).out, attention(X, PLACE).out[:, order])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_not_linear_but_is_for_fixed_weights(kind: str) -> None:
    attention, y = made(kind, bias=False), X.flip(0)
    assert not torch.allclose(attention(X + y, PLACE).out, attention(X, PLACE).out + attention(y, PLACE).out)
    weights = attention.scores(X).softmax(-1)[:, 0]

    def fixed(z: torch.Tensor) -> torch.Tensor:
        return attention.out(weights @ attention.value(z))

    torch.testing.assert_close(fixed(X), attention(X, PLACE).out)
    torch.testing.assert_close(fixed(X + 2 * y), fixed(X) + 2 * fixed(y))


COUNTS = {  # of N^2, one head
    "unchanged": 4, "wqk": 3, "wqk_vo": 2, "wqk_novo": 1, "symmetric/shared": 3,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_by_formula(kind: str) -> None:
    n = 32
    with torch.device("meta"):
        found = sum(w.numel() for w in MinimalAttention(n, 1, kind=kind, bias=False).parameters())
    assert found == (COUNTS[kind] * n**2 if kind in COUNTS else 2 * n**2 + n * (n + 1) // 2)
    names = {name.split(".")[0] for name, _ in MinimalAttention(n, 1, kind=kind).named_parameters()}  # type: ignore[arg-type]
    assert names == {"similarity"} | {"value", "out"} - ({"value"} if kind[-2:] == "vo" else set()) - (
        {"out"} if kind == "wqk_novo" else set()
    )


def test_unchanged_is_plain_attention() -> None:
    plain, attention = SelfAttention(WIDTH, 2).double(), made("unchanged", 2)
    layers = attention.similarity.query, attention.similarity.key, attention.value
    plain.qkv.weight.data = torch.cat([layer.weight for layer in layers]).detach()
    plain.qkv.bias.data = torch.cat([layer.bias for layer in layers]).detach()
    plain.out.load_state_dict(attention.out.state_dict())
    keep = torch.arange(TOKENS).expand(2, -1) < 4
    for place in (PLACE, TokenPositions(causal=True), TokenPositions(keep=keep)):
        torch.testing.assert_close(attention(X, place).out, plain(X, place).out)


@pytest.mark.parametrize("kind", KINDS)
def test_causal_padded_and_packed_sequences(kind: str) -> None:
    attention = made(kind)
    causal = TokenPositions(causal=True)
    torch.testing.assert_close(attention(X, causal).out[:, :3], attention(X[:, :3], causal).out)
    keep = torch.arange(TOKENS).expand(2, -1) < 3
    torch.testing.assert_close(attention(X, TokenPositions(keep=keep)).out[:, :3], attention(X[:, :3], PLACE).out)
    packed = attention(X[:1], TokenPositions(lengths=(2, 3))).out
    torch.testing.assert_close(packed, torch.cat([attention(x, PLACE).out for x in X[:1].split((2, 3), 1)], 1))


@pytest.mark.parametrize("kind", ["symmetric/shared", "symmetric/mirror", "wqk_novo"])
def test_a_language_model_goes_on_from_what_it_kept(kind: str) -> None:
    parts = {"mixer": f"minimal(kind='{kind}')", "ffn": "none"}
    model = CausalLM(vocabulary=7, depth=2, width=8, heads=1, **parts).double().eval()  # type: ignore[arg-type]
    text, memories = torch.arange(6)[None] % 7, model.fresh_memories()
    pieces = [model(piece, memories).out for piece in text.split((3, 1, 2), dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(text).out)


def test_triangles_start_with_scores_of_order_one() -> None:
    torch.manual_seed(0)
    attention = MinimalAttention(64, 1, kind="symmetric/cholesky")
    x = torch.randn(4, 16, 64)
    assert 2 < attention.scores(x).diagonal(dim1=-2, dim2=-1).mean() < 6
    attention.similarity.triangle.weight.data.normal_()
    assert attention.scores(x).diagonal(dim1=-2, dim2=-1).mean() > 100  # the replication's start
    attention.reset()
    assert attention.scores(x).diagonal(dim1=-2, dim2=-1).mean() < 6
    assert Triangle(2, 3)().shape == (2, 3, 3) and not Triangle(2, 3)().triu(1).any()


@pytest.mark.parametrize("kind", ["symmetric/shared", "wqk_novo"])
def test_it_stands_in_models_of_the_kit(kind: str) -> None:
    heads = 1 if kind == "wqk_novo" else 2
    parts = {"mixer": f"minimal(kind='{kind}', heads={heads})", "ffn": "none"}
    sizes: Any = {"depth": 1, "width": 8, "heads": 2, "side": 8, "patch": 4, **parts}
    assert ViT(**sizes)(torch.randn(2, 3, 8, 8)).out.shape == (2, 10)
    out = DiT(**sizes, channels=3, learned_variance=False)(
        torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([1, 2])
    ).out
    assert out.shape == (2, 3, 8, 8)


@pytest.mark.bad_input
def test_bad_input() -> None:
    with pytest.raises(ValueError, match="kind='qk' is unknown; choose one of unchanged, wqk,"):
        MinimalAttention(8, 1, kind="qk")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="width=8 must be a multiple of heads=3"):
        MinimalAttention(8, 3)
    with pytest.raises(ValueError, match="heads=2 stores 2 matrices of width.2 in place of two; take heads=1"):
        MinimalAttention(8, 2, kind="wqk")
    for kind in ("wqk_novo", "wqk_vo"):
        with pytest.raises(ValueError, match=f"kind='{kind}' with heads=2: .* outputs of heads are not joined"):
            MinimalAttention(8, 2, kind=kind, allow_multihead=True)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="heads=4 stores 4 matrices"):
        attention = MinimalAttention(8, 4, kind="wqk", allow_multihead=True)
    assert attention(torch.randn(1, 3, 8), PLACE).out.shape == (1, 3, 8)
