"""Which layers keep standard attention: `even` of 24 layers is 2, 4, .. 24, the paper's hybrid.

Layers are counted from one, as in the paper. `top` is the half near the input, `bottom` the half near the output; where
prose and table of the paper disagree about "bottom", the table counts: 13 to 24 of 24 stay.
"""

from collections.abc import Callable, Sequence

Layout = str | Sequence[int]
Rule = Callable[[int], Sequence[int]]

LAYOUTS: dict[str, Rule] = {
    "standard": lambda n: range(1, n + 1),
    "uniform": lambda n: (),
    "even": lambda n: range(2, n + 1, 2),
    "odd": lambda n: range(1, n + 1, 2),
    "top": lambda n: range(1, n // 2 + 1),
    "middle": lambda n: (*range(1, n // 4 + 1), *range(n - n // 4 + 1, n + 1)),
    "bottom": lambda n: range(n // 2 + 1, n + 1),
    "25%": lambda n: range(4, n + 1, 4),
    "first": lambda n: (1,),
    "last": lambda n: (n,),
    "bilateral": lambda n: (1, n),
}


def standard_layers(layout: Layout, layers: int) -> tuple[int, ...]:
    """The layers that keep standard attention, counted from one, sorted.

    layout   a name of `LAYOUTS`, or the layers themselves
    Raises ValueError for an unknown name, and for a layer outside 1 to `layers`.
    """
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(f"layout='{layout}' is unknown; choose one of {', '.join(LAYOUTS)}, or give the layers")
        return tuple(sorted({*LAYOUTS[layout](layers)}))
    for layer in layout:
        if not 1 <= layer <= layers:
            raise ValueError(f"layout={tuple(layout)} has layer {layer}; layers are counted from 1 to {layers}")
    return tuple(sorted({*layout}))


def kinds(variant: str, layout: Layout, layers: int) -> tuple[str, ...]:
    """For each layer in turn "standard" or the variant."""
    kept = standard_layers(layout, layers)
    return tuple("standard" if layer in kept else variant for layer in range(1, layers + 1))
