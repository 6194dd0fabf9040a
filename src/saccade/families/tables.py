"""What each host offers, as tables: generated from the families, printed in the documentation."""

from dataclasses import replace

from torch import Tensor, nn

from saccade.core.layout import Layout
from saccade.families.library import FAMILIES
from saccade.families.plain import plain
from saccade.seam.family import ITEMS, Family


class _Attending(nn.Module):
    """The least a module by hand must do."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


BY_HAND = replace(plain(_Attending(), Layout.plain(1)), name="any module", sites={"*": "self"})
_EVERY = (*FAMILIES, BY_HAND)
REACHED = {
    "processor": "its processor",
    "methods": "its own code",
    "either": "its code or its processor",
    "interface": "a registered attention",
}


def contract() -> str:
    """A Markdown table of each family's tokens, padding and batch rows, how its calls are reached, how it compiles."""
    head = ("family", "library", "text", "grid", "padding", "guidance", "reached by", "compiles")
    return _table(head, *((f.name, f.library, *_traits(f)) for f in _EVERY))


def offers() -> str:
    """A Markdown table, families by items; a dash where `attach` would refuse a mechanism that needs the item."""
    return _table(("family", "sites", *ITEMS), *((f.name, _sites(f), *(_cell(f, i) for i in ITEMS)) for f in _EVERY))


def mends() -> str:
    """A Markdown table of what families lack, and what `attach` says to do instead."""
    said: dict[tuple[str, str], list[str]] = {}
    for family in _EVERY:
        for mend in dict.fromkeys(family.unsupported.values()):
            items = ", ".join(item for item in ITEMS if family.unsupported.get(item) == mend)
            said.setdefault((items, mend), []).append(family.name)
    return _table(
        ("missing", "families", "instead"), *((items, ", ".join(f), mend) for (items, mend), f in said.items())
    )


def _traits(family: Family) -> tuple[str, ...]:
    padding = "-" if family.padding is None else f"`{family.padding}`"
    compiles = "in one graph" if family.whole else "in parts"
    return family.text, family.grid, padding, _rows(family), REACHED[family.bind], compiles


def _rows(family: Family) -> str:
    if family.guidance is None:
        return "-"
    return f"{', '.join(family.guidance.roles)} {'stacked' if family.guidance.stacked else 'in turn'}"


def _cell(family: Family, item: str) -> str:
    kinds = dict.fromkeys(kind for kind in family.sites.values() if family.missing(item, kind) is None)
    return ", ".join(kinds) or "-"


def _sites(family: Family) -> str:
    return ", ".join(f"`{pattern}` {kind}" for pattern, kind in family.sites.items())


def _table(head: tuple[str, ...], *rows: tuple[str, ...]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))
