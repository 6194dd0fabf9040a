"""An object of a picture dragged to another place: the verb, its record, and a sheet that shows it."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.drag.drawing import Dragged as Dragged
    from saccade.drag.record import Record as Record
    from saccade.drag.request import Request as Request
    from saccade.drag.sheet import write_sheet as write_sheet
    from saccade.drag.verb import BUNDLED_SETTINGS as BUNDLED_SETTINGS
    from saccade.drag.verb import drag as drag
    from saccade.drag.verb import replay as replay

__all__ = ["BUNDLED_SETTINGS", "Dragged", "Record", "Request", "drag", "replay", "write_sheet"]

__getattr__, __dir__ = lazily(__name__)
