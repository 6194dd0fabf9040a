"""Tables of pages that are made from figures."""

import re
from collections.abc import Iterable, Mapping, Sequence

from saccade.metrics.intervals import Interval

FIGURES = re.compile(r"<!-- figures: ([^>]+?) -->")  # what marks a part of a page that is made


def markdown_table(head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; every cell as its text."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def fill_marks(page: str, parts: Mapping[str, str]) -> str:
    """A page with every part between its marks, `<!-- figures: NAME -->` and `<!-- end -->`.

    Raises ValueError where the page lacks a part's marks.
    """
    for name, text in parts.items():
        mark = f"<!-- figures: {name} -->\n"
        before, found, rest = page.partition(mark)
        _, end, after = rest.partition("<!-- end -->")
        if not (found and end):
            raise ValueError(
                f"the page has no {mark.strip()} with an <!-- end --> after it; write them where it belongs"
            )
        page = f"{before}{mark}{text}\n{end}{after}"
    return page


def signed(found: Interval, digits: int) -> str:
    """A difference with its sign, and its interval where there is one."""
    if found.low != found.low:
        return f"{found.mid:+.{digits}f}"
    return f"{found.mid:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"
