"""Every family there is, by the library it comes from. Importing this imports none of these libraries."""

from saccade.hosts import diffusers, timm, transformers
from saccade.hosts.family import Family

LIBRARIES: dict[str, tuple[Family, ...]] = {
    "diffusers": diffusers.FAMILIES,
    "timm": timm.FAMILIES,
    "transformers": transformers.FAMILIES,
}
FAMILIES = tuple(family for families in LIBRARIES.values() for family in families)
