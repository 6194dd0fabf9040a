"""Named sets on every host: what acts where, what begins as nothing, what gets gradients, and how many there are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.papers.dreamrelation import DreamRelation, RelationLora, RelationSwitch
from saccade.papers.dreamrelation.placement import OUTPUT
from tests.papers.dreamrelation.tiny import ALL, HOSTS, build, learned, run

pytestmark = pytest.mark.host
ACTIVE = ((), ("relation",), ("subject1",), ("subject2", "relation"), ALL)


def plainly(model: nn.Module, sets: RelationLora, active: tuple[str, ...]) -> None:
    """W += alpha / r B A, in place, of the active sets and the output's."""
    for name in (*active, OUTPUT):
        low = sets.low(name)
        for site, path in low.names:
            down, up = low.at((site, path))
            with torch.no_grad():
                model.get_submodule(f"{site}.{path}").weight += sets.alpha / sets.rank * up @ down


@pytest.mark.parametrize("name", HOSTS)
def test_fresh_sets_leave_the_output_as_it_is_for_any_active_set(name: str) -> None:
    model, inputs = build(name)
    before, switch = run(model, inputs), RelationSwitch(learned=learned(model, zero=True))
    with attach(model, switch):
        for active in ACTIVE:
            with switch.using(*active):
                assert torch.equal(run(model, inputs), before)
    assert torch.equal(run(model, inputs), before)


@pytest.mark.parametrize("name", HOSTS)
def test_active_sets_act_as_terms_in_the_weights_do(name: str) -> None:
    model, inputs = build(name)
    sets, base = learned(model), {k: v.clone() for k, v in model.state_dict().items()}
    found = {}
    for active in ACTIVE:
        with attach(model, DreamRelation(learned=sets, active=active)):
            found[active] = run(model, inputs)
    for active, out in found.items():
        model.load_state_dict(base)
        plainly(model, sets, active)
        torch.testing.assert_close(out, run(model, inputs), atol=2e-5, rtol=2e-5)
    assert all((found[a] - found[b]).abs().max() > 1e-4 for a in ACTIVE for b in ACTIVE if a != b)


@pytest.mark.parametrize(("active", "moved"), [(("relation",), "qk"), (("subject1",), "v"), (("subject2",), "v")])
def test_each_set_moves_its_own_projections_alone(active: tuple[str, ...], moved: str) -> None:
    model, inputs = build("mochi")
    switch, seen = RelationSwitch(learned=learned(model)), dict[str, Tensor]()
    attention = model.transformer_blocks[0].attn1
    paths = {"to_q": "q", "add_q_proj": "q", "to_k": "k", "add_k_proj": "k", "to_v": "v", "add_v_proj": "v"}
    with attach(model, switch):
        with switch.using(*ALL):  # hooks of terms stand from then on, before ours
            run(model, inputs)
        for path in paths:
            attention.get_submodule(path).register_forward_hook(
                lambda _, __, out, path=path: seen.__setitem__(path, out.clone())
            )
        run(model, inputs)
        before = dict(seen)
        with switch.using(*active):
            run(model, inputs)
    for path, letter in paths.items():
        assert torch.equal(seen[path], before[path]) is (letter not in moved)


def test_inactive_sets_get_no_gradient_at_all() -> None:
    model, inputs = build("mochi")
    sets = learned(model.requires_grad_(False))
    switch = RelationSwitch(learned=sets)
    with attach(model, switch), switch.using("subject1"):
        model(**inputs)[0].square().sum().backward()
    for name in sets.sets:
        grads = [p.grad for p in sets.low(name).parameters()]
        active = name in ("subject1", OUTPUT)
        assert all((g is not None and g.abs().max() > 0) if active else g is None for g in grads), name


