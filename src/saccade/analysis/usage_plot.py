"""Pictures of who served what."""

from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

from saccade.analysis.routing import stretched


def plot_usage(tables: dict[str, Int[Tensor, "l g e"]]) -> Figure:
    """A column for each table, such as those of a `Usage`, a row for each layer; experts downwards, bright is often."""
    layers = max(len(table) for table in tables.values())
    figure = Figure(figsize=(3 * len(tables), 0.9 * layers + 0.6), layout="constrained")
    grid = figure.subplots(layers, len(tables), squeeze=False)
    for column, (name, table) in enumerate(tables.items()):
        for row, shown in enumerate(stretched(table)):
            axes = grid[row, column]
            axes.imshow(shown.mT.numpy(), aspect="auto", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[], ylabel=f"layer {row}" if column == 0 else "")
        grid[0, column].set_title(name)
    return figure
