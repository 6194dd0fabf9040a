"""The tables of docs/hosts.md: up to date, and true of the tiny models."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from saccade.core.layout import Layout
from saccade.families.library import FAMILIES
from saccade.families.tables import contract, mends, offers
from saccade.run.attached_model import family_of, sites_of
from saccade.seam.family import Family
from tests.hosts.host import Host
from tests.hosts.test_compile import IN_PARTS, WHOLE
from tests.hosts.tiny import BY_NAME, HOSTS, MORE

pytestmark = pytest.mark.host
PAGE = Path(__file__).resolve().parents[2] / "docs" / "hosts.md"
KNOWN = (*(host for host in HOSTS if host.name != "plain"), *MORE)
every_host = pytest.mark.parametrize("host", KNOWN, ids=lambda host: host.name)


def layouts(host: Host) -> Iterator[tuple[Family, Layout, Layout]]:
    """Family, queries and keys of every kind of site."""
    model, inputs = host.build()
    family = family_of(model)
    first = {site.kind: site for site, _ in reversed(sites_of(model, family))}
    for site in first.values():
        yield family, *family.layout(model, inputs, site)


@pytest.mark.parametrize("table", [contract, offers, mends])
def test_the_page_is_up_to_date(table: Callable[[], str]) -> None:
    assert table() in PAGE.read_text(), "run saccade reproduce hosts --page"


def test_every_family_has_a_row_in_each_table_and_a_tiny_model() -> None:
    for family in FAMILIES:
        assert f"| {family.name} |" in contract() and f"| {family.name} |" in offers()
        assert all(mend in mends() for mend in family.unsupported.values())
    assert {family_of(host.build()[0]).name for host in KNOWN} == {family.name for family in FAMILIES}


@every_host
def test_text_stands_where_the_family_says(host: Host) -> None:
    for family, q, k in layouts(host):
        kinds = [segment.kind for segment in k.segments if segment.kind in ("text", "image")]
        alone = kinds == ["image"] and "self" in family.sites.values()
        match family.text:
            case "first":
                assert kinds == ["text", "image"] or alone
            case "last":
                assert kinds == ["image", "text"] or alone
            case "apart":
                assert q.of("image") and not q.text_n and (q == k or k.text_n == k.n)
            case "among":
                assert kinds[0] == kinds[-1] == "text" and "image" in kinds
            case _:
                assert set(kinds) == {"text" if family.text == "only" else "image"}


@every_host
def test_the_grid_is_what_the_family_says(host: Host) -> None:
    for family, q, _ in layouts(host):
        grids = [segment.grid for segment in q.segments if segment.grid is not None]
        assert bool(grids) is (family.grid != "none")
        assert family.grid == "video" or all(frames == 1 for frames, _, _ in grids)


@every_host
def test_padding_is_an_argument_of_the_forward_where_a_family_names_one(host: Host) -> None:
    model, _ = host.build()
    family, names = family_of(model), set(inspect.signature(model.forward).parameters)
    if family.padding:
        assert family.padding in names
        return
    for mask in (name for name in names if name.endswith("_mask") and name != "attn_mask"):  # which is a map of pairs
        with pytest.raises(ValueError, match=mask):
            family.check({mask: torch.ones(1, 1)})


def test_every_family_that_compiles_whole_is_compiled_by_a_test() -> None:
    more = [family_of(host.build()[0]) for host in MORE]  # by a test of their own
    for names, whole in ((WHOLE, True), (IN_PARTS, False)):
        compiled = {family_of(BY_NAME[name].build()[0]).name for name in names if name != "plain"}
        assert compiled | {family.name for family in more if family.whole is whole} == {
            family.name for family in FAMILIES if family.whole is whole
        }
