"""Graphs of an attachment and of the model keep apart; blocks alike and attachments alike share theirs."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from saccade.attach import attach
from saccade.papers.flashbias import Alibi, FlashBias
from saccade.seam.routes import torch_routes
from saccade.seam.shadow import Shadow
from tests.hosts.stand_ins import Kept, Looking, Masked, Scaled, looking
from tests.hosts.tiny import BY_NAME, PLAIN, PlainAttention, flux_inputs, output

pytestmark = [pytest.mark.host, pytest.mark.compile]
LIMIT = 8  # graphs the compiler keeps for one code object by default
ALIBI = FlashBias(prior=Alibi(), tokens="*")


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def compiled(model: nn.Module, fullgraph: bool = True) -> Any:
    return torch.compile(model, fullgraph=fullgraph, backend="eager")


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def mixer() -> PlainAttention:
    return PlainAttention(16, 2).eval()


class Nested(nn.Module):
    """Attention called in a function within the forward, behind a break of the graph."""

    heads = 2

    def forward(self, x: Tensor) -> Tensor:
        def inner(q: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return F.scaled_dot_product_attention(q, q, q)

        return inner(x.unflatten(-1, (2, -1)).transpose(1, 2)).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("before", [False, True], ids=["compiled-late", "compiled-before"])
@pytest.mark.parametrize("make", [mixer, Nested])
def test_a_compiled_module_and_others_of_its_class_outlive_an_attachment(make: Any, before: bool) -> None:
    one, two, x = make(), make(), torch.randn(2, PLAIN.n, 16)
    plain, other = one(x), two(x)
    first, second = (compiled(m, fullgraph=make is mixer) for m in (one, two))
    with attach(one, ALIBI, layout=PLAIN):
        wanted = one(x)
    if before:
        assert torch.equal(first(x), plain)
    for _ in range(2):
        with attach(first, ALIBI, layout=PLAIN):
            torch.testing.assert_close(first(x), wanted)
            assert torch.equal(second(x), other)
        assert torch.equal(first(x), plain) and torch.equal(second(x), other)
    assert not torch.equal(wanted, plain)


def test_the_same_system_attached_again_finds_its_graph() -> None:
    model, x = mixer(), torch.randn(2, PLAIN.n, 16)
    outer = compiled(model)
    for _ in range(LIMIT + 2):
        with attach(outer, Masked(), layout=PLAIN):
            outer(x)
    assert graphs() == 1


def test_many_systems_in_turn_leave_the_detached_model_its_graphs() -> None:
    model, x = mixer(), torch.randn(2, PLAIN.n, 16)
    outer, plain = compiled(model), model(x)
    for number in range(LIMIT + 2):
        with attach(outer, Looking(Scaled(1.5 + number)), layout=PLAIN):
            assert not torch.equal(outer(x), plain)
    assert torch.equal(outer(x), plain)
    assert graphs() == LIMIT + 3 and "forward" not in vars(model)


class Block(nn.Module):
    """Attention beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = mixer()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x)


@pytest.mark.parametrize("system", [Masked(), Looking(Kept()), ALIBI], ids=["mask", "state", "bias"])
def test_blocks_compiled_in_place_share_one_graph(system: Any) -> None:
    model, x = nn.Sequential(*(Block() for _ in range(LIMIT + 2))).eval(), torch.randn(2, PLAIN.n, 16)
    plain = model(x)
    with attach(model, system, layout=PLAIN):
        wanted = model(x)
    for block in model:
        block.compile(fullgraph=True, backend="eager")
    for _ in range(2):
        with attach(model, system, layout=PLAIN):
            torch.testing.assert_close(model(x), wanted)
    assert graphs() == 1
    assert torch.equal(model(x), plain)
    assert not any("forward" in vars(module) for module in model.modules())


def test_compiled_blocks_inside_a_model_are_known_too() -> None:
    model, x = nn.Sequential(*(Block() for _ in range(2))).eval(), torch.randn(2, PLAIN.n, 16)
    plain = model(x)
    inner = [compiled(block) for block in model]
    outer = nn.Sequential(*inner)
    for number in range(LIMIT + 2):
        with attach(outer, Looking(Scaled(1.5 + number)), layout=PLAIN):
            outer(x)
    assert torch.equal(outer(x), plain)


@pytest.mark.slow
@pytest.mark.parametrize("system", [Masked(), looking(lambda call: None, "host.hidden", "host.rotary")])
def test_all_single_stream_blocks_of_flux_share_a_graph(system: Any) -> None:
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=LIMIT + 2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
    ).eval()  # fmt: skip
    inputs = flux_inputs(4, 4)
    plain = output(model, inputs)
    with attach(model, system):
        wanted = output(model, inputs)
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    for _ in range(LIMIT + 1):
        with attach(model, system):
            torch.testing.assert_close(output(model, inputs), wanted, rtol=1e-5, atol=1e-6)
    assert graphs() == 3  # double stream, and single stream over tokens of two strides, as without an attachment
    torch.testing.assert_close(output(model, inputs), plain, rtol=1e-5, atol=1e-6)


def test_a_compiled_model_in_another_thread_has_its_own_site() -> None:
    import threading

    models = [BY_NAME["plain"].build(seed) for seed in (0, 1)]
    outers = [compiled(model) for model, _ in models]
    runs = [attach(outer, Looking(Scaled(2.0 + i)), layout=PLAIN) for i, outer in enumerate(outers)]
    wanted = [output(outer, inputs) for outer, (_, inputs) in zip(outers, models, strict=True)]
    found: list[bool] = []

    def work() -> None:
        found.append(torch.equal(output(outers[1], models[1][1]), wanted[1]))

    other = threading.Thread(target=work)
    other.start()
    assert torch.equal(output(outers[0], models[0][1]), wanted[0])
    other.join()
    for run in runs:
        run.detach()
    assert found == [True]


def test_a_compilers_own_names_for_modules_stay_as_they_are() -> None:
    """It keeps them where it compiled code of the host's module, and looks whether their value is still the same."""
    home = {"__name__": "somewhere", "F": F, "__import_torch_dot_nn_dot_functional": F}
    shadow = Shadow(torch_routes())
    made = vars(shadow._module(home))
    assert made["__import_torch_dot_nn_dot_functional"] is F is not made["F"]
    shadow.hold()()
