"""Over the whole sampling: the handle of an attachment, what it plans, when, and what it reports."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.run.report import Report as Report
    from saccade.run.report import SiteReport as SiteReport
    from saccade.run.run import Run as Run

__all__ = ["Report", "Run", "SiteReport"]

__getattr__, __dir__ = lazily(__name__)
