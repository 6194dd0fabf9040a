"""Causal order and padding reach every system as `call.mask`, in whatever form the host makes them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.masks import And, KeyPadding, Mask
from saccade.core.places import Causal
from tests.hosts.stand_ins import Looking, Masked, Near, Same, Scaled, looking
from tests.hosts.tiny import BY_NAME, output
from tests.hosts.transformers.texts import LEFT, LENGTH, RIGHT, SHARED, VOCABULARY, words

pytestmark = pytest.mark.host
ORDER = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
LOWEST = torch.finfo(torch.float32).min
PADDINGS = pytest.mark.parametrize("padding", [None, LEFT, RIGHT], ids=["none", "left", "right"])
Form = Callable[[Tensor], Tensor]
FORMS: dict[str, Form] = {
    "boolean": lambda allow: allow,
    "lowest": lambda allow: torch.where(allow, 0.0, LOWEST),
    "infinite": lambda allow: torch.where(allow, 0.0, -torch.inf),
}


def built(name: str, implementation: str = "sdpa", padding: Tensor | None = None) -> tuple[Any, dict[str, Any]]:
    model, inputs = BY_NAME[name].build()
    model.set_attn_implementation(implementation)
    inputs.pop("attention_mask", None)
    return model, inputs if padding is None else {**inputs, "attention_mask": padding}


def calls(model: Any, inputs: dict[str, Any]) -> list[AttentionCall]:
    found: list[AttentionCall] = []
    with attach(model, looking(found.append)):
        output(model, inputs)
    return found


def seen(call: AttentionCall) -> Tensor:
    """The whole map (2 n m) a call's mask allows."""
    shape = (2, call.layout_q.n, call.layout_k.n)
    if call.mask is None:
        return torch.ones(shape, dtype=torch.bool)
    return call.mask.materialize(call.layout_q, call.layout_k)[:, 0].expand(shape)


def leaves(mask: Mask | None) -> set[type]:
    return leaves(mask.a) | leaves(mask.b) if isinstance(mask, And) else {type(mask)} - {type(None)}


@PADDINGS
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "llada", "bert", "modern_bert"])
def test_order_and_padding_are_the_calls_mask(name: str, implementation: str, padding: Tensor | None) -> None:
    model, inputs = built(name, implementation, padding)
    keep = torch.ones(2, LENGTH).bool() if padding is None else padding.bool()
    allowed = keep[:, None] & (ORDER if name in ("llama", "qwen3") else torch.ones_like(ORDER))
    found = calls(model, inputs)
    for call in found if name != "modern_bert" else found[:1]:
        assert torch.equal(seen(call), allowed), call.site.name
        assert call.bias is None
        assert leaves(call.mask) <= {Causal, KeyPadding}
        assert (Causal in leaves(call.mask)) == (name in ("llama", "qwen3"))


@PADDINGS
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_a_hosts_sliding_window_stays_in_force(implementation: str, padding: Tensor | None) -> None:
    model, inputs = built("modern_bert", implementation, padding)
    places = torch.arange(LENGTH)
    near = (places[:, None] - places).abs() <= 4
    keep = torch.ones(2, LENGTH).bool() if padding is None else padding.bool()
    assert torch.equal(seen(calls(model, inputs)[1]), near & keep[:, None])


