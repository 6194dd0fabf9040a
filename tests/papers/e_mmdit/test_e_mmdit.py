"""The doors to E-MMDiT: what the options build, and subregions on trained models as a mask."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.layout import Layout, Segment
from saccade.core.masks import Table
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site, at
from saccade.papers import EMMDiT
from saccade.papers.e_mmdit.subregions import FULL, Pattern
from saccade.papers.e_mmdit.system import SameSubregion, Subregions
from tests.hosts.tiny import BY_NAME, output

TEXT, IMAGE = 6, 16
TEXT_FIRST = {"flux": True, "sd3": False}
STRONG = ((2, 1), (4, 1), (4, 4))


@dataclass(frozen=True)
class ByHand:
    """A table of all pairs of tokens for each site."""

    tables: Mapping[str, Table] = field(hash=False)
    name: str = "by hand"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.tables[site.name],)


def by_hand(pattern: Pattern, text_first: bool, words: int = TEXT) -> Table:
    regions, run = pattern
    prompt, picture = ([t // run % regions for t in range(n)] for n in (words, IMAGE))
    label = prompt + picture if text_first else picture + prompt
    number = torch.arange(len(label))
    return Table(number, number, torch.tensor([[a == b for b in label] for a in label]))


def test_no_one_is_asked_for_a_model_that_is_not() -> None:
    with pytest.raises(ValueError, match="size='256px' of EMMDiT is unknown; choose one of 512px, 1024px, tiny"):
        EMMDiT.of("256px")


@pytest.mark.parametrize("pattern", [(4, 1), (4, 4), (3, 2)])
def test_the_mask_names_pictures_and_words_and_joins_their_groups(pattern: Pattern) -> None:
    layout = Layout.joint(text=TEXT, grid=(1, 4, 4), text_first=False)
    mask = SameSubregion(*pattern)
    assert torch.equal(mask.materialize(layout, layout)[0, 0], by_hand(pattern, False).allow)
    longer = layout.append(Segment("memory", "extra", 2))
    assert mask.materialize(layout, longer)[..., -2:].all()


@pytest.mark.host
@pytest.mark.parametrize("name", TEXT_FIRST)
def test_each_site_of_a_host_gets_its_own_groups(name: str) -> None:
    model, inputs = BY_NAME[name].build()
    dense = output(model, inputs)
    system = Subregions(patterns=STRONG)
    with attach(model, system) as run:
        out = output(model, inputs)
    tables = {
        site.name: by_hand(STRONG[site.index % 3], TEXT_FIRST[name], TEXT if site.kind == "joint" else 0)
        for site in run.sites
    }
    with attach(model, ByHand(tables)):
        torch.testing.assert_close(out, output(model, inputs), atol=1e-6, rtol=1e-5)
    assert (out - dense).abs().max() > 1e-4 and torch.equal(output(model, inputs), dense)


@pytest.mark.host
def test_one_region_is_bitwise_the_host() -> None:
    model, inputs = BY_NAME["sd3"].build()
    dense = output(model, inputs)
    with attach(model, Subregions(patterns=FULL)):
        assert torch.equal(output(model, inputs), dense)


def test_sites_are_planned_in_turn_and_heads_may_be_chosen() -> None:
    sites = [Site(name=f"blocks.{i}", index=i, count=4, kind="joint", heads=3) for i in range(4)]
    plans = [Subregions().plan(site, Clock()) for site in sites]
    assert plans == [(), (SameSubregion(4, 1),), (SameSubregion(4, 4),), ()]
    (mask,) = Subregions(where=at(heads=(0, 2))).plan(sites[1], Clock())
    layout = Layout.joint(text=8, grid=(1, 4, 4))
    full = mask.materialize(layout, layout).flatten(2).all(-1)[0]  # type: ignore[union-attr]
    assert full.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("patterns", "message"), [((), r"patterns=\(\) names no"), (((0, 1),), "regions=0, run=1 must be at least 1")]
)
def test_bad_patterns(patterns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Subregions(patterns=patterns)
