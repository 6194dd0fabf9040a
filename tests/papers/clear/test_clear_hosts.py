"""CLEAR on tiny random models of the real classes, against masks written out by hand."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.errors import MissingError
from saccade.core.layout import Grid, Layout
from saccade.core.masks import Table
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site
from saccade.papers.clear import Clear
from saccade.systems.dense import Dense
from tests.hosts.tiny import BY_NAME, PLAIN, flux_inputs, output

pytestmark = pytest.mark.host


@dataclass(frozen=True)
class Case:
    """How many text tokens stand before and after the image grid at joint sites."""

    grid: Grid
    before: int = 0
    after: int = 0


CASES = {
    "flux": Case((1, 4, 4), before=6),
    "sd3": Case((1, 4, 4), after=6),
    "qwen_image": Case((1, 4, 5), before=6),
    "pixart": Case((1, 4, 4)),
    "dit": Case((1, 4, 4)),
    "wan": Case((3, 2, 3)),
    "plain": Case((1, 4, 4), before=3),
}
every_case = pytest.mark.parametrize("name", CASES)


@dataclass(frozen=True)
class ByHand:
    """The disc as a table of all pairs of tokens."""

    tables: Mapping[str, Table] = field(hash=False)
    name: str = "by hand"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.tables[site.kind],)


def by_hand(case: Case, radius: float) -> ByHand:
    """Self sites hold the image alone, joint sites text too."""
    places: list[tuple[int, ...] | None] = [*itertools.product(*map(range, case.grid))]
    joint = [None] * case.before + places + [None] * case.after
    return ByHand({"joint": table(joint, radius), "self": table(places, radius)})


def table(places: list[tuple[int, ...] | None], radius: float) -> Table:
    def near(a: tuple[int, ...] | None, b: tuple[int, ...] | None) -> bool:
        return a is None or b is None or sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) < radius**2

    number = torch.arange(len(places))
    return Table(number, number, torch.tensor([[near(a, b) for b in places] for a in places]))


def built(name: str) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    model, inputs = BY_NAME[name].build()
    return model, inputs, {"layout": PLAIN} if name == "plain" else {}


@every_case
def test_the_disc_is_where_the_host_puts_its_image_tokens(name: str) -> None:
    model, inputs, options = built(name)
    dense = output(model, inputs)
    case = CASES[name]
    with attach(model, by_hand(case, 1.5), **options):
        expected = output(model, inputs)
    with attach(model, Clear(radius=1.5), **options) as run:
        out = output(model, inputs)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    assert (out - dense).abs().max() > 1e-4
    assert {site.kind for site in run.sites} <= {"joint", "self"}
    assert torch.equal(output(model, inputs), dense)


@every_case
def test_a_radius_that_covers_the_grid_is_bitwise_the_host(name: str) -> None:
    model, inputs, options = built(name)
    dense = output(model, inputs)
    with attach(model, Clear(radius=99), **options):
        assert torch.equal(output(model, inputs), dense)


@every_case
def test_another_kernel_is_the_same_attention(name: str) -> None:
    model, inputs, options = built(name)
    with attach(model, Clear(radius=1.5), **options):
        chosen = output(model, inputs)
    with attach(model, Clear(radius=1.5), Dense(kernel="reference"), **options):
        exact = output(model, inputs)
    torch.testing.assert_close(chosen, exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["flux", "sd3", "dit", "plain"])
def test_pooled_keys_reach_every_site_and_their_weights_learn(name: str) -> None:
    model, inputs, options = built(name)
    with attach(model, **options) as run:
        sites = run.sites
    clear = Clear(radius=1.5, pool=2)
    trained = clear.trainable(sites)
    with attach(model, clear, **options):
        plain = output(model, inputs)
    with attach(model, Clear(radius=1.5), **options):
        assert (output(model, inputs) - plain).abs().max() > 1e-5
    with attach(model, trained, **options):
        torch.testing.assert_close(output(model, inputs), plain, atol=1e-6, rtol=1e-5)
        result = model(**inputs)
        (result[0] if isinstance(result, tuple) else result).pow(2).sum().backward()
    assert trained.weights is not None
    assert [p.grad is not None and bool(p.grad.any()) for p in trained.weights.parameters()] == [True] * len(sites)


def test_padded_text_stays_unseen() -> None:
    model, inputs, _ = built("qwen_image")
    other = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    other["encoder_hidden_states"][~inputs["encoder_hidden_states_mask"].bool()] += 3
    with attach(model, Clear(radius=1.5, pool=None)):
        torch.testing.assert_close(output(model, other), output(model, inputs), atol=1e-6, rtol=1e-5)


def test_the_ntk_factor_is_the_hosts_own_base_multiplied() -> None:
    model, inputs, _ = built("flux")
    with attach(model, Clear(radius=99, ntk=10)):
        out = output(model, inputs)
    plain = output(model, inputs)
    model.get_submodule("pos_embed").theta *= 10
    torch.testing.assert_close(out, output(model, inputs), atol=1e-5, rtol=1e-4)
    assert (out - plain).abs().max() > 1e-4


def test_another_resolution_gets_another_mask() -> None:
    model, _, _ = built("flux")
    small, large = (flux_inputs(height=side, width=side + 1) for side in (3, 6))
    with attach(model, Clear(radius=1.5, pool=None)):
        outs = [output(model, inputs) for inputs in (small, large, small)]
    for inputs, out in zip((small, large, small), outs, strict=True):
        with attach(model, Clear(radius=1.5)):
            assert torch.equal(output(model, inputs), out)


@pytest.mark.compile
def test_compiled_agrees_with_eager() -> None:
    torch._dynamo.reset()
    model, inputs = BY_NAME["flux"].shallow()
    clear = Clear(radius=1.5, pool=2, proportional=True, trained_tokens=12, ntk=3)
    with attach(model, clear):
        eager = output(model, inputs)
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with attach(outer, clear):
        torch.testing.assert_close(output(outer, inputs), eager, rtol=1e-5, atol=1e-5)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = 1

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], dropout_p=0.1)[:, 0]


def run_clear(model: nn.Module, inputs: dict[str, Any], clear: Clear, **options: Any) -> Tensor:
    with attach(model, clear, **options):
        return output(model, inputs)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            Layout.joint(text=3, grid=(1, 4, 5)),
            r"got 19 queries and 19 keys, its layout says 23 and 23 \(text 3 \| image",
        ),
        (Layout.plain(19), r"Disc\(radius=2\) needs an image grid .* text 19; give the layout of the sequence"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout: Layout, message: str) -> None:
    model, inputs, _ = built("plain")
    with pytest.raises(ValueError, match=message):
        run_clear(model, inputs, Clear(radius=2), layout=layout)


@pytest.mark.bad_input
def test_what_cannot_be_done_is_refused_by_name() -> None:
    model, inputs, _ = built("qwen_image")
    with pytest.raises(ValueError, match=r"img_shapes=.*differ in one batch; run each resolution in its own batch"):
        run_clear(model, {**inputs, "img_shapes": [[(1, 4, 5)], [(1, 2, 10)]]}, Clear(radius=2))
    with pytest.raises(ValueError, match=r"grid 4 x 5 is not divisible by size=2; resize the image or change size"):
        run_clear(model, inputs, Clear(radius=2, pool=2))
    with pytest.raises(MissingError, match=r"offers no '(host\.)?rotary' at site 'transformer_blocks.0"):
        run_clear(*built("sd3")[:2], Clear(radius=2, ntk=10))
    with pytest.raises(ValueError, match=r"dropout_p=0.1 at site .*; call eval\(\) on the model, or set dropout to 0"):
        run_clear(Dropping(), {"x": torch.randn(1, 16, 4)}, Clear(radius=2), layout=Layout.image_only((1, 4, 4)))
