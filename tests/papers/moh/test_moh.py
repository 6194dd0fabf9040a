"""MoH on tiny random models of the real classes, against gates put before the output projections by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.attach import attach
from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.partial import Parts
from saccade.core.site import Site, at
from saccade.core.state import Memory
from saccade.nn.routing import record_routing
from saccade.papers.moh import MoH, head_balance
from saccade.papers.moh.head_gates import InputGates, QueryGates
from saccade.papers.moh.head_routing import HeadCounts, LearnedGates
from tests.hosts import vits
from tests.hosts.tiny import BY_NAME, output
from tests.hosts.transformers.texts import SHARED, words

HEADS = 4
SITE = Site(name="blocks.0.attn", heads=HEADS)
Made = tuple[Any, dict[str, Any]]


def dit() -> Made:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10,
    )  # fmt: skip
    return model, BY_NAME["dit"].make()[1]


def pixart() -> Made:
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2,
        cross_attention_dim=32, caption_channels=24, sample_size=8, patch_size=2, use_additional_conditions=False,
    )  # fmt: skip
    return model, BY_NAME["pixart"].make()[1]


def sd3() -> Made:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8,
        num_attention_heads=HEADS, joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32,
        pos_embed_max_size=16,
    )  # fmt: skip
    return model, BY_NAME["sd3"].make()[1]


def flux() -> Made:
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=HEADS, joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return model, BY_NAME["flux"].make()[1]


def llama() -> Made:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SHARED)), {**words(), "use_cache": False}


def qwen2() -> Made:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**SHARED)), {**words(), "use_cache": False}


def vit() -> Made:
    return vits.create("vit_tiny_patch16_224", num_heads=HEADS), {"x": torch.randn(2, 3, 32, 32)}


MAKERS: dict[str, Callable[[], Made]] = {
    made.__name__: made for made in (dit, pixart, sd3, flux, llama, qwen2, vit)
}  # fmt: skip
every_host = pytest.mark.parametrize("name", MAKERS)


def built(name: str) -> Made:
    torch.manual_seed(0)
    model, inputs = MAKERS[name]()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval(), inputs


def streams(module: Any) -> list[tuple[nn.Module, Callable[[Tensor], Tensor], nn.Module]]:
    """What makes q, what becomes of it, and what projects the heads' outputs, for each stream of a module."""
    if hasattr(module, "o_proj"):
        return [(module.q_proj, split, module.o_proj)]
    if hasattr(module, "qkv"):
        return [(module.qkv, lambda out: split(out.chunk(3, dim=-1)[0]), module.proj)]
    found = [(module.to_q, normed(module.norm_q), module.to_out[0])]
    if getattr(module, "to_add_out", None) is not None:
        found.append((module.add_q_proj, normed(module.norm_added_q), module.to_add_out))
    return found


def split(x: Tensor) -> Tensor:
    """(b n h e) of (b n he)."""
    return x.unflatten(-1, (HEADS, -1))


def normed(norm: nn.Module | None) -> Callable[[Tensor], Tensor]:
    return split if norm is None else lambda x: norm(split(x))


def by_hand(model: nn.Module, names: list[str], gates: Callable[[Tensor], Tensor], inputs: dict[str, Any]) -> Tensor:
    """A forward in which each output projection gets its input weighed by gates of the q, unrotated, of its stream."""
    handles: list[Any] = []
    for name in names:
        for make, becomes, project in streams(model.get_submodule(name)):
            seen: list[Tensor] = []

            def keep(_: nn.Module, __: Any, out: Tensor, seen: Any = seen, becomes: Any = becomes) -> None:
                seen[:] = [becomes(out)]

            def weigh(_: nn.Module, given: tuple[Tensor, ...], seen: Any = seen) -> tuple[Tensor, ...]:
                return ((split(given[0]) * gates(seen[0])[..., None]).flatten(-2), *given[1:])

            handles += [make.register_forward_hook(keep), project.register_forward_pre_hook(weigh)]
    found = output(model, inputs)
    for handle in handles:
        handle.remove()
    return found


def longest(q: Tensor) -> Tensor:
    """Gates (b n h) of two shared heads, and of the one of the other two with the longer query."""
    norms = q.norm(dim=-1)[..., 2:]
    return torch.cat((torch.ones_like(norms), (norms == norms.amax(-1, keepdim=True)).float()), dim=-1)


def where(name: str) -> dict[str, Any]:
    """FLUX's single-stream blocks project attention and feed-forward at once."""
    return {"where": at("transformer_blocks.*")} if name == "flux" else {}


@pytest.mark.host
@every_host
def test_by_norm_equals_gates_put_by_hand(name: str) -> None:
    model, inputs = built(name)
    with attach(model, MoH(), **where(name)) as run:
        found, sites = output(model, inputs), run.sites
    names = [site.name for site in sites if site.kind != "cross"]
    torch.testing.assert_close(found, by_hand(model, names, longest, inputs), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, output(model, inputs), atol=1e-3)


@pytest.mark.host
@every_host
def test_all_heads_by_norm_are_the_host_to_the_bit(name: str) -> None:
    model, inputs = built(name)
    plain = output(model, inputs)
    with attach(model, MoH(shared=0.5, routed=0.5)):
        assert torch.equal(output(model, inputs), plain)
    assert torch.equal(output(model, inputs), plain)


@pytest.mark.host
@every_host
def test_routers_of_zero_that_pick_all_heads_are_the_host(name: str) -> None:
    model, inputs = built(name)
    with attach(model, routed(model, inputs, MoH(shared=0.5, routed=0.5), std=0.0)):
        found = output(model, inputs)
    torch.testing.assert_close(found, output(model, inputs), rtol=1e-4, atol=1e-5)


