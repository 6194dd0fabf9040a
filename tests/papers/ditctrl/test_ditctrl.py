"""What DiTCtrl plans and computes, against plain attention in float64 written out in full."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.partial import Parts, whole
from saccade.core.rows import Rows
from saccade.core.site import Site, Where, at
from saccade.core.stack import make_plan, run_plan
from saccade.core.state import Memory
from saccade.mechanisms.running_columns import RunningColumns, running_mean
from saccade.ops import columns, reference, sdpa
from saccade.papers.ditctrl import DiTCtrl, WordStrength
from saccade.papers.ditctrl.matched_regions import matched, stretched

LAYOUT = Layout.joint(text=3, grid=(2, 2, 3))
IMAGE, TEXT = LAYOUT.span("image"), LAYOUT.span("text")
FOUR = Rows.of("source", "target").under("uncond", "cond")
START = Clock()
ALL = DiTCtrl(deepest=1.0, where=at())


def site(layer: int = 0, layers: int = 1, kind: Any = "joint") -> Site:
    return Site(name=f"blocks.{layer}.attn", index=layer, count=layers, layer=layer, layers=layers, kind=kind, heads=2)


def call(seed: int = 0, rows: Rows = FOUR, layout: Layout = LAYOUT, **more: Any) -> AttentionCall:
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(rows.n, 2, layout.n, 4, generator=g, dtype=torch.float64) for _ in range(3))
    return plain_call(q, k, v, layout=layout, site=site(), rows=rows, **more)


def run(system: Any, given: AttentionCall, mem: Memory | None = None, clock: Clock = START) -> Tensor:
    items = {system.name: system.plan(given.site, clock)}
    plan = make_plan(items, given.site, given.layout_q, given.layout_k, torch.device("cpu"), torch.float64)

    def attend(one: AttentionCall, want_lse: bool, kernel: str | None) -> Parts:
        return whole(reference.run(one, want_lse=want_lse))

    return run_plan(plan, given, {system.name: mem or Memory()}, attend).total


def softmax(q: Tensor, k: Tensor, allowed: Tensor | None = None) -> Tensor:
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return (scores if allowed is None else scores.masked_fill(~allowed, -torch.inf)).softmax(-1)


def shared(given: AttentionCall) -> Tensor:
    """Rows u_s, u_t, c_s, c_t: sources by themselves, targets with their sources' keys and values."""
    out = softmax(given.q, given.k) @ given.v
    for target, source in ((1, 0), (3, 2)):
        out[target] = softmax(given.q[target], given.k[source]) @ given.v[source]
    return out


def object_mask(given: AttentionCall, row: int, tokens: list[int], threshold: float) -> Tensor:
    """Of one layer: joint softmax, head mean, sum over tokens, stretched in each frame, binarised."""
    heat = softmax(given.q[row], given.k[row])[:, IMAGE, TEXT].mean(0)[:, tokens].sum(-1).reshape(2, -1)
    low, high = heat.min(1, keepdim=True).values, heat.max(1, keepdim=True).values
    return ((heat - low) / (high - low + 1e-6) >= threshold).flatten()


def masked(given: AttentionCall, source: Tensor, target: Tensor) -> Tensor:
    """Two attentions of each target row, over text with the object and over text with the rest, joined."""
    out, text = shared(given), torch.ones(TEXT.stop, dtype=torch.bool)
    for row, theirs in ((1, 0), (3, 2)):
        for_words = torch.ones(TEXT.stop, LAYOUT.n, dtype=torch.bool)
        halves = [
            torch.cat((for_words, torch.cat((text, keys)).expand(IMAGE.stop - IMAGE.start, -1)))
            for keys in (source, ~source)
        ]
        fore, back = (softmax(given.q[row], given.k[theirs], half) @ given.v[theirs] for half in halves)
        chosen = torch.cat((text, target))[:, None]
        out[row] = torch.where(chosen, fore, back)
    return out


def test_targets_attend_with_keys_and_values_of_their_sources() -> None:
    given = call()
    torch.testing.assert_close(run(ALL, given), shared(given))


