"""Keys at other positions: by the rotation written out, on random operands and on the real classes."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import MissingError
from saccade.core.layout import Layout
from saccade.core.site import at
from saccade.core.state import Memory
from saccade.mechanisms.key_positions import KeyPositions
from saccade.papers.clear import Clear
from saccade.seam.rotary import Rotary, turn
from saccade.systems.moved_keys import MovedKeys
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import BY_NAME, output

LAYOUT = Layout.joint(text=3, grid=(1, 3, 4))
AXES, THETA = (4, 6, 6), 10000.0
ROTARY_HOSTS = ("flux", "qwen_image", "hunyuan_video", "wan")


def made(seed: int = 0) -> tuple[AttentionCall, Tensor, Tensor]:
    """A call whose q and k were rotated, and both before."""
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 2, LAYOUT.n, 16, generator=g, dtype=torch.float64) for _ in range(3))
    rotary = Rotary(ids=LAYOUT.coords().clamp(min=0).double(), theta=THETA, axes_dim=AXES)
    angles = rotary.angles()
    host = SimpleNamespace(rotary=rotary)
    return plain_call(turn(q, angles), turn(k, angles), v, layout=LAYOUT, host=host), q, k


def rotated(x: Tensor, place: tuple[float, ...], theta: float = THETA) -> Tensor:
    """One token's channels by the formula, pair after pair."""
    out, start = x.clone(), 0
    for p, d in zip(place, AXES, strict=True):
        for i in range(d // 2):
            angle = torch.tensor(p * theta ** (-2 * i / d), dtype=torch.float64)
            a, b = x[..., start + 2 * i], x[..., start + 2 * i + 1]
            out[..., start + 2 * i] = a * angle.cos() - b * angle.sin()
            out[..., start + 2 * i + 1] = a * angle.sin() + b * angle.cos()
        start += d
    return out


@given(down=st.integers(-5, 70), across=st.integers(-5, 70), text=st.booleans())
def test_keys_are_rotated_by_their_moved_ids_and_nothing_else_changes(down: int, across: int, text: bool) -> None:
    call, _, k = made()
    out = KeyPositions(shift=(0, down, across), text=text).operands(call, Memory())
    for i, (t, y, x) in enumerate(LAYOUT.coords().clamp(min=0).tolist()):
        moved = text or i >= 3
        place = (t, y + down, x + across) if moved else (t, y, x)
        torch.testing.assert_close(out.k[:, :, i], rotated(k[:, :, i], place), atol=1e-12, rtol=0)
    assert out.q is call.q and out.v is call.v


def test_without_rotation_keys_are_the_raw_ones_and_queries_stay_rotated() -> None:
    call, q, k = made()
    out = KeyPositions().operands(call, Memory())
    torch.testing.assert_close(out.k, k, atol=1e-12, rtol=0)
    assert not torch.allclose(out.q, q)
    logits = (out.q @ out.k.mT)[:, :, 3:, 3:]  # of equal tokens they depend on where the query stands
    same = call.replace(q=turn(q[:, :, :1].expand_as(q), call.host.rotary.angles()), k=k[:, :, :1].expand_as(k))
    absolute = same.q @ same.k.mT
    assert logits.isfinite().all() and (absolute[:, :, 3:].amax(2) - absolute[:, :, 3:].amin(2)).max() > 0.1


def test_a_shift_of_both_leaves_image_logits_and_changes_those_with_text() -> None:
    call, q, _ = made()
    out = KeyPositions(shift=(0, 2, 1)).operands(call, Memory())
    queries = KeyPositions(shift=(0, 2, 1)).operands(call.replace(k=call.q), Memory()).k
    before, after = call.q @ call.k.mT, queries @ out.k.mT
    torch.testing.assert_close(after[:, :, 3:, 3:], before[:, :, 3:, 3:], atol=1e-12, rtol=0)
    assert (after[:, :, 3:, :3] - before[:, :, 3:, :3]).abs().max() > 0.1


def test_shares_of_the_grid_are_whole_places_and_never_vanish() -> None:
    on_flux = KeyPositions(shift=(0, 10 / 64, 20 / 64), of_grid=True)
    assert on_flux.places(Layout.joint(text=2, grid=(1, 64, 64))) == (0, 10, 20)
    assert on_flux.places(Layout.joint(text=2, grid=(1, 8, 4))) == (0, 1, 1)
    assert KeyPositions(shift=(0, -0.01, 1), of_grid=True).places(Layout.image_only((1, 8, 8))) == (0, -1, 8)


def test_gradients_reach_the_keys() -> None:
    call, _, _ = made()
    call.k.requires_grad_()
    KeyPositions(shift=(0, 2, 1)).operands(call, Memory()).k.square().sum().backward()
    torch.testing.assert_close(call.k.grad, 2 * call.k.detach(), atol=1e-12, rtol=0)  # a rotation keeps lengths


@pytest.mark.host
@pytest.mark.parametrize("name", ROTARY_HOSTS)
def test_on_the_real_class_one_layer_is_touched_and_no_shift_is_bitwise_nothing(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    plain = output(model, inputs)
    with attach(model) as run:
        layers = [site.name for site in run.sites if site.kind != "cross"]
    with attach(model, MovedKeys(shift=(0, 0, 0))):
        assert torch.equal(output(model, inputs), plain)
    for shift, site in itertools.product((None, (0, 1, 2)), (layers[0], layers[-1])):
        with attach(model, MovedKeys(shift=shift, where=at(site))) as run:
            assert (output(model, inputs) - plain).abs().max() > 1e-5
        assert [one.name for one in run.report().sites if one.calls] == [site]
    assert torch.equal(output(model, inputs), plain)


@pytest.mark.host
def test_a_mechanism_with_a_shift_of_nothing_is_bitwise_nothing_too() -> None:
    class Still:
        name = "still"

        def plan(self, site: Any, clock: Any) -> tuple[KeyPositions, ...]:
            return (STILL,)

    model, inputs = BY_NAME["flux"].build()
    plain = output(model, inputs)
    with attach(model, Still()):
        assert torch.equal(output(model, inputs), plain)


STILL = KeyPositions(shift=(0, 0, 0))


@pytest.mark.host
@pytest.mark.parametrize("name", ROTARY_HOSTS)
def test_unrotated_keys_are_those_before_the_hosts_rotation(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    first = at(kind="self" if name == "wan" else "joint", depth=(0.0, 0.2))
    raw: list[Tensor] = []
    keys: list[Tensor] = []
    with attach(model, looking(lambda call: raw.append(call.host.raw(call.k)), "host.raw"), where=first):
        output(model, inputs)
    with attach(model, MovedKeys(), looking(lambda call: keys.append(call.k)), where=first):
        output(model, inputs)
    torch.testing.assert_close(keys[0], raw[0], atol=1e-6, rtol=0)


@pytest.mark.host
def test_half_precision_and_another_system_beside_it() -> None:
    model, inputs = BY_NAME["flux"].build()
    half = {k: v.bfloat16() if isinstance(v, Tensor) and "ids" not in k else v for k, v in inputs.items()}
    with attach(model, MovedKeys(shift=(0, 1, 1)), Clear(radius=1.5)) as run:
        both = output(model, inputs)
    assert all(site.calls for site in run.report().sites)
    with attach(model, MovedKeys(shift=(0, 1, 1))):
        alone = output(model, inputs)
        low = output(model.bfloat16(), half)
    assert low.dtype == torch.bfloat16 and (low.float() - alone).abs().max() < 0.1
    assert not torch.equal(both, alone)


@pytest.mark.host
@pytest.mark.compile
def test_compiled_agrees_with_eager() -> None:
    torch._dynamo.reset()
    counters.clear()
    model, inputs = BY_NAME["flux"].shallow()
    for shift in (None, (0, 1, 2)):
        system = MovedKeys(shift=shift)
        with attach(model, system):
            eager = output(model, inputs)
        outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
        with attach(outer, system):
            torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-5, atol=1e-5)


@pytest.mark.host
def test_hosts_without_tables_are_refused_with_what_to_do() -> None:
    model, inputs = BY_NAME["sd3"].build()
    with pytest.raises(MissingError, match="rotary.*positions are added once"), attach(model, MovedKeys()):
        output(model, inputs)


def test_other_keys_than_queries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keys text 4 are other tokens than queries image 12"):
        KeyPositions().check(Layout.image_only((1, 3, 4)), Layout.plain(4))
