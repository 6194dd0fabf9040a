"""Registered means tested: what every system of the catalogue must do."""

import dataclasses
import re
from typing import Any

import pytest
import torch

from saccade.analysis import LayerSets
from saccade.core.catalogue import lookup, system, systems
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.projections import LowRankTerm
from saccade.core.site import Site, at
from saccade.core.specs import parse_stack
from saccade.core.stack import make_plan
from saccade.mechanisms.low_rank import LowRank
from saccade.models import Architecture
from saccade.papers.diffuhaul import Blob
from saccade.papers.dreamrelation import RelationLora
from saccade.papers.lamic import Box, Entity

NAMES = tuple(systems())
ATTACHED = tuple(name for name in NAMES if lookup(name).attaches)
HALVES = tuple(Entity(words=(i,), region=Box(x0=i / 2, y0=0, x1=(i + 1) / 2, y1=1)) for i in range(2))
BLOB = Blob(x=0.25, y=0.25, a=0.2, b=0.2)
SITE = Site(name="blocks.0.attn", kind="joint", heads=2)
TERM = LowRankTerm(torch.zeros(2, 8), torch.zeros(8, 2))
OPTIONS: dict[str, dict[str, Any]] = {  # options without a default
    "attencraft": {"learned": LowRank({(SITE.name, "add_k_proj"): TERM})},
    "dreamrelation": {"learned": RelationLora({"relation": LowRank({(SITE.name, "to_q"): TERM})}, rank=2)},
    "clear": {"radius": 3.0}, "freeflux": {"layers": LayerSets(sites=(SITE.name,), content=(SITE.name,))},
    "diffuhaul": {"source": (BLOB,), "target": (BLOB.moved((0.75, 0.75)),)},
    "lamic": {"entities": HALVES},
    "mask2dit": {"scenes": 2, "text_tokens": None, "along": "rows"},
    "pt_dit": {"side": 16}, "siamlayout": {"adapter": "layout.safetensors"},
    "softpag": {"layers": (0,)}, "vmoba": {"tile": (2, 3)}, "word_strength": {"tokens": (0,)},
}  # fmt: skip
LAYOUT = Layout.joint(text=4, grid=(1, 6, 6))


def made(name: str, **more: Any) -> Any:
    return lookup(name).load()(**OPTIONS.get(name, {}), **more)


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_tells_all_that_a_reader_needs(name: str) -> None:
    entry = lookup(name)
    assert entry.summary.endswith(".") and entry.hosts and entry.kind
    assert re.fullmatch(r"\d{4}\.\d{5}", entry.paper.arxiv)
    assert entry.paper.title.split(":")[0] in entry.paper.bibtex.replace("{", "").replace("}", "")
    assert re.search(r"year += \{\d{4}\}", entry.paper.bibtex) and 2000 <= entry.paper.year <= 2030


@pytest.mark.parametrize("name", ATTACHED)
def test_a_system_is_a_frozen_value_under_its_own_name(name: str) -> None:
    one, two = made(name), made(name)
    assert one == two and one.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.where = at("other")


@pytest.mark.parametrize("name", sorted({*NAMES} - {*ATTACHED}))
def test_an_architecture_builds(name: str) -> None:
    with torch.device("meta"):
        assert isinstance(made(name), Architecture)
    with pytest.raises(ValueError, match=f"'{name}' is an architecture"):
        parse_stack(name)


@pytest.mark.parametrize("name", ATTACHED)
def test_equal_phases_get_equal_plans_and_prepare(name: str) -> None:
    first, second = (made(name).plan(SITE, Clock(step=step, num_steps=40)) for step in (0, 1))
    assert first == second
    plan = make_plan({name: first}, SITE, LAYOUT, LAYOUT, torch.device("cpu"))
    assert plan.empty is (not first)


@pytest.mark.parametrize("name", ATTACHED)
def test_nothing_is_planned_outside_of_where(name: str) -> None:
    early = made(name, where=at("blocks.*", during=(0.0, 0.5)))
    assert early.plan(SITE, Clock(step=2, num_steps=4)) == ()
    assert early.plan(Site(name="other", kind="joint", heads=2), Clock(num_steps=4)) == ()
    assert made(name).plan(Site(name="blocks.0.cross", kind="cross", heads=2), Clock()) == ()


def test_names_are_unique_and_an_unknown_one_lists_what_there_is() -> None:
    entry = lookup("clear")
    with pytest.raises(ValueError, match="a system named 'clear' is registered already"):
        system("clear", paper=entry.paper, kind="x", seam="call", hosts=())(type("Other", (), {}))
    with pytest.raises(ValueError, match="no system is named 'cleer'; there are .*clear, consistedit, "):
        lookup("cleer")