def test_targets_count_by_their_queries_alone() -> None:
    given, other = call(), call(seed=1)
    k, v = given.k.clone(), given.v.clone()
    k[[1, 3]], v[[1, 3]] = other.k[[1, 3]], other.v[[1, 3]]
    assert torch.equal(run(ALL, given), run(ALL, given.replace(k=k, v=v)))


def test_equal_rows_attend_as_ever() -> None:
    one = call()
    twins = one.replace(**{name: getattr(one, name)[[0, 0, 2, 2]] for name in ("q", "k", "v")})
    torch.testing.assert_close(run(ALL, twins), softmax(twins.q, twins.k) @ twins.v)


@pytest.mark.parametrize("threshold", [0.2, 0.3, 0.6])
def test_masks_keep_the_object_to_the_object(threshold: float) -> None:
    given, tokens = call(), [0, 2]
    system = DiTCtrl(words=(0, 2), threshold=threshold, deepest=1.0, where=at())
    source, target = (object_mask(given, row, tokens, threshold) for row in (2, 3))
    assert source.any() and not source.all() and not torch.equal(source, target)
    found = run(system, given)
    torch.testing.assert_close(found, masked(given, source, target))
    torch.testing.assert_close(found[:, :, TEXT], shared(given)[:, :, TEXT])  # words see all


def test_the_targets_own_words_make_its_mask() -> None:
    given = call()
    system = DiTCtrl(words=(0,), target_words=(1,), deepest=1.0, where=at())
    masks = object_mask(given, 2, [0], 0.3), object_mask(given, 3, [1], 0.3)
    torch.testing.assert_close(run(system, given), masked(given, *masks))


def test_full_masks_are_plain_sharing() -> None:
    given = call()
    torch.testing.assert_close(run(DiTCtrl(words=(1,), threshold=0.0, deepest=1.0, where=at()), given), shared(given))


def test_masked_weights_sum_to_one_and_an_empty_mask_leaves_words_to_see() -> None:
    given = call()
    ones = given.replace(v=torch.ones_like(given.v))
    torch.testing.assert_close(run(DiTCtrl(words=(1,), deepest=1.0, where=at()), ones), ones.v)
    nothing, everything = torch.zeros(1, 12, dtype=torch.bool), torch.ones(1, 12, dtype=torch.bool)
    own = SHARE(given)
    found = reference.run(own.replace(bias=matched(own, nothing, everything))).out
    torch.testing.assert_close(found, masked(given, nothing[0], everything[0]))
    assert found.isfinite().all()


def SHARE(given: AttentionCall) -> AttentionCall:
    return ALL.plan(site(), Clock())[0].operands(given, Memory())  # type: ignore[union-attr]


def test_without_words_to_see_a_query_whose_side_is_empty_sees_all() -> None:
    video = Layout.image_only((2, 2, 3))
    given = SHARE(call(layout=video))
    nothing, everything = torch.zeros(1, 12, dtype=torch.bool), torch.ones(1, 12, dtype=torch.bool)
    plain = softmax(given.q, given.k) @ given.v
    for source in (nothing, everything):
        for target in (nothing, everything):
            bias = matched(given, source, target)
            torch.testing.assert_close(reference.run(given.replace(bias=bias)).out, plain)
            rough = given.replace(q=given.q.float(), k=given.k.float(), v=given.v.float())
            found = sdpa.run(rough.replace(bias=matched(rough, source, target))).out  # shut keys would cost its digits
            torch.testing.assert_close(found, plain.float(), rtol=0, atol=1e-6)


def test_maps_are_means_over_the_sites_passed_and_of_one_forward() -> None:
    first, second, mem = call(), call(seed=1), Memory()
    watch = RunningColumns(words={"source": torch.tensor([[0, 2]]), "target": torch.tensor([[1]])})
    assert running_mean(mem, "source") is None
    for given in (first, second):
        assert watch.operands(given, mem) is given
    for role, row, tokens in (("source", 2, [0, 2]), ("target", 3, [1])):
        wanted = torch.stack(
            [softmax(c.q[row], c.k[row])[:, IMAGE, TEXT].mean(0)[:, tokens].sum(-1) for c in (first, second)]
        )
        torch.testing.assert_close(running_mean(mem, role).flatten(), wanted.mean(0))  # type: ignore[arg-type, union-attr]
    flat = stretched(torch.full((1, 2, 2, 2), 0.4))
    assert torch.equal(flat, torch.zeros_like(flat))  # a map without contrast shows nothing


