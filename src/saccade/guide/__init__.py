"""Pictures steered away from a weakened copy of the model: the verb, what it gives, and its record."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.guide.request import Record as Record
    from saccade.guide.request import Request as Request
    from saccade.guide.verb import Guided as Guided
    from saccade.guide.verb import guide as guide
    from saccade.guide.verb import replay as replay

__all__ = ["Guided", "Record", "Request", "guide", "replay"]

__getattr__, __dir__ = lazily(__name__)
