"""What backward runs again, it runs under the plans of the forward it belongs to."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from saccade.attach import Run, attach
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.site import at
from tests.hosts.stand_ins import Kept, Looking, Masked, Near, Scaled
from tests.hosts.tiny import BY_NAME, PLAIN, PlainAttention

pytestmark = pytest.mark.host
both_modes = pytest.mark.parametrize("reentrant", [False, True], ids=["saved", "reentrant"])


def sd3() -> Any:
    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=8,
    ).train()  # fmt: skip


def draw(model: Any, height: int = 4, width: int = 8, step: float = 500.0) -> Tensor:
    given = torch.Generator().manual_seed(height)
    return model(
        hidden_states=torch.randn(1, 4, height, width, generator=given),
        encoder_hidden_states=torch.randn(1, 3, 32, generator=given),
        pooled_projections=torch.randn(1, 32, generator=given),
        timestep=torch.tensor([step]),
        return_dict=False,
    )[0].square().mean()  # fmt: skip


class Deep(nn.Module):
    """Blocks of attention, each checkpointed as `how` says."""

    def __init__(self, how: Callable[[nn.Module, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(16, 16)
        self.blocks, self.how = nn.ModuleList(PlainAttention(16, 2) for _ in range(2)), how

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + (self.how(block, x) if self.how else block(x))
        return x


def gradients(model: nn.Module) -> list[Tensor]:
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return found


def alike(a: list[Tensor], b: list[Tensor]) -> None:
    assert len(a) == len(b) > 0
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


@both_modes
@pytest.mark.parametrize("look", [(8, 4), (8, 8)], ids=["as-many-tokens", "more-tokens"])
def test_a_look_between_forward_and_backward_changes_no_gradient(look: tuple[int, int], reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = sd3()
        if checkpointing:
            model.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=reentrant))
        with attach(model, Masked()):
            loss = draw(model)
            with torch.no_grad():
                draw(model, *look)
            loss.backward()
        found.append(gradients(model))
    alike(*found)


@both_modes
def test_two_steps_in_one_backward_keep_their_plans(reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = sd3()
        if checkpointing:
            model.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=reentrant))
        with attach(model, Masked(), where=at(during=(0.0, 0.5)), schedule=[1000.0, 250.0]):
            (draw(model, step=1000.0) + 2 * draw(model, step=250.0)).backward()
        found.append(gradients(model))
    alike(*found)


def walk(model: Deep, x: Tensor, run: Run, steps: int = 3) -> Tensor:
    losses = []
    for step in range(steps):
        run.step(step, of=steps)
        losses.append(model(x).square().sum())
    return torch.stack(losses).sum()


def test_state_read_and_put_again_is_that_of_its_step() -> None:
    """A part that runs again reads what its step read, and puts nothing."""
    found = []
    for how in (None, partial(checkpoint, use_reentrant=False)):
        model, x = Deep(how), torch.randn(2, PLAIN.n, 16, generator=torch.Generator().manual_seed(1))
        with attach(model, Looking(Kept()), layout=PLAIN) as run:
            loss = walk(model, x, run)
            kept = {key: memory.coming["mean"] for key, memory in run.state.memories.items()}
            loss.backward()
            assert all(run.state.memories[key].coming["mean"] is value for key, value in kept.items())
        found.append(gradients(model))
    alike(*found)


def test_state_whose_gradient_reentrant_checkpointing_would_drop_is_refused() -> None:
    model, x = Deep(partial(checkpoint, use_reentrant=True)), torch.randn(2, PLAIN.n, 16)
    with attach(model, Looking(Kept()), layout=PLAIN) as run:
        with pytest.raises(StateError, match="'blocks.0' carries state over steps, .*use_reentrant=False"):
            walk(model, x, run)


def test_the_next_forward_is_planned_anew_after_a_backward() -> None:
    model, x = Deep(partial(checkpoint, use_reentrant=False)), torch.randn(2, PLAIN.n, 16)
    with attach(model, Looking(Scaled(3.0)), layout=PLAIN, where=at(during=(0.0, 0.5))) as run:
        run.step(0, of=2)
        scaled = model(x)
        run.step(1, of=2)
        model(x)
        scaled.square().sum().backward()
        with torch.no_grad():
            again = model(x)
    with torch.no_grad():
        assert torch.equal(again, model(x))


def test_feature_losses_reach_their_own_forward() -> None:
    """Backward may begin in the middle of a forward, as for losses on hidden states."""
    found = []
    for how in (None, partial(checkpoint, use_reentrant=False)):
        model, x = Deep(how), torch.randn(2, PLAIN.n, 16, generator=torch.Generator().manual_seed(1))
        caught: list[Tensor] = []
        hook = model.blocks[1].register_forward_pre_hook(lambda module, args, to=caught: to.append(args[0]))
        with attach(model, Looking(Scaled(3.0)), layout=PLAIN, where=at(during=(0.0, 0.5))) as run:
            for step in range(2):
                run.step(step, of=2)
                model(x)
            hook.remove()
            (caught[0].square().sum() + caught[1].sum()).backward()
        found.append(gradients(model))
    alike(*found)


class Core(PlainAttention):
    """Only the attention itself is checkpointed, as a function within the forward."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        core = lambda q, k, v: F.scaled_dot_product_attention(q, k, v)  # noqa: E731
        kept = checkpoint(core, q, k, v, use_reentrant=False) if self.training else core(q, k, v)
        return self.out(kept.transpose(1, 2).flatten(2))


