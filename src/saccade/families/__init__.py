"""Model families as data, one file each: where attention is, what the tokens are, what may be asked for.

A file is found by being here. Importing one imports nothing of the library it describes.
"""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.families.host_classes import HostClass as HostClass
    from saccade.families.host_classes import hosts as hosts
    from saccade.families.library import FAMILIES as FAMILIES
    from saccade.families.probing import Probe as Probe
    from saccade.families.probing import probe as probe
    from saccade.families.tables import offers as offers
    from saccade.seam.family import ITEMS as ITEMS
    from saccade.seam.family import Family as Family
    from saccade.seam.family import Guidance as Guidance

__all__ = ["FAMILIES", "Family", "Guidance", "HostClass", "ITEMS", "Probe", "hosts", "offers", "probe"]

__getattr__, __dir__ = lazily(__name__)

WORDS = {"grid": "every image and video host", "text": "every language host"}  # of an entry of the catalogue


def said(hosts: tuple[str, ...]) -> str:
    """The hosts of an entry for people: names of families, or the words that stand for many."""
    return ", ".join(WORDS.get(host, host) for host in hosts)


def expanded(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of families, those a word stands for in its place."""
    if not set(hosts) & set(WORDS):
        return hosts
    from saccade.families.library import NAMED

    names = {name if family.library != "timm" else "timm": family for name, family in NAMED.items()}
    texts = [name for name, family in names.items() if family.grid == "none" or family.text == "among"]
    groups = {"grid": [*(name for name in names if name not in texts), "torch"], "text": texts}
    return tuple(dict.fromkeys(name for host in hosts for name in groups.get(host, [host])))
