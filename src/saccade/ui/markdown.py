"""Tables of pages that are made from figures."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[object], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; every cell as its text."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
