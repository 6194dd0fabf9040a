"""Edits of pictures, of a prompt's own or of yours: the verb, its record, and a sheet that shows one."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.edit.passes import Edited as Edited
    from saccade.edit.record import Record as Record
    from saccade.edit.request import Request as Request
    from saccade.edit.sheet import write_sheet as write_sheet
    from saccade.edit.verb import BUNDLED_SETTINGS as BUNDLED_SETTINGS
    from saccade.edit.verb import edit as edit
    from saccade.edit.verb import replay as replay

__all__ = ["BUNDLED_SETTINGS", "Edited", "Record", "Request", "edit", "replay", "write_sheet"]

__getattr__, __dir__ = lazily(__name__)
