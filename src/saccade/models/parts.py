"""Mixers and feed-forwards of a configuration: one text for all blocks, or one for each."""

Parts = str | tuple[str, ...]


def part(given: Parts, block: int) -> str:
    """The text of one block's part."""
    return given if isinstance(given, str) else given[block]


def check_parts(depth: int, **given: Parts) -> None:
    """Raise ValueError unless each of the named parts is one text, or as many as there are blocks."""
    for name, texts in given.items():
        if isinstance(texts, tuple) and len(texts) != depth:
            raise ValueError(f"{name} names {len(texts)} parts for depth={depth} blocks; give one, or one for each")
