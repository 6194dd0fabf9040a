"""What `attach` promises of every class of the host libraries it knows, on a tiny random model of that class.

The classes of `tests.hosts.models` are tried here alone; those of `tests.hosts.tiny` have more tests of their own.
"""

from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout, Segment
from saccade.core.masks import Mask
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.site import at
from saccade.core.state import Memory
from saccade.families.plain import by_processor
from saccade.run.attached_model import family_of
from saccade.systems.dense import Dense
from tests.hosts.host import EVERY_KIND, Host, attach, output
from tests.hosts.stand_ins import WINDOW, EvenKeys, Looking, Masked, Near, Same, Scaled, looking
from tests.hosts.test_compile import compiled
from tests.hosts.test_contract import traces
from tests.hosts.tiny import DIFFUSERS, MORE

pytestmark = pytest.mark.host
EVERY = (*DIFFUSERS, *MORE)
every_host = pytest.mark.parametrize("host", EVERY, ids=lambda host: host.name)
COMPILED: set[str] = set()  # names of families
more_hosts = pytest.mark.parametrize("host", MORE, ids=lambda host: host.name)


class Keep(Mechanism):
    """Keeps every call with what leaves it."""

    def __init__(self) -> None:
        self.seen: list[tuple[AttentionCall, Tensor]] = []

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        self.seen.append((call, parts.total))


def in_window(window: Mask, layout_q: Layout, layout_k: Layout) -> Tensor:
    """The mask, pair by pair: under WINDOW image tokens see those of their grid nearer than 1.5 tokens."""
    if isinstance(window, Near):
        queries = torch.arange(layout_k.n - layout_q.n, layout_k.n)
        return (queries[:, None] - torch.arange(layout_k.n)).abs() < window.width
    if isinstance(window, EvenKeys):
        return (torch.arange(layout_k.n) % 2 == 0).expand(layout_q.n, -1)
    assert window == WINDOW
    return torch.tensor([[_sees(a, b) for b in _places(layout_k)] for a in _places(layout_q)])


def _places(layout: Layout) -> list[tuple[str, Any]]:
    """Each token's segment and, of image tokens, place in it."""
    return [(s.name, p) for s in layout.segments for p in (_raster(s.grid) if _pictured(s) else [None] * s.n)]


def _pictured(segment: Segment) -> bool:
    return segment.kind == "image" and segment.grid is not None


def _raster(grid: Any) -> list[tuple[int, int, int]]:
    t, h, w = grid
    return [(i, y, x) for i in range(t) for y in range(h) for x in range(w)]


def _sees(a: tuple[str, Any], b: tuple[str, Any]) -> bool:
    if a[0] != b[0] or a[1] is None:  # of different segments, or without places
        return True
    return sum((i - j) ** 2 for i, j in zip(a[1], b[1], strict=True)) < 1.5**2


def in_float64(call: AttentionCall, allowed: Tensor, added: Tensor) -> Tensor:
    """Attention written out, with sinks where the module has them."""
    q, k, v = (t.double() for t in (call.q, call.k, call.v))
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = (q @ k.mT) * call.scale + added
    scores = scores.masked_fill(~allowed, -torch.inf)
    if (sinks := getattr(call.host.module, "sinks", None)) is not None:
        scores = torch.cat((scores, sinks.double().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)), dim=-1)
    return scores.softmax(-1).nan_to_num()[..., : v.shape[2]] @ v


def host_maps(host: Host) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """What the host itself lets through and adds to scores at each site, in every call it makes there."""
    model, inputs = host.build()
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def look(call: AttentionCall) -> None:
        n, m = call.layout_q.n, call.layout_k.n
        allowed = None if call.mask is None else call.mask.materialize(call.layout_q, call.layout_k)
        added = torch.zeros(1) if call.bias is None else call.bias.materialize(n, m)
        own = torch.ones(1, dtype=torch.bool) if allowed is None else allowed, added
        found.setdefault(call.site.name, []).append(own)

    with attach(model, looking(look)):
        output(model, inputs)
    return found


@every_host
def test_an_empty_stack_and_dense_are_bitwise_the_host_and_leave_no_trace(host: Host) -> None:
    model, inputs = host.build()
    before, clean = output(model, inputs), traces(model)
    assert before.isfinite().all()
    for stack in ((), (Dense(where=EVERY_KIND),)):
        with attach(model, *stack) as run:
            assert run.sites
            assert torch.equal(output(model, inputs), before)
    with attach(model, Same()):
        ours = output(model, inputs)
    if not host.chooses:
        torch.testing.assert_close(ours, before, rtol=1e-3, atol=1e-4)
    assert traces(model) == clean
    assert torch.equal(output(model, inputs), before)


