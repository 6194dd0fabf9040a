"""The shift and the weights on one call, against the whole map written out in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.core.biases import PerKey
from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding, Table
from saccade.core.partial import Parts
from saccade.core.rows import Rows
from saccade.core.state import MemoryBank
from saccade.ops.parts import attend_parts
from saccade.papers.in_context_brush.context_shift import ContextShift, contribution, head_weights
from saccade.papers.in_context_brush.token_roles import TokenRoles
from tests.papers.in_context_brush.written_out import Head, brushed

TEXT, GRID = 5, (1, 4, 6)
LAYOUT = Layout.joint(text=TEXT, grid=GRID)
LAST = Layout.joint(text=TEXT, grid=GRID, text_first=False)
WHOLE = torch.arange(24).reshape(4, 6)
ROLES = {  # demonstration and query within the image
    "top": (WHOLE[:2].flatten(), WHOLE[2:].flatten()),
    "left": (WHOLE[:, :3].flatten(), WHOLE[:, 3:].flatten()),
}
FACTORS = {"alpha_text": 0.3, "alpha_demo": 0.7, "beta": 0.2}


def call(layout: Layout = LAYOUT, dtype: torch.dtype = torch.float64, **fields: Any) -> AttentionCall:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, layout.n, 8, dtype=torch.float64).to(dtype).unbind(0)
    return plain_call(2 * q, k, v, layout=layout, **fields)


def mechanism(demo: Any = "top", words: Any = None, **options: Any) -> ContextShift:
    query = options.pop("query", None)
    return ContextShift(roles=TokenRoles(demo=demo, words=words, query=query), **{**FACTORS, **options})


def run(made: ContextShift, given: AttentionCall) -> Tensor:
    made.check(given.layout_q, given.layout_k)
    memory = MemoryBank().of("brush", "call", "main")
    return made.blend(given, attend_parts(given, want_lse=True), memory).total


def written(given: AttentionCall, half: str = "top", rows: str = "query", words: Any = None, **masks: Any) -> Head:
    start = given.layout_q.span("image").start
    demo, query = (numbers + start for numbers in ROLES[half])
    text = given.layout_k.is_("text").nonzero()[:, 0]
    return brushed(
        given.q, given.k, given.v, text=text if words is None else text[list(words)], demo=demo, query=query,
        alphas=(FACTORS["alpha_text"], FACTORS["alpha_demo"]), beta=FACTORS["beta"], rows=rows, **masks,
    )  # fmt: skip


@pytest.mark.parametrize("rows", ["query", "all"])
@pytest.mark.parametrize("half", ["top", "left"])
@pytest.mark.parametrize("layout", [LAYOUT, LAST], ids=["text-first", "text-last"])
def test_it_is_what_the_whole_map_gives(layout: Layout, half: str, rows: str) -> None:
    given = call(layout)
    torch.testing.assert_close(run(mechanism(half, rows=rows), given), written(given, half, rows).out)


def test_words_leave_padding_out_of_the_text() -> None:
    given = call()
    made, wanted = run(mechanism(words=(0, 3)), given), written(given, words=(0, 3)).out
    torch.testing.assert_close(made, wanted)
    assert (made - run(mechanism(), given)).abs().max() > 1e-3


@pytest.mark.parametrize("half", ["top", "left"])
def test_masks_padding_and_biases_of_the_call_hold(half: str) -> None:
    keep = torch.ones(2, LAYOUT.n, dtype=torch.bool)
    keep[0, 3:TEXT], keep[1, :TEXT] = False, False  # a short caption, and none at all
    label = torch.arange(LAYOUT.n) % 3
    allow = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=torch.bool)
    bias = torch.randn(1, 3, LAYOUT.n, dtype=torch.float64)
    table = Table(label, label, allow)
    seen = allow[label][:, label][None, None]
    padding = keep[:, None, None, :]
    for fields, masks in (
        ({"mask": KeyPadding(keep)}, {"allowed": padding}),
        ({"mask": table}, {"allowed": seen}),
        (
            {"mask": table & KeyPadding(keep), "bias": PerKey(bias)},
            {"allowed": seen & padding, "bias": bias[:, :, None]},
        ),
    ):
        given = call(**fields)
        made = run(mechanism(half), given)
        torch.testing.assert_close(made, written(given, half, **masks).out)


def test_shared_key_heads_serve_their_query_heads() -> None:
    given = call()
    shared = given.replace(q=torch.cat((given.q, given.q.flip(1)), dim=1))
    repeated = shared.replace(k=given.k.repeat_interleave(2, dim=1), v=given.v.repeat_interleave(2, dim=1))
    masked = Table(torch.zeros(LAYOUT.n).long(), torch.zeros(LAYOUT.n).long(), torch.ones(1, 1, dtype=torch.bool))
    for one, two in ((shared, repeated), (shared.replace(mask=masked), repeated)):
        torch.testing.assert_close(run(mechanism(), one), run(mechanism(), two))


def test_the_pieces_add_up_and_taking_both_away_leaves_the_query_itself() -> None:
    given = call()
    found, parts = written(given), attend_parts(given, want_lse=True)
    at = TokenRoles().on(LAYOUT, LAYOUT)
    text, demo = (contribution(given, parts, at.query, keys) for keys in (at.text, at.demo))
    assert text is not None and demo is not None
    torch.testing.assert_close(text[0] + demo[0] + found.own, found.base[:, :, TEXT + 12 :])
    torch.testing.assert_close(text[1], found.mass_text)
    assert (text[1] + demo[1] <= 1).all()
    alone = run(mechanism(alpha_text=-1.0, alpha_demo=-1.0, beta=0.0), given)
    torch.testing.assert_close(alone[:, :, TEXT + 12 :], found.own)


def test_the_shift_is_linear_and_the_mass_of_a_row_is_one_and_what_was_added() -> None:
    given = call()
    found = written(given)
    made = run(mechanism(beta=0.0), given) - found.base
    wanted = 0.3 * found.text + 0.7 * found.demo
    torch.testing.assert_close(made[:, :, TEXT + 12 :], wanted)
    ones = given.replace(v=torch.ones_like(given.v))
    mass = run(mechanism(beta=0.0), ones)[:, :, TEXT + 12 :, 0]
    torch.testing.assert_close(mass, 1 + 0.3 * found.mass_text + 0.7 * found.mass_demo)
    assert (mass <= 1.7).all()


@pytest.mark.parametrize("half", ["top", "left"])
def test_only_rows_of_the_query_change_to_the_bit(half: str) -> None:
    given = call(dtype=torch.float32)
    before, after = attend_parts(given, want_lse=True).total, run(mechanism(half), given)
    changed = torch.zeros(LAYOUT.n, dtype=torch.bool)
    changed[TEXT + ROLES[half][1]] = True
    assert torch.equal(before[:, :, ~changed], after[:, :, ~changed])
    assert (before != after)[:, :, changed].any(-1).all()


def test_weights_lie_between_one_and_one_and_beta_and_follow_the_text_mass() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]], dtype=torch.float64)
    weights = head_weights(scores, 0.2)
    assert weights[0, 1] == 1 and weights[1].eq(1).all()
    torch.testing.assert_close(weights[0], torch.tensor([1.2, 1.0, 1.1], dtype=torch.float64))
    torch.testing.assert_close(head_weights(7 * scores + 11, 0.2)[:1], weights[:1])
    assert (weights >= 1).all() and (weights <= 1.2).all()
    assert head_weights(torch.rand(4, 6), 0.5).amin(1).eq(1).all()


def test_weights_of_mean_one_keep_the_mean_of_the_heads() -> None:
    given = call()
    plain, levelled = run(mechanism(), given), run(mechanism(mean_one=True), given)
    factor = (levelled / plain)[:, :, -1, 0]
    weights = written(given).weights
    torch.testing.assert_close(factor, (1 / weights.mean(-1, keepdim=True)).expand_as(factor))


def test_weights_follow_from_the_probabilities_before_the_shift() -> None:
    given = call()
    apart = run(mechanism(beta=0.0), given)[:, :, TEXT + 12 :] * written(given).weights[..., None, None]
    torch.testing.assert_close(run(mechanism(), given)[:, :, TEXT + 12 :], apart)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_stays_close(dtype: torch.dtype) -> None:
    given = call(dtype=dtype)
    wanted = written(given.replace(q=given.q.double(), k=given.k.double(), v=given.v.double()))
    made = run(mechanism(), given)
    assert made.dtype == dtype
    torch.testing.assert_close(
        made.double(),
        wanted.out,
        atol=1e-5 if dtype == torch.float32 else 3e-2,
        rtol=0 if dtype == torch.float32 else 2e-2,
    )
    parts = attend_parts(given, want_lse=True)
    text = contribution(given, parts, TokenRoles().on(LAYOUT, LAYOUT).query, slice(0, TEXT))
    assert text is not None and text[1].dtype == torch.float32


def test_keys_that_were_appended_belong_to_no_group() -> None:
    given = call()
    more = torch.randn(2, 2, 3, 4, 8, dtype=torch.float64)
    longer = given.append(Segment("memory", "extra", 4), *more)
    torch.testing.assert_close(run(mechanism(), longer), written(longer).out)


def test_gradients_flow_through_it() -> None:
    given = call()
    tensors = [x.clone().requires_grad_() for x in (given.q, given.k, given.v)]
    trained = given.replace(q=tensors[0], k=tensors[1], v=tensors[2])
    made = torch.autograd.grad(run(mechanism(), trained).square().sum(), tensors)
    wanted = torch.autograd.grad(written(trained).out.square().sum(), tensors)
    for one, two in zip(made, wanted, strict=True):
        torch.testing.assert_close(one, two)


def test_rows_of_several_branches_are_treated_alike() -> None:
    given = call()
    both = run(mechanism(), given.replace(rows=Rows.of("uncond", "cond")))
    for row in range(2):
        alone = given.replace(q=given.q[row : row + 1], k=given.k[row : row + 1], v=given.v[row : row + 1])
        torch.testing.assert_close(run(mechanism(), alone)[0], both[row])


def test_an_output_of_parts_is_taken_whole() -> None:
    given, made = call(), mechanism()
    parts = attend_parts(given, want_lse=True)
    split = Parts(
        torch.stack((parts.outs[0], parts.outs[0])), torch.full((2, 2, 3, LAYOUT.n), 0.5).double(), lse=parts.lse
    )
    memory = MemoryBank().of("brush", "call", "main")
    torch.testing.assert_close(made.blend(given, split, memory).total, run(made, given))