def test_gradients_are_those_of_terms_in_the_weights() -> None:
    model, inputs = build("wan")
    sets = learned(model.requires_grad_(False))
    switch = RelationSwitch(learned=sets)
    with attach(model, switch), switch.using(*ALL):
        model(**inputs)[0].square().sum().backward()
    down = sets.low("relation").at(("blocks.0.attn1", "to_q"))
    found = [p.grad for p in down]
    terms = [p.detach().clone().requires_grad_() for p in down]
    with torch.no_grad():
        plainly(model, sets, ALL)
        linear = model.blocks[0].attn1.to_q
        rest = linear.weight - sets.alpha / sets.rank * down.up @ down.down
    weight = rest + sets.alpha / sets.rank * terms[1] @ terms[0]
    out = torch.func.functional_call(model, {"blocks.0.attn1.to_q.weight": weight}, kwargs=inputs)[0]
    for ours, theirs in zip(found, torch.autograd.grad(out.square().sum(), terms), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_checkpointing_leaves_gradients_as_they_are(alpha: float | None) -> None:
    model, inputs = build("wan")
    sets = learned(model.requires_grad_(False), alpha=alpha)
    switch, grads = RelationSwitch(learned=sets), []
    for _ in range(2):
        sets.zero_grad()
        with attach(model, switch):
            with switch.using("relation"):
                loss = model(**inputs)[0].square().sum()
            loss.backward()  # parts run again under the sets of their forward
        grads.append([p.grad.clone() for p in sets.low("relation").parameters() if p.grad is not None])
        model.enable_gradient_checkpointing()
    assert len(grads[0]) == len(list(sets.low("relation").parameters()))
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_float32_sets_are_trained_beside_a_bfloat16_host() -> None:
    model, inputs = build("wan")
    sets = learned(model.requires_grad_(False).to(torch.bfloat16))
    inputs = {k: v.to(torch.bfloat16) if torch.is_tensor(v) and v.is_floating_point() else v for k, v in inputs.items()}
    with attach(model, RelationSwitch(learned=sets, active=ALL)):
        out = model(**inputs)[0]
        out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 and p.grad is not None and p.grad.dtype == p.dtype for p in sets.parameters())


def test_the_active_set_may_change_from_call_to_call() -> None:
    model, inputs = build("wan")
    switch = RelationSwitch(learned=learned(model))
    with attach(model, switch):
        outs = []
        for active in (("relation",), ("subject1",), ("relation",)):
            with switch.using(*active):
                outs.append(run(model, inputs))
    assert torch.equal(outs[0], outs[2]) and not torch.equal(outs[0], outs[1]) and switch.active == ()


def test_fresh_a_is_uniform_and_b_zero() -> None:
    model, _ = build("mochi")
    low = learned(model, zero=True, rank=4).low("relation")
    for name in low.names:
        down, up = low.at(name)
        bound = down.shape[1] ** -0.5
        assert down.abs().max() <= bound and down.std() > 0.3 * bound and not up.any()


def mochi() -> Any:
    from diffusers import MochiTransformer3DModel

    with torch.device("meta"):
        return MochiTransformer3DModel()


def test_the_published_count_for_mochi() -> None:
    model = mochi()
    with torch.device("meta"):
        sets = RelationLora.fresh(model)
    assert sum(p.numel() for p in sets.parameters() if p.requires_grad) == 41_213_952
    for layer, count in ((0, 860_160), (46, 860_160), (47, 786_432)):
        own = f"/transformer_blocks/{layer}/attn1/".replace("/transformer", ".transformer", 1)
        assert sum(p.numel() for name, p in sets.named_parameters() if own in name) == count


@pytest.mark.parametrize(("relation", "subject", "output"), [("v", "qk", True), ("q", "kv", True), ("qkv", "", False)])
def test_other_placements_stand_where_they_say(relation: str, subject: str, output: bool) -> None:
    model, _ = build("cogvideox")
    sets = learned(model, relation=relation, subject=subject, output=output)
    stands = {name: {path for _, path in sets.low(name).names} for name in sets.sets}
    assert stands["relation"] == {f"to_{letter}" for letter in relation}
    assert sets.names == (ALL if subject else ("relation",)) and (OUTPUT in stands) is output
    if subject:
        assert stands["subject1"] == stands["subject2"] == {f"to_{letter}" for letter in subject}
