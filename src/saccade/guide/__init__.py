"""Pictures steered away from a weakened copy of the model: the verb, and what it gives."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.guide.verb import Guided as Guided
    from saccade.guide.verb import guide as guide

__all__ = ["Guided", "guide"]

__getattr__, __dir__ = lazily(__name__)
