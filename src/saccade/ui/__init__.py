"""What people see: a comparison as a table and as a report in the browser, Markdown, progress."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.ui.progress import progress_bar as progress_bar
    from saccade.ui.report import write_report as write_report
    from saccade.ui.summary_table import table as table

__all__ = ["progress_bar", "table", "write_report"]

__getattr__, __dir__ = lazily(__name__)
