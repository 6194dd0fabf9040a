"""What people see: a comparison as a table and as a report in the browser, an edit on a sheet."""

from saccade.ui.report import write_report as write_report
from saccade.ui.sheet import write_sheet as write_sheet
from saccade.ui.table import table as table

__all__ = ["table", "write_report", "write_sheet"]