@more_hosts
def test_every_attention_is_a_site_or_left_alone_for_a_reason(host: Host) -> None:
    model, _ = host.build()
    family = family_of(model)
    for name in (name for name, module in model.named_modules() if by_processor(module)):
        assert family.kind(name) or any(fnmatchcase(name, pattern) for pattern in family.left_alone), name


@every_host
def test_a_window_is_attention_rewritten_in_float64_at_every_site(host: Host) -> None:
    model, inputs = host.build()
    kept, own = Keep(), host_maps(host)
    with attach(model, Masked(host.window), Looking(kept)) as run:
        output(model, inputs)
    assert {call.site.name for call, _ in kept.seen} == {site.name for site in run.sites}
    for call, out in kept.seen:
        window = in_window(host.window, call.layout_q, call.layout_k)
        assert not window.all(), "the window must bite"
        allowed, added = own[call.site.name].pop(0)
        if host.chooses and call.mask is not None:
            allowed = call.mask.materialize(call.layout_q, call.layout_k)
        wanted = in_float64(call, window & allowed, added)
        eps = torch.finfo(call.q.dtype).eps  # some hosts attend in bfloat16 whatever their own type
        torch.testing.assert_close(out.double(), wanted, rtol=max(1e-4, eps), atol=max(1e-5, eps * wanted.abs().max()))


@every_host
def test_every_site_takes_part_and_cross_attention_only_if_asked(host: Host) -> None:
    model, inputs = host.build()
    before = output(model, inputs)
    with attach(model, Same(), where=EVERY_KIND) as run:
        sites = run.sites
    with attach(model, Same()) as run:
        assert [site for site in sites if site.kind != "cross"] in (list(run.sites), [])
    for site in sites:
        with attach(model, Looking(Scaled(factor=4.0)), where=at(site.name, kind=site.kind)):
            change = (output(model, inputs) - before).abs().max()
        assert bool(change > 1e-6) is (site.name != host.idle), site.name


@more_hosts
def test_the_layout_is_what_passes_attention(host: Host) -> None:
    model, inputs = host.build()
    found: list[tuple[str, int]] = []
    with attach(model, looking(lambda call: found.append((call.layout_q.describe(), call.q.shape[2])))):
        output(model, inputs)
    assert found[0][0] == host.layout


def padded(host: Host, text: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Which words are real, by a mask (of the image too, or of pairs) or by number, and the text with other pads."""
    n = text.shape[host.text_axis]
    given = given[:, -1] if given.ndim == 3 else given
    real = torch.arange(n) < given[:, None] if given.ndim == 1 else given[:, :n] > 0
    if not text.is_floating_point():
        return real, torch.where(real, text, 7)
    spread = [size if axis in (0, host.text_axis) else 1 for axis, size in enumerate(text.shape)]
    return real, torch.where(real.reshape(spread), text, text + 1)


@more_hosts
def test_padded_text_weighs_nothing(host: Host) -> None:
    """Under a plan too: what is said in padded places does not reach the image, nor the rest of a text."""
    model, inputs = host.build()
    family = family_of(model)
    if family.padding not in inputs or host.leaks:
        pytest.skip("takes no padding, is given none, or hears it elsewhere")
    name = "input_ids" if (written := "input_ids" in inputs) else host.text
    real, other = padded(host, inputs[name], inputs[family.padding])
    assert not real.all() and real.any(1).all() and not torch.equal(other, inputs[name])
    with attach(model, Masked(host.window)):
        one, two = (output(model, {**inputs, name: text})[host.image] for text in (inputs[name], other))
    seen = real if written and one.shape[:2] == real.shape else slice(None)
    torch.testing.assert_close(one[seen], two[seen], rtol=1e-4, atol=1e-5)


@pytest.mark.compile
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch, of torch's own code
@more_hosts
def test_compiled_agrees_with_eager(host: Host) -> None:
    """Once for each family: a graph takes long, and what is read alike compiles alike."""
    family = family_of(host.build()[0])
    if family.name in COMPILED:
        pytest.skip("another class of this family is compiled")
    COMPILED.add(family.name)
    torch._dynamo.reset()
    whole = family.whole
    model, inputs = host.shallow() if whole else host.build()
    stack = (Masked(host.window), Looking(Scaled()))
    with attach(model, *stack):
        eager = output(model, inputs)
    outer: Any = compiled(model, "aot_eager") if whole else torch.compile(model, backend="aot_eager")
    with attach(outer, *stack):
        torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
