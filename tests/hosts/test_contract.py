"""What `attach` promises of every host."""

import copy
import sys
import threading
from typing import Any

import pytest
import torch
from torch import nn

from saccade.attach import Run, attach
from saccade.core.errors import SaccadeError
from saccade.core.site import at
from tests.hosts.stand_ins import Kept, Looking, Masked, Nothing, Same, Scaled, fails, looking
from tests.hosts.tiny import BY_NAME, DIFFUSERS, HOSTS, Host, attach_options, output

pytestmark = pytest.mark.host
every_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)


def traces(model: nn.Module) -> dict[str, Any]:
    """Everything an attachment could leave behind on a model, except outputs."""
    return {
        "repr": repr(model),
        "keys": list(model.state_dict()),
        "hooks": [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "processors": [id(getattr(m, "processor", None)) for m in model.modules()],
        "classes": [type(getattr(m, "processor", None)) for m in model.modules()],
        "shadows": [name for name in sys.modules if name.startswith("saccade_shadow")],
    }


def number(run: Run) -> str:
    """`run 3`, without the systems in brackets."""
    return run.name.split(" (")[0]


@every_host
def test_an_empty_stack_is_bitwise_the_host(host: Host) -> None:
    model, inputs = host.build()
    before = output(model, inputs)
    with attach(model, **attach_options(host)) as run:
        assert run.sites
        assert torch.equal(output(model, inputs), before)


@every_host
@pytest.mark.parametrize("neutral", ["nothing", "open"])
def test_neutral_settings_are_bitwise_the_host(host: Host, neutral: str) -> None:
    model, inputs = host.build()
    before = output(model, inputs)
    with attach(model, Nothing() if neutral == "nothing" else Masked(host.open), **attach_options(host)):
        assert torch.equal(output(model, inputs), before)


@every_host
def test_running_a_site_through_saccade_agrees_with_the_host(host: Host) -> None:
    model, inputs = host.build()
    before = output(model, inputs)
    with attach(model, Same(), **attach_options(host)) as run:
        torch.testing.assert_close(output(model, inputs), before, rtol=1e-4, atol=1e-5)
    assert {site.calls for site in run.report().sites if not site.note} == {1}


@every_host
def test_an_edit_takes_effect_at_every_site(host: Host) -> None:
    model, inputs = host.build()
    before = output(model, inputs)
    with attach(model, **attach_options(host)) as run:
        names = [site.name for site in run.sites]
    for name in names:
        with attach(model, Looking(Scaled(factor=4.0)), where=at(name), **attach_options(host)):
            assert (output(model, inputs) - before).abs().max() > 1e-6, name


@every_host
def test_detach_leaves_no_trace(host: Host) -> None:
    model, inputs = host.build()
    before, clean = output(model, inputs), traces(model)
    run = attach(model, Masked(host.window), looking(lambda call: None), **attach_options(host))
    attached = output(model, inputs)
    assert repr(model) == clean["repr"] and list(model.state_dict()) == clean["keys"]
    run.detach()
    assert traces(model) == clean
    assert torch.equal(output(model, inputs), before)
    assert not torch.equal(attached, before)
    run.detach()


@every_host
def test_an_exception_inside_a_call_leaves_nothing_behind(host: Host) -> None:
    model, inputs = host.build()
    before, clean = output(model, inputs), traces(model)
    with pytest.raises(ZeroDivisionError, match="inside a call"):
        with attach(model, looking(fails), **attach_options(host)) as run:
            output(model, inputs)
    assert traces(model) == clean
    assert not run.state.memories or all(not m.now and not m.coming for m in run.state.memories.values())
    assert torch.equal(output(model, inputs), before)


@every_host
def test_an_exception_outside_a_with_block_keeps_the_run_usable(host: Host) -> None:
    model, inputs = host.build()
    broken = [True]
    run = attach(model, looking(lambda call: fails(call) if broken[0] else None), **attach_options(host))
    with pytest.raises(ZeroDivisionError):
        output(model, inputs)
    broken[0] = False
    output(model, inputs)
    run.detach()


@every_host
def test_two_models_attached_at_once_do_not_see_each_other(host: Host) -> None:
    (one, inputs), (two, _) = host.build(), host.build()
    plain = output(one, inputs)
    with attach(one, Masked(host.window), **attach_options(host)):
        alone = output(one, inputs)
        with attach(two, Looking(Scaled(factor=4.0)), **attach_options(host)):
            assert torch.equal(output(one, inputs), alone)
            scaled = output(two, inputs)
        assert torch.equal(output(one, inputs), alone)
    with attach(two, Looking(Scaled(factor=4.0)), **attach_options(host)):
        assert torch.equal(output(two, inputs), scaled)
    assert torch.equal(output(two, inputs), plain)


@every_host
def test_attaching_twice_is_refused_with_the_mend(host: Host) -> None:
    model, inputs = host.build()
    with attach(model, Masked(host.window), **attach_options(host)) as first:
        inside = output(model, inputs)
        said = rf"attached already by {number(first)}.*pass both systems to one attach"
        with pytest.raises(SaccadeError, match=said):
            attach(model, Same(), **attach_options(host))
        assert torch.equal(output(model, inputs), inside)


@every_host
def test_two_models_in_two_threads_are_safe(host: Host) -> None:
    models = [host.build(seed) for seed in (0, 1)]
    runs = [attach(model, Masked(host.window), **attach_options(host)) for model, _ in models]
    wanted = [output(model, inputs) for model, inputs in models]
    found: list[Any] = [None, None]

    def work(i: int) -> None:
        found[i] = all(torch.equal(output(*models[i]), wanted[i]) for _ in range(3))

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True, True]
    for run in runs:
        run.detach()