def test_scores_are_summed_a_run_of_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    given, watch = call(), RunningColumns(words={"source": torch.tensor([[0]]), "target": torch.tensor([[1]])})
    whole, pieces = Memory(), Memory()
    watch.operands(given, whole)
    monkeypatch.setattr(columns, "HELD", 2 * LAYOUT.n * 2)  # two queries of one row
    held: list[int] = []
    scores = columns.key_scores
    monkeypatch.setattr(columns, "key_scores", lambda *args: held.append((out := scores(*args)).numel()) or out)
    watch.operands(given, pieces)
    torch.testing.assert_close(running_mean(pieces, "target"), running_mean(whole, "target"))
    assert len(held) > 10 and max(held) <= 4 * LAYOUT.n  # never all pairs


def test_a_branch_run_later_takes_the_masks_of_the_conditional_one() -> None:
    pair, mem = Rows.of("source", "target"), Memory()
    yes, no = call(rows=pair), call(seed=1, rows=pair)
    system = DiTCtrl(words=(0,), deepest=1.0, where=at())
    run(system, yes, mem, Clock(branch="cond"))
    mem.forward.clear()
    found = run(system, no, mem, Clock(branch="uncond"))
    heat = [softmax(yes.q[row], yes.k[row])[:, IMAGE, TEXT].mean(0)[:, 0].reshape(1, 2, 2, 3) for row in (0, 1)]
    source, target = ((stretched(h) >= 0.3).flatten() for h in heat)
    four = no.replace(**{name: getattr(no, name)[[0, 1, 0, 1]] for name in ("q", "k", "v")})
    torch.testing.assert_close(found, masked(four, source, target)[:2])


def test_a_sources_padding_comes_with_its_words() -> None:
    keep = torch.ones(4, LAYOUT.n, dtype=torch.bool)
    keep[0, 2], keep[1, 0], keep[2, 1:3] = False, False, False
    given = call()
    found = run(ALL, given.replace(mask=KeyPadding(keep)))
    out = softmax(given.q, given.k, keep[:, None, None]) @ given.v
    for target, source in ((1, 0), (3, 2)):
        out[target] = softmax(given.q[target], given.k[source], keep[source]) @ given.v[source]
    torch.testing.assert_close(found, out)


@pytest.mark.parametrize("tokens", [(1,), (0, 2)])
@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_a_words_weight_is_scaled_after_the_softmax(factor: float, tokens: tuple[int, ...]) -> None:
    given = call()
    p = softmax(given.q, given.k)
    for row in (1, 3):
        for token in tokens:
            p[row, :, IMAGE, token] *= factor
            p[row, :, token, IMAGE] *= factor
    torch.testing.assert_close(run(WordStrength(tokens=tokens, factor=factor, lock=0), given), p @ given.v)


def test_a_bias_before_the_softmax_keeps_sums() -> None:
    given = call()
    scores = given.q @ given.k.mT / 2
    for row in (1, 3):
        scores[row, :, IMAGE, 1] -= 5
        scores[row, :, 1, IMAGE] -= 5
    torch.testing.assert_close(run(WordStrength(tokens=(1,), bias=-5.0, lock=0), given), scores.softmax(-1) @ given.v)


def test_the_first_steps_lock_the_layout() -> None:
    given, system = call(), WordStrength(tokens=(1,), factor=0.0)
    locked, free = (run(system, given, clock=Clock(step=step, num_steps=9)) for step in (1, 2))
    shared_call = SHARE(given)
    p = softmax(shared_call.q, shared_call.k)
    p[1::2, :, IMAGE, 1], p[1::2, :, 1, IMAGE] = 0, 0
    torch.testing.assert_close(locked, p @ shared_call.v)
    assert not torch.equal(locked, free)
    assert WordStrength(tokens=(1,), lock=0).plan(site(), Clock()) == ()  # a factor of 1 is the model itself


