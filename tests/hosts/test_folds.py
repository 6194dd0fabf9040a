"""Hosts that make several attention rows of a batch row: roles, masks, weak rows and what entered, row by row."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.masks import KeyPadding, Mask, Table
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.rows import Rows
from saccade.core.site import Site, Where, at
from saccade.core.state import Memory
from saccade.families.unet_video import ANIMATEDIFF, temporal
from tests.hosts.host import Host
from tests.hosts.models.unets_video import HOSTS
from tests.hosts.stand_ins import Looking, Masked, Same, looking, rows_differ

pytestmark = pytest.mark.host
GUIDED = Rows.of("uncond", "cond")
ALL = Where(kinds=("joint", "self", "cross"))
every_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
BY_NAME = {host.name: host for host in HOSTS}


@dataclass(frozen=True)
class OfRole(Mechanism):
    """Values of the rows of one role, twice as large."""

    role: str

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        assert call.rows is not None
        rows = list(call.rows.where(self.role))  # type: ignore[arg-type]
        return call.replace(v=call.v.index_put((torch.tensor(rows),), 2 * call.v[rows]))


@dataclass(frozen=True)
class On(Looking):
    """A mechanism at temporal sites alone, or at all others."""

    through_time: bool = False

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.mechanism,) if temporal(site) is self.through_time else ()


@cache
def built(name: str) -> tuple[Any, dict[str, Any], Tensor]:
    """A host with what it gives by itself."""
    model, inputs = BY_NAME[name].build()
    return model, inputs, output(model, inputs)


@torch.no_grad()
def output(model: Any, inputs: dict[str, Any]) -> Tensor:
    """The last tensor of a forward: the only one, or what a control net gives of its middle."""
    return tree_leaves(model(**inputs))[-1]


def of_batch(out: Tensor) -> Tensor:
    """Frames put back into the two batch rows."""
    return out.unflatten(0, (2, -1)) if len(out) != 2 else out


@every_host
@pytest.mark.parametrize("through_time", [False, True])
def test_a_system_of_one_role_touches_exactly_its_rows(host: Host, through_time: bool) -> None:
    model, inputs, before = built(host.name)
    for role, wanted in (("cond", [False, True]), ("uncond", [True, False])):
        with attach(model, On(OfRole(role), through_time=through_time), rows=GUIDED):
            assert rows_differ(of_batch(output(model, inputs)), of_batch(before)) == wanted


@every_host
def test_rows_are_those_whose_input_they_hold(host: Host) -> None:
    """What differs at the door in the conditional row differs in its attention rows, wherever they stand."""
    model, inputs, _ = built(host.name)
    entered: list[dict[str, tuple[Rows, Tensor]]] = []

    def look(call: AttentionCall) -> None:
        assert call.rows is not None and call.rows.n == len(call.host.hidden) == len(call.q)
        entered[-1][call.site.name] = call.rows, call.host.hidden

    main = {"latte": "hidden_states", "sparse_control": "controlnet_cond"}.get(host.name, "sample")
    more = torch.stack((torch.zeros_like(inputs[main][0]), torch.randn_like(inputs[main][0])))
    with attach(model, looking(look, "host.hidden"), rows=GUIDED, where=ALL):
        for given in (inputs[main], inputs[main] + more):
            entered.append({})
            output(model, {**inputs, main: given})
    one, two = entered
    for name, (rows, hidden) in one.items():
        moved = torch.tensor(rows_differ(hidden, two[name][1])).nonzero().flatten().tolist()
        assert set(moved) <= set(rows.where("cond")), name
        assert moved or name.startswith("image_latents"), name


def test_chosen_heads_of_one_role_are_touched_alone() -> None:
    model, inputs, before = built("animatediff")
    kept: dict[str, Tensor] = {}

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept["out"] = args[0]

    name = "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1"
    hook = model.get_submodule(f"{name}.to_out.0").register_forward_pre_hook(keep, with_kwargs=True)
    try:
        output(model, inputs)
        plain = kept["out"].unflatten(-1, (2, -1))  # (b h w) f heads d
        with attach(model, Looking(OfRole("cond")), rows=GUIDED, where=at(name, heads=(1,))):
            assert rows_differ(output(model, inputs), before) == [False, True]
    finally:
        hook.remove()
    moved = (kept["out"].unflatten(-1, (2, -1)) - plain).abs().amax((1, 3)) > 1e-6
    assert not moved[:32].any() and not moved[32:, 0].any() and moved[32:, 1].all()


def test_folded_rows_pair_by_their_place() -> None:
    rows = Rows.of("source", "target", samples=2).folded(3)
    assert rows.pairs() == tuple((6 + i, i) for i in range(6))
    assert rows.samples == (0, 0, 0, 1, 1, 1) * 2 and rows.folds == (0, 1, 2) * 4
    assert Rows.of("cond").folded(1) == Rows.of("cond")
    with pytest.raises(ValueError, match="1 folds and 2 roles"):
        replace(GUIDED, folds=(0,))
    assert Rows.of("source", "target").under("uncond", "cond").folded(2).where("cond") == (4, 5, 6, 7)


def _masks(n: int) -> tuple[Mask, Mask, Mask]:
    """A mask for each of two batch rows, and the one of the batch, once as padding and once as verdicts."""
    keep = torch.ones(2, n, dtype=torch.bool)
    keep[0, 0] = keep[1, 2:] = False
    return KeyPadding(keep[:1]), KeyPadding(keep[1:]), KeyPadding(keep)


@pytest.mark.parametrize("verdicts", [False, True])
@pytest.mark.parametrize("name", ["down_blocks.0.attentions.0*attn1", "down_blocks.0.motion_modules.0*attn1"])
def test_a_mask_for_each_batch_row_holds_in_all_it_becomes(name: str, verdicts: bool) -> None:
    model, inputs, _ = built("animatediff")
    masks = _masks(4 if "motion" in name else 32)
    if verdicts:
        labels = torch.arange(masks[2].keep.shape[1])  # type: ignore[attr-defined]
        masks = tuple(Table(labels * 0, labels, mask.keep[:, None, None]) for mask in masks)  # type: ignore[attr-defined]
    found: list[Tensor] = []
    for mask in masks:
        with attach(model, Masked(mask), where=at(name)):
            found.append(output(model, inputs))
    torch.testing.assert_close(found[2][0], found[0][0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[2][1], found[1][1], rtol=1e-4, atol=1e-5)
    assert rows_differ(found[0], found[1]) == [True, True]


@dataclass(frozen=True)
class Weak(Looking):
    """Steers away from rows whose values are twice as large."""

    def weak_weight(self, clock: Clock) -> float:
        return 0.5


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - {"sparse_control"}))  # which predicts nothing
def test_weak_rows_bring_their_frames(name: str) -> None:
    """What is steered away from is what the conditional row gives when it is changed itself."""
    model, inputs, before = built(name)
    with attach(model, Weak(OfRole("weak")), rows=GUIDED):
        steered = output(model, inputs)
    with attach(model, Looking(OfRole("cond")), rows=GUIDED):
        difference = before[1] - output(model, inputs)[1]
    torch.testing.assert_close(steered, before + 0.5 * difference, rtol=1e-3, atol=1e-4)
    assert difference.abs().max() > 1e-4


def test_rows_of_which_a_family_says_nothing_are_an_error() -> None:
    model, inputs, _ = built("animatediff")
    silent = replace(ANIMATEDIFF, fold=lambda model, inputs, site: 1)
    with attach(model, Same(), family=silent, rows=GUIDED), pytest.raises(ValueError, match="8 attention rows"):
        output(model, inputs)


def test_frames_of_freenoise_come_in_windows() -> None:
    from diffusers.models.attention import FreeNoiseTransformerBlock

    model, inputs = BY_NAME["animatediff"].build()
    motion = model.down_blocks[0].motion_modules[0]
    old = motion.transformer_blocks[0]
    new = FreeNoiseTransformerBlock(
        dim=16, num_attention_heads=2, attention_head_dim=8, double_self_attention=True, context_length=2,
        context_stride=1, positional_embeddings="sinusoidal", num_positional_embeddings=8,
    )  # fmt: skip
    new.load_state_dict(old.state_dict())
    motion.transformer_blocks[0] = new.eval()
    before, grids = output(model, inputs), []
    with attach(model, looking(lambda call: grids.append(call.layout_q.describe())), where=at("*0.motion_modules.0*")):
        torch.testing.assert_close(output(model, inputs), before, rtol=1e-4, atol=1e-5)
    assert grids[0] == "image 2 (2x1x1)" and grids[-1] == "image 4 (4x1x1)"
