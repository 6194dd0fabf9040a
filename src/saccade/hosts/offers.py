"""What each host offers, as a table: generated from the families, printed in the documentation."""

from saccade.hosts.families import FAMILIES
from saccade.hosts.family import ITEMS, Family


def offers() -> str:
    """A Markdown table, families by items; a dash where `attach` would refuse a mechanism that needs the item."""
    head = ["family", "sites", *ITEMS]
    rows = [head, ["---"] * len(head), *([f.name, _sites(f), *(_cell(f, i) for i in ITEMS)] for f in FAMILIES)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(family: Family, item: str) -> str:
    kinds = dict.fromkeys(kind for kind in family.sites.values() if family.missing(item, kind) is None)
    return ", ".join(kinds) or "-"


def _sites(family: Family) -> str:
    return ", ".join(f"`{pattern}` {kind}" for pattern, kind in family.sites.items())