@pytest.mark.parametrize(("layers", "first"), [(30, 25), (42, 35), (60, 50), (5, 4), (2, 1), (1, 0)])
def test_the_last_sixth_of_the_layers_and_the_papers_steps(layers: int, first: int) -> None:
    system = DiTCtrl()
    sites = [site(layer, layers) for layer in range(layers)]
    clocks = [Clock(step=step, num_steps=50) for step in range(50)]
    assert [s.layer for s in sites if system.plan(s, clocks[10])] == list(range(first, layers))
    assert [c.step for c in clocks if system.plan(sites[-1], c)] == list(range(2, 25))
    lists = DiTCtrl(layers=(0,), steps=(0, 49))
    assert [c.step for c in clocks if lists.plan(sites[0], c)] == [0, 49]
    assert layers == 1 or not lists.plan(sites[-1], clocks[0])
    for none in (DiTCtrl(layers=()), DiTCtrl(steps=()), DiTCtrl(deepest=0.0)):
        assert not any(none.plan(s, c) for s in sites for c in clocks)


def test_words_are_watched_up_to_the_last_layer_that_shares_and_in_conditional_rows_alone() -> None:
    system = DiTCtrl(words=(1,), layers=(1,), where=at())

    def kinds(layer: int, branch: str = "main", kind: Any = "joint") -> list[str]:
        return [type(item).__name__ for item in system.plan(site(layer, 4, kind), Clock(branch=branch))]

    assert kinds(0) == ["RunningColumns"] and kinds(1) == ["RunningColumns", "SharedOperands", "MatchedRegions"]
    assert kinds(2) == [] and kinds(0, "uncond") == [] and kinds(1, "uncond") == ["SharedOperands", "MatchedRegions"]
    assert kinds(0, kind="cross") == ["RunningColumns"] and kinds(0, kind="self") == []
    assert kinds(1, kind="self") == ["SharedOperands", "MatchedRegions"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiTCtrl(threshold=1.5), r"threshold=1.5 must be in \[0, 1\]"),
        (lambda: DiTCtrl(deepest=-0.1), r"deepest=-0.1 must be in \[0, 1\]"),
        (lambda: DiTCtrl(words=(-1,)), r"words=\(-1,\) must be whole numbers, 0 or above"),
        (lambda: DiTCtrl(layers=(1.5,)), r"layers=\(1.5,\) must be whole numbers"),  # type: ignore[arg-type]
        (lambda: DiTCtrl(target_words=(1,)), r"words=\(\) and target_words=\(1,\) must both name tokens"),
        (lambda: DiTCtrl(words=(1,), target_words=()), "must both name tokens of the object"),
        (lambda: DiTCtrl(where=at(heads=(0,))), "where.heads=.* belongs to attach"),
        (lambda: WordStrength(tokens=()), r"tokens=\(\) name no word"),
        (lambda: WordStrength(tokens=(0,), factor=-1.0), "factor=-1.0 must be 0 or above"),
        (lambda: WordStrength(tokens=(0,), factor=0.5, bias=-5.0), "left out where bias=-5.0 is given"),
        (lambda: WordStrength(tokens=(0,), lock=-1), r"lock=\(-1,\) must be whole numbers"),
        (lambda: WordStrength(tokens=(0,), where=Where(heads=(0,))), "where.heads="),
    ],
)
def test_options_out_of_range_are_named(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.bad_input
def test_tokens_that_do_not_fit_are_named() -> None:
    given = call()
    for system in (DiTCtrl(words=(3,), deepest=1.0, where=at()), WordStrength(tokens=(3,), factor=0.5)):
        with pytest.raises(
            ValueError, match="token 3 of a watched word is not in the text; the keys are text 3 | image"
        ):
            run(system, given)
    flat = Layout((*Layout.plain(3).segments, *Layout.plain(12, "image").segments))
    with pytest.raises(ValueError, match="the layout has 0 image grids where one is needed"):
        run(DiTCtrl(words=(0,), deepest=1.0, where=at()), call(layout=flat))
    watch = RunningColumns(words={"source": torch.tensor([[0], [1], [2]])})
    with pytest.raises(ValueError, match="words are given for 3 samples, the rows hold 1; give all"):
        watch.operands(given, Memory())