def test_attention_checkpointed_within_its_module_keeps_its_plan() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(Core(16, 2), Core(16, 2)), torch.randn(2, PLAIN.n, 16)
    found = []
    for training in (False, True):
        model.train(training)
        with attach(model, Looking(Scaled(3.0)), layout=PLAIN):
            model(x).square().sum().backward()
        found.append(gradients(model))
    alike(*found)


@both_modes
def test_backward_after_detach_is_refused_where_it_would_run_without_the_plan(reentrant: bool) -> None:
    x = torch.randn(2, PLAIN.n, 16)
    for model, refused in ((Deep(partial(checkpoint, use_reentrant=reentrant)), True), (Deep(), False)):
        with attach(model, Masked(), layout=PLAIN) as run:
            loss = model(x).square().sum()
        if refused:
            with pytest.raises(
                StateError, match=rf"{run.name.split(' (')[0]} .*detached before backward.*call backward\(\) b"
            ):
                loss.backward()
        else:
            loss.backward()


class Whole(nn.Sequential):
    """Checkpointed as a whole, its input given by name, so that nothing of a forward is kept where it can be known."""

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda *, x: self[0](x), x=x, use_reentrant=False)


def test_a_part_whose_forward_nobody_knows_is_refused() -> None:
    model, x = Whole(PlainAttention(16, 2)), torch.randn(2, PLAIN.n, 16)
    with attach(model, Masked(), layout=PLAIN):
        loss = model(x).square().sum()
        with pytest.raises(StateError, match=r"'0' runs again in backward, .*its tensors by position"):
            loss.backward()
    with attach(model, layout=PLAIN):
        model(x).square().sum().backward()


@both_modes
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")  # of the look, without any
def test_a_language_model_checkpoints_under_the_right_plan(reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model, inputs = BY_NAME["llama"].build()
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        with attach(model, Masked(Near(3))):
            loss = model(**inputs)[0].square().mean()
            with torch.no_grad():
                model(**{k: v[:, 1:] if isinstance(v, Tensor) else v for k, v in inputs.items()})
            loss.backward()
        found.append(gradients(model))
    alike(*found)


def test_tensors_changed_in_place_are_still_noticed() -> None:
    model, x = Deep(), torch.randn(2, PLAIN.n, 16)
    with attach(model, Masked(), layout=PLAIN):
        loss = model(x).square().sum()
        with torch.no_grad():
            model.blocks[0].out.weight.add_(1.0)
        with pytest.raises(RuntimeError, match="needed for gradients was changed in place"):
            loss.backward()


def test_hooks_of_others_on_what_is_kept_still_run() -> None:
    model, x = Deep(), torch.randn(2, PLAIN.n, 16)
    found, packed = [], []

    def pack(kept: Tensor) -> Tensor:
        packed.append(kept.shape)
        return kept.clone()

    for hooked in (False, True):
        with attach(model, Masked(), layout=PLAIN):
            if hooked:
                with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
                    loss = model(x).square().sum()
            else:
                loss = model(x).square().sum()
            loss.backward()
        found.append(gradients(model))
    alike(*found)
    assert len(packed) > 4


def test_an_attachment_leaves_no_hooks_behind() -> None:
    model, x = Deep(), torch.randn(2, PLAIN.n, 16)
    with attach(model, Masked(), layout=PLAIN), pytest.raises(ValueError, match="its layout says"):
        model(x[:, :-1])
    assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None
    with attach(model, Looking(Scaled()), layout=Layout.plain(PLAIN.n)):
        model(x)
    assert torch._C._autograd._top_saved_tensors_default_hooks(False) is None
