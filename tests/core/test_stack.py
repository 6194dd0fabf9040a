"""The staged verbs: order, conflicts, what each verb may touch."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from saccade.core.biases import Bias, BiasRule, PerKey
from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import ConflictError
from saccade.core.groups import KeyGroups
from saccade.core.layout import Layout, Segment
from saccade.core.mechanism import Appended, Mechanism, Pairs, PlanItem
from saccade.core.partial import Partial, Parts, whole
from saccade.core.places import Disc
from saccade.core.site import Site
from saccade.core.stack import Plan, make_plan, run_plan
from saccade.core.state import Memory, MemoryBank

LAYOUT = Layout.joint(text=2, grid=(1, 3, 3))
SITE = Site(name="blocks.0.attn", kind="joint", heads=2)


def attend(call: AttentionCall, want_lse: bool, kernel: str | None = None) -> Parts:
    scores = call.scale * call.q @ call.k.mT
    if call.bias is not None:
        scores = scores + call.bias.materialize(*scores.shape[-2:])
    if call.mask is not None:
        scores = scores.masked_fill(~call.mask.materialize(call.layout_q, call.layout_k), -torch.inf)
    return whole(Partial(scores.softmax(-1) @ call.v, scores.logsumexp(-1) if want_lse else None))


def run(**items: tuple[PlanItem, ...]) -> tuple[Tensor, Plan, MemoryBank]:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, LAYOUT.n, 4, generator=g, dtype=torch.float64) for _ in range(3))
    call = plain_call(q, k, v, layout=LAYOUT, site=SITE)
    plan = make_plan(items, SITE, LAYOUT, LAYOUT, torch.device("cpu"))
    bank = MemoryBank()
    return run_plan(plan, call, {name: bank.of(name, SITE.name) for name in items}, attend).total, plan, bank


@dataclass(frozen=True)
class Sharpen(Mechanism):
    factor: float

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        return call.replace(scale=call.scale * self.factor)


@dataclass(frozen=True)
class Remember(Mechanism):
    name: str = "memory"

    def appends(self, layout: Layout) -> tuple[Appended, ...]:
        return (Appended(segment=Segment(self.name, "extra", 2)),)

    def keys(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        return call.append(Segment(self.name, "extra", 2), call.k[:, :, :2] * 3, call.v[:, :, :2] * 5)


@dataclass(frozen=True)
class Scale(Mechanism):
    factor: float
    on: str = "attention"

    @property
    def acts_on(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.on

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        return parts.plus(torch.full_like(parts.total, self.factor)).gain(torch.tensor(self.factor))


@dataclass(frozen=True)
class Watch(Mechanism):
    seen: list[tuple[int, bool]] = field(default_factory=list, compare=False)
    needs = frozenset({"lse"})

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        self.seen.append((call.k.shape[2], parts.lse is not None))
        mem.put("mean", parts.total.mean())


@dataclass(frozen=True)
class PreferText(BiasRule):
    def bind(
        self, layout_q: Layout, layout_k: Layout, heads: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Bias:
        return PerKey(layout_k.is_("text", device).to(dtype)[None, None])


@dataclass(frozen=True)
class Group(Mechanism):
    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        return Pairs(groups=KeyGroups(call.layout_k.is_("text").long()[None], 2))


def test_the_empty_plan_is_the_plain_call() -> None:
    out, plan, _ = run()
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, LAYOUT.n, 4, generator=g, dtype=torch.float64) for _ in range(3))
    assert plan.empty
    assert torch.equal(out, attend(plain_call(q, k, v, layout=LAYOUT), False).total)


def test_masks_and_biases_commute() -> None:
    a = run(one=(Disc(2),), two=(PreferText(),), three=(Disc(1.5),))[0]
    b = run(three=(Disc(1.5),), two=(PreferText(),), one=(Disc(2),))[0]
    torch.testing.assert_close(a, b, atol=0, rtol=1e-14)


def test_order_of_stages_does_not_depend_on_the_order_of_systems() -> None:
    a = run(one=(Sharpen(2.0),), two=(Remember(),), three=(Scale(0.5, "output"),), four=(Scale(3.0),))[0]
    b = run(three=(Scale(0.5, "output"),), four=(Scale(3.0),), two=(Remember(),), one=(Sharpen(2.0),))[0]
    assert torch.equal(a, b)


def test_blends_of_one_pass_are_applied_in_the_users_order() -> None:
    a, b = run(one=(Scale(2.0),), two=(Scale(3.0),))[0], run(two=(Scale(3.0),), one=(Scale(2.0),))[0]
    assert not torch.allclose(a, b)


def test_observers_see_final_keys_and_change_nothing() -> None:
    watch = Watch()
    out, plan, bank = run(watch=(watch,), memory=(Remember(),))
    assert torch.equal(out, run(memory=(Remember(),))[0])
    assert watch.seen == [(LAYOUT.n + 2, True)] and plan.want_lse
    bank.tick()
    assert bank.of("watch", SITE.name).get("mean") == out.mean()


def test_appended_keys_are_seen_by_image_queries_only() -> None:
    plain, remembered = run()[0], run(memory=(Remember(),))[0]
    text = LAYOUT.is_("text")
    torch.testing.assert_close(remembered[:, :, text], plain[:, :, text])
    assert not torch.allclose(remembered[:, :, ~text], plain[:, :, ~text])


def test_two_systems_on_one_operand_are_a_conflict_naming_both() -> None:
    with pytest.raises(ConflictError, match="'one' and 'two' both change scale at site 'blocks.0.attn'"):
        run(one=(Sharpen(2.0),), two=(Sharpen(3.0),))


def test_two_segments_of_one_name_are_a_conflict_naming_both() -> None:
    with pytest.raises(ConflictError, match="'one' and 'two' both bring a segment 'memory'"):
        run(one=(Remember(),), two=(Remember(),))
    with pytest.raises(ConflictError, match="'the host' and 'one' both bring a segment 'text'"):
        run(one=(Remember("text"),))


def test_two_groupings_are_a_conflict() -> None:
    with pytest.raises(ConflictError, match="'two' sets key groups another system has set"):
        run(one=(Group(),), two=(Group(),))


def test_a_verb_may_only_touch_what_is_its_own() -> None:
    @dataclass(frozen=True)
    class MaskInOperands(Mechanism):
        def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
            return call.replace(mask=Disc(1))

    @dataclass(frozen=True)
    class ScaleInKeys(Mechanism):
        def keys(self, call: AttentionCall, mem: Memory) -> AttentionCall:
            return call.replace(scale=1.0 + call.scale)

    with pytest.raises(ConflictError, match="changed layout or mask in `operands`"):
        run(bad=(MaskInOperands(),))
    with pytest.raises(ConflictError, match="changed q or scale in `keys`"):
        run(bad=(ScaleInKeys(),))


def test_keys_must_append_what_was_told() -> None:
    @dataclass(frozen=True)
    class Silent(Remember):
        def keys(self, call: AttentionCall, mem: Memory) -> AttentionCall:
            return call

    with pytest.raises(ValueError, match="`appends` must tell what `keys` appends"):
        run(bad=(Silent(),))
