"""A subject from one picture put into another: the verb, its record, and a sheet that shows it."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.insert.record import Record as Record
    from saccade.insert.request import Request as Request
    from saccade.insert.sheet import write_sheet as write_sheet
    from saccade.insert.verb import BUNDLED_SETTINGS as BUNDLED_SETTINGS
    from saccade.insert.verb import Inserted as Inserted
    from saccade.insert.verb import insert as insert
    from saccade.insert.verb import replay as replay

__all__ = ["BUNDLED_SETTINGS", "Inserted", "Record", "Request", "insert", "replay", "write_sheet"]

__getattr__, __dir__ = lazily(__name__)
