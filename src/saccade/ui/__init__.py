"""What people see: a comparison as a table and as a report in the browser."""

from saccade.ui.report import write_report as write_report
from saccade.ui.table import table as table

__all__ = ["table", "write_report"]
