"""`torch.compile(fullgraph=True)` of an attached model: agrees with eager, one graph a plan, loud where it cannot."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.errors import SaccadeError
from tests.hosts.stand_ins import Kept, Looking, Masked, Same, Scaled, Steps, looking
from tests.hosts.tiny import BY_NAME, PLAIN, attach_options, output

pytestmark = [pytest.mark.host, pytest.mark.compile]
WHOLE = (
    "flux", "sd3", "wan", "plain", "llama", "llada", "qwen3", "bert", "modern_bert", "beit", "cogvideox", "dit", "eva",
    "hunyuan_dit", "hunyuan_video", "pixart", "qwen_image", "vit",
)  # fmt: skip
QUICK = ("flux", "sd3", "wan", "plain", "llama", "bert", "vit")  # one of each kind of host
IN_PARTS = ("llava", "qwen2_vl")  # their own code breaks the graph, with or without an attachment


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled(model: nn.Module, backend: str = "eager") -> Any:
    """By default only traced, which is what guards and counts of graphs are about."""
    return torch.compile(model, fullgraph=True, backend=backend)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def agrees(name: str, *stack: Any, fullgraph: bool = True) -> None:
    """Compiled, an attached host gives what it gives in eager mode."""
    host = BY_NAME[name]
    model, inputs = host.shallow() if fullgraph else host.build()  # LLaVA reads its tower's last layer but one
    with attach(model, *stack, **attach_options(host)):
        eager = output(model, inputs)
    outer: Any = torch.compile(model, fullgraph=fullgraph, backend="aot_eager")
    with attach(outer, *stack, **attach_options(host)) as run:
        torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-5, atol=1e-6)
        output(outer, inputs)
    assert run.report().forwards == 2


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in WHOLE])
def test_compiled_agrees_with_eager_in_one_graph(name: str) -> None:
    agrees(name, Masked(BY_NAME[name].window), Looking(Scaled()))
    assert graphs() == 1


@pytest.mark.parametrize("name", ["flux", "plain", "llama", "bert"])
def test_an_empty_stack_compiles_to_one_graph(name: str) -> None:
    agrees(name)
    assert graphs() == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PARTS)
def test_a_model_that_breaks_its_own_graph_compiles_in_parts(name: str) -> None:
    agrees(name, Masked(BY_NAME[name].window), Looking(Scaled()), fullgraph=False)
    assert graphs() > 1


@pytest.mark.inductor
@pytest.mark.slow
def test_inductor_agrees_with_eager() -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, Masked(), layout=PLAIN):
        eager = output(model, inputs)
    outer = compiled(model, backend="inductor")
    with attach(outer, Masked(), layout=PLAIN):
        torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-4, atol=1e-5)


def test_detaching_gives_a_compiled_model_back() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    outer = compiled(model)
    before = output(outer, inputs)
    with attach(outer, Masked()):
        assert not torch.equal(output(outer, inputs), before)
    assert torch.equal(output(outer, inputs), before)
    assert not outer._forward_pre_hooks and not outer._forward_hooks


def test_graphs_count_plans_not_steps() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    outer, steps = compiled(model), 6
    times = [1 - i / steps for i in range(steps)]
    with attach(outer, Steps([]), schedule=[1000 * t for t in times]):
        for t in times:
            output(outer, {**inputs, "timestep": torch.tensor([t, t])})
    assert graphs() == 2


def test_state_carried_over_steps_needs_no_graph_per_step() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    steps = 5
    times = [1 - i / steps for i in range(steps)]

    def walk(outer: Any) -> list[torch.Tensor]:
        with attach(outer, Looking(Kept()), schedule=[1000 * t for t in times]):
            return [output(outer, {**inputs, "timestep": torch.tensor([t, t])}) for t in times]

    eager = walk(model)
    for a, b in zip(walk(compiled(model)), eager, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert graphs() <= 3


def test_what_entered_is_recorded_inside_the_graph() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    sums: list[torch.Tensor] = []

    def look(call: Any) -> None:
        assert call.host.hidden.shape[1] == call.layout_q.n
        assert call.host.enter(call.host.stream).shape == call.host.stream.shape

    system = looking(look, "host.hidden", "host.stream", "host.enter", "host.rotary")
    with attach(model, system):
        eager = output(model, inputs)
    outer = compiled(model)
    with attach(outer, system):
        torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-5, atol=1e-6)
    assert graphs() == 1 and not sums


@pytest.mark.parametrize("fullgraph", [True, False])
def test_compiling_after_attach_says_what_to_do(fullgraph: bool) -> None:
    model, inputs = BY_NAME["plain"].build()
    with attach(model, Same(), **attach_options(BY_NAME["plain"])):
        late = torch.compile(model, fullgraph=fullgraph, backend="aot_eager")
        with pytest.raises(Exception, match=r"attach\(torch.compile\(model\), ...\)") as raised:
            output(late, inputs)
    assert fullgraph or isinstance(raised.value, SaccadeError)


def test_compiling_in_place_is_refused() -> None:
    model, _ = BY_NAME["flux"].build()
    model.compile(backend="aot_eager")
    with pytest.raises(SaccadeError, match=r"compiles in place.*use attach\(torch.compile\(model\), ...\)"):
        attach(model, Same())


def test_blocks_compiled_in_place_work() -> None:
    model, inputs = BY_NAME["flux"].shallow()
    with attach(model, Masked()):
        eager = output(model, inputs)
    model.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    with attach(model, Masked()):
        torch.testing.assert_close(output(model, inputs), eager, rtol=1e-5, atol=1e-6)
