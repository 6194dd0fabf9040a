"""Look inside a generation: maps of words over all sites, what sort of head each is, and a page that shows it."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.inspect.page import write_page as write_page
    from saccade.inspect.pictures import overlay as overlay
    from saccade.inspect.verb import Inspection as Inspection
    from saccade.inspect.verb import inspect as inspect

__all__ = ["Inspection", "inspect", "overlay", "write_page"]

__getattr__, __dir__ = lazily(__name__)
