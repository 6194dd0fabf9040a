"""Model families as data, one file each: where attention is, what the tokens are, what may be asked for.

A file is found by being here. Importing one imports nothing of the library it describes.
"""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.families.library import FAMILIES as FAMILIES
    from saccade.families.tables import offers as offers
    from saccade.seam.family import ITEMS as ITEMS
    from saccade.seam.family import Family as Family
    from saccade.seam.family import Guidance as Guidance

__all__ = ["FAMILIES", "Family", "Guidance", "ITEMS", "offers"]

__getattr__, __dir__ = lazily(__name__)

GROUPS = {
    "grid": (
        "cogvideox",
        "flux",
        "hunyuan_dit",
        "hunyuan_video",
        "pixart",
        "qwen_image",
        "sd3",
        "timm",
        "torch",
        "wan",
    ),
    "text": ("bert", "llama", "llava", "modernbert", "qwen2_vl"),
}  # what an entry of the catalogue means by a word; a test compares them with the families


def expanded(hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of families, for words such as "grid" those they stand for."""
    return tuple(name for host in hosts for name in GROUPS.get(host, (host,)))
