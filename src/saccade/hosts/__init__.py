"""Hosts: where a model family keeps its attention, what its tokens are, and the seam its calls pass through."""

from saccade.hosts.families import FAMILIES
from saccade.hosts.family import ITEMS, Family, Guidance
from saccade.hosts.offers import offers
from saccade.hosts.report import Report, SiteReport

__all__ = ["FAMILIES", "Family", "Guidance", "ITEMS", "Report", "SiteReport", "offers"]
