"""Every host in every way people run it gives what the page says, and what it gives is right."""

import json

import pytest

from tests.hosts.host import Host
from tests.hosts.tiny import DRAWING
from tests.hosts.ways import FILE, PAGE, WAYS, outcome, tables

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore")]  # hosts warn of many things
FOUND: dict[str, dict[str, str]] = json.loads(FILE.read_text())
COMPILED = "blocks compiled"
QUICK = [way for way in WAYS if way != COMPILED]
FIRST = ("flux", "wan", "unet")  # the others are tried in the slow tier


def hosts(*, slow: bool = False) -> pytest.MarkDecorator:
    cases = [
        pytest.param(host, id=host.name, marks=[pytest.mark.slow] * (slow or host.name not in FIRST))
        for host in DRAWING
    ]
    return pytest.mark.parametrize("host", cases)


@pytest.mark.parametrize("way", QUICK)
@hosts()
def test_a_host_runs_so_or_says_why_not(host: Host, way: str) -> None:
    assert outcome(host, way) == FOUND[host.name][way]


@pytest.mark.compile
@hosts(slow=True)
def test_blocks_compiled_one_by_one_give_the_same(host: Host) -> None:
    assert outcome(host, COMPILED) == FOUND[host.name][COMPILED]


def test_the_page_is_made_from_what_was_found() -> None:
    assert list(FOUND) == [host.name for host in DRAWING]
    assert all(part in PAGE.read_text() for part in tables(FOUND).values()), "run python -m tests.hosts.ways"
