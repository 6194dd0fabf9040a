"""SoftPAG's options: what they plan, what is neutral, what is refused."""

from typing import Any

import pytest

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.site import Site, at
from saccade.core.specs import parse_stack
from saccade.papers.headhunter import SoftPAG
from tests.hosts.tiny import BY_NAME

SITES = [Site(name=f"blocks.{i}.attn", index=i, count=4, layer=i, kind="joint", heads=3) for i in range(4)]


def test_heads_and_layers_are_planned_where_they_are() -> None:
    system = SoftPAG(heads=((1, 2), (1, 0)), layers=(3,), kind="uniform", u=0.5)
    plans = [system.plan(site, Clock()) for site in SITES]
    assert [plan[0].heads if plan else () for plan in plans] == [(), (0, 2), (), (0, 1, 2)]
    assert {(m.kind, m.u, m.scope) for plan in plans for m in plan} == {("uniform", 0.5, "image_block")}
    assert system.plan(SITES[1], Clock(step=3, num_steps=5)) == plans[1]


@pytest.mark.parametrize(
    "options",
    [{}, {"layers": (0,), "u": 0}, {"layers": (0,), "w": 0}, {"layers": (0,), "kind": "temperature", "tau": 1.0}],
)
def test_nothing_weakened_or_nothing_steered_plans_nothing(options: dict[str, Any]) -> None:
    system = SoftPAG(**options)
    assert system.neutral and system.weak_weight(Clock()) == 0
    assert system.plan(SITES[0], Clock()) == ()


def test_other_branches_run_in_turn_have_no_weak_rows() -> None:
    system = SoftPAG(layers=(0,))
    assert system.plan(SITES[0], Clock(branch="uncond")) == () != system.plan(SITES[0], Clock(branch="cond"))


def test_a_span_of_steps_can_be_steered() -> None:
    system = SoftPAG(layers=(0,), w=3.0, where=at(during=(0.25, 0.5)))
    assert [system.weak_weight(Clock(step=i, num_steps=4)) for i in range(4)] == [0, 3, 0, 0]


def test_it_is_written_as_text() -> None:
    (system,) = parse_stack("softpag(heads=((0, 1), (3, 2)), kind=uniform, u=0.5, w=3, scope=all)")
    assert system == SoftPAG(heads=((0, 1), (3, 2)), kind="uniform", u=0.5, w=3, scope="all")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"u": 1.5}, r"u=1.5 must be in \[0, 1\]"),
        ({"u": float("nan")}, r"u=nan must be in \[0, 1\]"),
        ({"w": float("inf")}, "w=inf must be a finite number"),
        ({"kind": "temperature", "tau": 0}, "tau=0 must be above 0"),
        ({"kind": "blur"}, "kind='blur' must be one of .*'identity', 'uniform'"),
        ({"scope": "text"}, "scope='text' must be one of"),
        ({"heads": ((0, 1), (0, 1))}, r"\(0, 1\) is given twice"),
        ({"layers": (2, 2)}, r"\(2,\) is given twice"),
        ({"heads": ((2, 1),), "layers": (2,)}, r"head \(2, 1\) lies in layer 2, all of whose heads are given"),
        ({"heads": (3,)}, r"heads=\(3,\) must be pairs \(layer, head\)"),
        ({"heads": ((0, -1),)}, "must be pairs"),
        ({"layers": (-1,)}, "must be layers counted from 0"),
        ({"where": at(heads=(0,))}, "cannot be chosen here"),
        ({"where": at(kind="cross")}, "where.kinds holds 'cross'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SoftPAG(**options)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "wrong"),
    [({"heads": ((0, 2),)}, r"\(0, 2\)"), ({"heads": ((4, 0),)}, r"\(4, 0\)"), ({"layers": (9,)}, r"\(9,\)")],
)
def test_heads_the_model_does_not_have_are_refused_with_those_there_are(options: dict[str, Any], wrong: str) -> None:
    model, _ = BY_NAME["flux"].build()
    with pytest.raises(
        SelectorError, match=rf"weakens {wrong}, which is not attached; there are layers 0 to 3 with 2 heads each"
    ):
        attach(model, SoftPAG(**options))
