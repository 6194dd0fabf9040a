"""A comparison as people see it: a table in the terminal and a report in the browser."""

from saccade.ui.report import write_report as write_report
from saccade.ui.table import table as table

__all__ = ["table", "write_report"]