@pytest.mark.parametrize(
    ("implementation", "form"), [("eager", "lowest"), ("eager", "infinite"), *(("sdpa", form) for form in FORMS)]
)
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_a_map_given_whole_is_honoured_in_every_form(name: str, implementation: str, form: str) -> None:
    model, inputs = built(name, implementation)
    allow = torch.rand(2, 1, LENGTH, LENGTH) > 0.5
    allow |= torch.eye(LENGTH, dtype=torch.bool)
    given = {**inputs, "attention_mask": FORMS[form](allow)}
    plain, (call, *_) = output(model, given), calls(model, given)
    assert torch.equal(seen(call), allow[:, 0]) and call.bias is None
    with attach(model, Same()):
        torch.testing.assert_close(output(model, given), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_what_a_map_adds_to_the_scores_is_kept(name: str) -> None:
    model, inputs = built(name)
    soft = torch.randn(2, 1, LENGTH, LENGTH).masked_fill(~ORDER, LOWEST)
    given = {**inputs, "attention_mask": soft}
    plain, (call, *_) = output(model, given), calls(model, given)
    assert torch.equal(seen(call), ORDER.expand(2, -1, -1)) and call.bias is not None
    with attach(model, Same()):
        torch.testing.assert_close(output(model, given), plain, rtol=1e-4, atol=1e-5)


def test_sequences_packed_into_one_row_stay_apart() -> None:
    model, inputs = built("llama")
    given = {**inputs, "position_ids": torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]] * 2)}
    apart = torch.block_diag(torch.ones(4, 4), torch.ones(6, 6)).bool() & ORDER
    plain = output(model, given)
    for call in calls(model, given):
        assert torch.equal(seen(call), apart.expand(2, -1, -1))
    with attach(model, Same()):
        torch.testing.assert_close(output(model, given), plain, rtol=1e-4, atol=1e-5)


SYSTEMS = {
    "window": (Masked(Near(4)),),
    "scaled": (Looking(Scaled()),),
    "both": (Masked(Near(4)), Looking(Scaled())),
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("padding", [LEFT, RIGHT], ids=["left", "right"])
@pytest.mark.parametrize("name", ["llama", "llada", "bert", "modern_bert"])
def test_no_system_lets_padding_through(name: str, padding: Tensor, system: str) -> None:
    model, inputs = built(name, padding=padding)
    others = {**inputs, "input_ids": torch.where(padding.bool(), inputs["input_ids"], 7)}
    with attach(model, *SYSTEMS[system]):
        a, b = output(model, inputs), output(model, others)
    real = padding.bool()
    assert torch.equal(a[real], b[real])
    assert torch.isfinite(a).all()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_no_system_lets_the_future_through(name: str, system: str) -> None:
    model, inputs = built(name)
    later = {**inputs, "input_ids": inputs["input_ids"].index_fill(1, torch.tensor([LENGTH - 1]), 7)}
    with attach(model, *SYSTEMS[system]):
        a, b = output(model, inputs), output(model, later)
    assert torch.equal(a[:, :-1], b[:, :-1]) and not torch.equal(a[:, -1], b[:, -1])


def test_the_two_ways_of_an_encoder_are_seen_both() -> None:
    model, inputs = built("llada")
    later = {**inputs, "input_ids": inputs["input_ids"].index_fill(1, torch.tensor([LENGTH - 1]), 7)}
    with attach(model, Same()):
        assert (output(model, inputs)[:, 0] - output(model, later)[:, 0]).abs().max() > 1e-6


def test_no_word_stands_for_padding() -> None:
    ids = words()["input_ids"]
    assert ids.min() > 0 and ids.max() < VOCABULARY


@pytest.mark.parametrize("padding", [None, RIGHT], ids=["none", "right"])
@pytest.mark.parametrize("family", ["Mistral", "Qwen2"])
def test_relatives_of_llama_agree_and_keep_their_windows(family: str, padding: Tensor | None) -> None:
    import transformers

    torch.manual_seed(0)
    sizes = {**SHARED, "sliding_window": 4}
    model = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**sizes)).eval()
    inputs = words(padding)
    plain = output(model, inputs)
    with attach(model, Same()) as run:
        torch.testing.assert_close(output(model, inputs), plain, rtol=1e-4, atol=1e-5)
    assert len(run.sites) == 2
    width = seen(calls(model, inputs)[0])[0, LENGTH - 4].sum()
    assert width == (4 if family == "Mistral" else LENGTH - 3)  # Qwen2 slides only if its config says so