def routed(model: nn.Module, inputs: dict[str, Any], system: MoH, *, std: float = 0.5) -> MoH:
    """The system with routers for every site."""
    with attach(model, MoH()) as run:
        sites = run.sites
    width = {"flux": 64}.get(type(model).__name__.lower().removesuffix("transformer2dmodel"), 32)
    torch.manual_seed(1)
    return system.trainable(sites, width, std=std)


@pytest.mark.host
@every_host
def test_routers_learn_with_their_loss_of_balance(name: str) -> None:
    model, inputs = built(name)
    system = routed(model, inputs, MoH(shared=0.5, routed=0.25))
    with attach(model, system), record_routing(system.gates, detach=False) as found:
        made = model(**inputs)
    out = made[0] if isinstance(made, tuple) else made
    balance = head_balance([each for routings in found.values() for each in routings])
    assert 0 < balance <= 2
    (out.square().mean() + balance).backward()
    last = max(i for i, _ in enumerate(system.gates.of))  # in SD3's last block nobody reads the text
    for i, (site, gates) in enumerate(system.gates.of.items()):
        for stream, each in gates.items():
            if (i, stream) != (last, "text"):
                assert all(w.grad is not None and w.grad.any() for w in each.parameters()), (site, stream)


@pytest.mark.host
def test_tuning_a_language_model_by_norm_brings_it_back() -> None:
    """Straight-through gradients reach the queries, and a conversion can be undone."""
    model, inputs = built("llama")
    dense = output(model, inputs)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    with attach(model, MoH()):
        for _ in range(30):
            loss = (model(**inputs)[0] - dense).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert model.get_submodule("model.layers.0.self_attn.q_proj").weight.grad.any()  # type: ignore[union-attr]
    assert losses[-1] < losses[0] / 4


@pytest.mark.host
def test_words_decoded_one_by_one_get_the_gates_of_all_at_once() -> None:
    model, inputs = built("llama")
    ids = inputs["input_ids"]
    with attach(model, MoH()), torch.no_grad():
        whole = model(input_ids=ids).logits
        first = model(input_ids=ids[:, :6], use_cache=True)
        rest = model(input_ids=ids[:, 6:7], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(first.logits, whole[:, :6], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rest.logits[:, 0], whole[:, 6], rtol=1e-4, atol=1e-5)


class Host:
    """A host that offers what entered."""

    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def test_text_has_gates_of_its_own() -> None:
    torch.manual_seed(0)
    layout = Layout.joint(text=3, grid=(1, 2, 2))
    counts, x = HeadCounts(heads=HEADS, shared=1, routed=1), torch.randn(2, 7, 6)
    image, text = LearnedGates(6, counts), LearnedGates(6, counts)
    q, out = torch.randn(2, HEADS, 7, 5), torch.randn(1, 2, HEADS, 7, 5)
    call = plain_call(q, q, q, layout=layout, host=Host(x))
    found = InputGates(rest=image, text=text).blend(call, Parts(out), Memory()).total
    wanted = torch.cat((text(x[:, :3], q[:, :, :3]).value, image(x[:, 3:], q[:, :, 3:]).value), dim=1)
    torch.testing.assert_close(found, out[0] * wanted.mT[..., None])


def test_counts_are_shares_of_a_layers_heads() -> None:
    counts = [(c.shared, c.routed) for c in map(MoH().counts, (32, 24, 16, 12, 6, 3, 2))]
    assert counts == [(16, 8), (12, 6), (8, 4), (6, 3), (3, 2), (2, 1), (1, 1)]
    assert MoH(shared=0.0, routed=0.25).counts(32) == HeadCounts(heads=32, shared=0, routed=8)
    assert MoH(shared=0.9, routed=0.1).counts(2) == HeadCounts(heads=2, shared=1, routed=1)


def test_equal_phases_share_one_mechanism_and_a_single_head_is_left_alone() -> None:
    (one,), (two,) = (MoH().plan(SITE, Clock(step=step, num_steps=9)) for step in (0, 5))
    assert one is two and isinstance(one, QueryGates)
    assert MoH().plan(Site(name="x", heads=1), Clock()) == ()
    assert MoH().plan(Site(name="x", heads=HEADS, kind="cross"), Clock()) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shared": 0.8, "routed": 0.5},
            "shared=0.8 and routed=0.5 must be shares of the heads that add up to at most 1",
        ),
        ({"routed": 0.0}, "routed must be above 0"),
        ({"shared": -0.1}, "shared=-0.1"),
        ({"where": at(heads=(0,))}, r"where.heads=\(0,\) has no meaning here"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoH(**options)


@pytest.mark.host
def test_bad_sites() -> None:
    model, inputs = built("dit")
    system = routed(model, inputs, MoH())
    with pytest.raises(
        ValueError, match="no gates for site 'elsewhere'; there are some for transformer_blocks/0/attn1"
    ):
        system.plan(Site(name="elsewhere", heads=HEADS), Clock())
    with pytest.raises(ValueError, match="gates for heads=4 got a call of 2 heads"):
        with attach(model, system, where=at(heads=(0, 1))):
            output(model, inputs)


@pytest.mark.compile
@pytest.mark.host
@pytest.mark.parametrize("learned", [False, True])
def test_compiled_agrees_with_eager(learned: bool) -> None:
    torch._dynamo.reset()
    model, inputs = built("dit")
    del model.transformer_blocks[1:]
    system = routed(model, inputs, MoH()) if learned else MoH()
    with attach(model, system):
        eager = output(model, inputs)
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with attach(outer, system):
        torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()
