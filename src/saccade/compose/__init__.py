"""Pictures composed of texts, places and reference pictures: the verb, its record, and a sheet that shows it."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.compose.record import Record as Record
    from saccade.compose.request import Request as Request
    from saccade.compose.sheet import write_sheet as write_sheet
    from saccade.compose.verb import BUNDLED_SETTINGS as BUNDLED_SETTINGS
    from saccade.compose.verb import Composed as Composed
    from saccade.compose.verb import compose as compose
    from saccade.compose.verb import replay as replay

__all__ = ["BUNDLED_SETTINGS", "Composed", "Record", "Request", "compose", "replay", "write_sheet"]

__getattr__, __dir__ = lazily(__name__)