@pytest.mark.parametrize("host", DIFFUSERS, ids=lambda host: host.name)
def test_cross_attention_is_untouched_unless_asked(host: Host) -> None:
    model, inputs = host.build()
    with attach(model, Same()) as run:
        assert {site.kind for site in run.sites} <= {"joint", "self"}
        crossing = [s.name for s in run.report().sites if s.note and "where" in s.note]
    kinds = {"hunyuan_dit", "pixart", "wan"}
    assert bool(crossing) == (host.name in kinds)
    if crossing:
        with attach(model, Looking(Scaled(factor=4.0)), where=at(kind="cross")) as run:
            assert [site.name for site in run.sites] == crossing
            output(model, inputs)


def test_gradients_flow_through_an_attached_model() -> None:
    model, inputs = BY_NAME["flux"].build()
    inputs["hidden_states"].requires_grad_()
    (model(**inputs)[0] ** 2).sum().backward()
    plain = inputs["hidden_states"].grad.clone()
    inputs["hidden_states"].grad = None
    with attach(model, Same()):
        (model(**inputs)[0] ** 2).sum().backward()
    torch.testing.assert_close(inputs["hidden_states"].grad, plain, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_recomputes_under_the_same_plan() -> None:
    model, inputs = BY_NAME["flux"].build()
    model.train()
    grads = []
    for checkpointing in (False, True):
        model.enable_gradient_checkpointing() if checkpointing else model.disable_gradient_checkpointing()
        model.zero_grad()
        with attach(model, Masked()):
            model(**inputs)[0].square().sum().backward()
        grads.append(model.x_embedder.weight.grad.clone())
    torch.testing.assert_close(grads[1], grads[0])


def test_hooks_of_others_survive_attaching_and_detaching_in_any_order() -> None:
    model, inputs = BY_NAME["flux"].build()
    fired: list[str] = []
    block = model.transformer_blocks[0]
    model.register_forward_pre_hook(lambda *given: fired.append("before"))
    run = attach(model, looking(lambda call: call.host.stream, "host.stream"))
    model.register_forward_pre_hook(lambda *given: fired.append("after"))
    output(model, inputs)
    block.register_forward_hook(lambda *given: fired.append("block"))
    run.detach()
    fired.clear()
    output(model, inputs)
    assert fired == ["before", "after", "block"]


def test_state_of_one_branch_is_not_read_by_another() -> None:
    """Sequential guidance: cond and uncond of one step keep apart what they put."""
    model, inputs = BY_NAME["wan"].build()
    other = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"] + 1}
    times = [500.0, 250.0]

    def walk(*prompts: dict[str, Any]) -> list[torch.Tensor]:
        with attach(model, Looking(Kept()), schedule=times):
            return [output(model, {**p, "timestep": torch.full((2,), int(t))}) for t in times for p in prompts]

    _, alone = walk(inputs)
    *_, cond, _ = walk(inputs, other)
    assert torch.equal(alone, cond)


def test_copying_an_attached_model_is_refused() -> None:
    model, _ = BY_NAME["flux"].build()
    with attach(model, Same()) as run, pytest.raises(SaccadeError, match=f"attached by {number(run)}.*detach"):
        copy.deepcopy(model)
