"""How much of a sequence one forward sees: all of it, or its last tokens against those a cache holds."""

from dataclasses import dataclass

from saccade.core.layout import Layout, Segment


@dataclass(frozen=True, kw_only=True)
class CacheSpan:
    """How many keys a layer holds.

    queries  tokens of this forward
    before   cached ones
    keys     all there are, places not written to included
    dropped  tokens at the beginning that a sliding window has left behind
    """

    queries: int
    before: int
    keys: int
    dropped: int = 0

    @property
    def written(self) -> int:
        """Keys with something in them."""
        return self.before + self.queries

    @property
    def sequence(self) -> int:
        """Tokens so far."""
        return self.dropped + self.written


def within(layout: Layout, size: CacheSpan) -> tuple[Layout, Layout]:
    """(queries, keys) of a forward over a sequence of this layout; places of a cache not written to yet are padding."""
    so_far = cut(stretched(layout, size.sequence), size.dropped, size.sequence)
    queries = cut(so_far, size.before, size.written)
    if size.keys == size.written:
        return queries, so_far
    return queries, so_far.append(Segment("unwritten", "padding", size.keys - size.written))


def stretched(layout: Layout, n: int) -> Layout:
    """The first n tokens; text is added where the layout ends before."""
    if n <= layout.n:
        return cut(layout, 0, n)
    return layout.append(Segment("later", "text", n - layout.n))


def cut(layout: Layout, start: int, stop: int) -> Layout:
    """The tokens from start to stop; an image of which a part is missing has no grid."""
    if (start, stop) == (0, layout.n):
        return layout
    spans = [(s, layout.span(s.name)) for s in layout.segments]
    kept = [(s, min(span.stop, stop) - max(span.start, start)) for s, span in spans]
    return Layout(tuple(Segment(s.name, s.kind, n, s.grid if n == s.n else None) for s, n in kept if n > 0))
