"""The U-Net's parts against rewrites in plain sums, gradients included, and how its levels are joined."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.cross_attention import CrossAttention
from saccade.papers import DiffEye
from saccade.papers.diffeye.config import DiffEyeConfig
from saccade.papers.diffeye.stages import Down, Looking, ResidualBlock, Seen, Up
from tests.papers.diffeye import plain
from tests.papers.diffeye.plain import TINY, inputs, tiny

EXACT = {"atol": 1e-10, "rtol": 0}


def attended(part: CrossAttention, x: Tensor, source: Tensor) -> Tensor:
    """Head by head, the scores written out."""
    q, k, v = part.q(x), part.k(source), part.v(source)
    parts = []
    for q_h, k_h, v_h in zip(*(each.chunk(part.heads, dim=-1) for each in (q, k, v)), strict=True):
        scores = torch.einsum("bic,bjc->bij", q_h, k_h) / part.head_dim**0.5
        parts.append(torch.einsum("bij,bjc->bic", scores.softmax(-1), v_h))
    return part.out(torch.cat(parts, dim=-1))


def convolved(conv: nn.Conv1d, x: Tensor, stride: int = 1) -> Tensor:
    """(b l c), three taps, zeros outside."""
    padded = F.pad(x, (0, 0, 1, 1))
    taps = [padded[:, tap : tap + x.shape[1] : stride] @ conv.weight[..., tap].mT for tap in range(3)]
    return sum(taps) + conv.bias  # type: ignore[operator,return-value]


def normed(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Over time and the channels of a group."""
    groups = x.unflatten(-1, (norm.num_groups, -1))
    mean, var = groups.mean((1, 3), keepdim=True), groups.var((1, 3), correction=0, keepdim=True)
    return ((groups - mean) / (var + norm.eps).sqrt()).flatten(2) * norm.weight + norm.bias


def residual(block: ResidualBlock, x: Tensor, time: Tensor) -> Tensor:
    h = convolved(block.conv1, F.silu(normed(block.norm1, x))) + block.time(F.silu(time))[:, None]
    return block.skip(x) + convolved(block.conv2, F.silu(normed(block.norm2, h)))


def same_with_gradient(ours: Tensor, wanted: Tensor, of: Tensor) -> None:
    torch.testing.assert_close(ours, wanted, **EXACT)
    weights = torch.randn_like(ours)
    (a,), (b,) = (torch.autograd.grad((each * weights).sum(), of) for each in (ours, wanted))
    torch.testing.assert_close(a, b, **EXACT)


def test_a_residual_block_is_its_formula() -> None:
    torch.manual_seed(0)
    for into, width in ((8, 12), (12, 12)):
        block = ResidualBlock(into, width, time=6, groups=4).double()
        for norm in (block.norm1, block.norm2):
            nn.init.normal_(norm.weight)
        x, time = torch.randn(2, 5, into, dtype=torch.float64).requires_grad_(), torch.randn(2, 6, dtype=torch.float64)
        same_with_gradient(block(x, time), residual(block, x, time), x)


def test_time_is_halved_and_doubled() -> None:
    x = torch.randn(2, 6, 4, dtype=torch.float64).requires_grad_()
    down, up = Down(4).double(), Up(4).double()
    same_with_gradient(down(x), convolved(down.conv, x, stride=2), x)
    same_with_gradient(up(x), convolved(up.conv, x.repeat_interleave(2, dim=1)), x)


def test_looking_adds_the_grid_at_the_points_to_the_queries() -> None:
    torch.manual_seed(0)
    look = Looking(24, DiffEyeConfig(**TINY)).double()
    x = torch.randn(2, 8, 24, dtype=torch.float64).requires_grad_()
    points, tokens = torch.rand(2, 16, 2) * 2.4 - 1.2, torch.randn(2, 16, 16, dtype=torch.float64)
    ours = look(x, Seen(points=points, tokens=tokens, time=torch.zeros(2, 1)))
    pooled = (points[:, ::2] + points[:, 1::2]) / 2
    pixel = ((pooled + 1) / 2 * 32).floor().clamp(0, 31).long()
    placed = torch.from_numpy(plain.grid(32, 32, 24))[pixel[..., 1], pixel[..., 0]].float().double()  # as it is kept
    wanted = x + attended(look.attend, look.norm(x) + placed, tokens)
    torch.testing.assert_close(ours, wanted, atol=1e-6, rtol=0)
    weights = torch.randn_like(ours)
    (a,), (b,) = (torch.autograd.grad((each * weights).sum(), x) for each in (ours, wanted))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_whole_is_its_stages_joined_by_skips() -> None:
    model, (x, t, condition) = tiny(stages=(16, 24)), inputs()
    tokens = model.image(condition["image"]) + model.positions.tokens((4, 4))
    seen = Seen(points=x, tokens=tokens, time=model.time(t))
    h = model.enter(x) + model.numbers
    first = model.down[0](h, seen)
    second = model.down[1](model.shrink[0](first), seen)
    up = model.up[1](torch.cat((model.middle(second, seen), second), -1), seen)
    up = model.up[0](torch.cat((model.grow[0](up), first), -1), seen)
    wanted = model.leave(F.silu(normed(model.norm, up)))
    torch.testing.assert_close(model(x, t, condition).out, wanted, **EXACT)


@torch.no_grad()
def test_a_stage_is_blocks_then_time_then_the_picture() -> None:
    model, (x, t, _condition) = tiny(), inputs()
    stage = model.down[0]
    seen = Seen(points=x, tokens=torch.randn(3, 16, 16, dtype=torch.float64), time=model.time(t))
    h = torch.randn(3, 16, 16, dtype=torch.float64)
    wanted = residual(stage.blocks[0], h, seen.time)  # type: ignore[index]
    wanted = wanted + attended(stage.attend, stage.norm(wanted), stage.norm(wanted))  # type: ignore[operator,arg-type]
    torch.testing.assert_close(stage(h, seen), stage.look(wanted, seen), **EXACT)  # type: ignore[operator]


@torch.no_grad()
def test_a_global_feature_is_joined_to_every_sample() -> None:
    model = tiny(sees="global", counted=False)
    x, t, condition = inputs(sees="global")
    assert model.join is not None
    feature = model.image(condition["image"]).expand(-1, 16, -1)
    wanted = model.join(torch.cat((model.enter(x), feature), dim=-1))
    torch.testing.assert_close(model._entered(x, x, model._picture(condition["image"], None)), wanted, **EXACT)


def test_only_one_cross_attention_is_left_in_the_middle() -> None:
    def looking(model: DiffEye) -> list[str]:
        return [name for name, part in model.named_modules() if isinstance(part, Looking)]

    assert looking(tiny()) == ["down.0.look", "down.1.look", "middle.look", "up.0.look", "up.1.look"]
    assert looking(tiny(cross_at="middle")) == ["middle.look"] and looking(tiny(sees="global")) == []
