"""The tokens of one sequence: text, the high-resolution picture, and its low-resolution copy as a segment of its own.

>>> anchored(text=512, high=(256, 256), low=(64, 64)).describe()
'text 512 | image 65536 (1x256x256) | low 4096 (1x64x64)'
"""

from saccade.core.layout import Layout, Segment

HIGH, LOW = "image", "low"  # names of the segments; the low-resolution one is of kind "extra", so `image` stays one
Size = tuple[int, int]


def anchored(*, text: int, high: Size, low: Size | None) -> Layout:
    """Text, a picture of `high` tokens (down, across) and its copy of `low` tokens; None for no copy.

    Raises ValueError where `high` is no whole multiple of `low`, the same along both axes.
    """
    layout = Layout.joint(text=text, grid=(1, *high))
    if low is None:
        return layout
    ratio_of(high, low)
    return layout.append(Segment(LOW, "extra", low[0] * low[1], (1, *low)))


def square(side: int) -> Size:
    """The size of a square picture."""
    return side, side


def ratio_of(high: Size, low: Size) -> int:
    """How many high-resolution tokens stand along one low-resolution token.

    Raises ValueError where that is no whole number, or differs by axis.
    """
    if min(*high, *low) < 1 or high[0] % low[0] or high[1] % low[1] or high[0] // low[0] != high[1] // low[1]:
        raise ValueError(
            f"high={high} tokens must be a whole multiple of low={low}, the same along both axes; "
            f"{high} goes with ({high[0] // 4}, {high[1] // 4}) at a ratio of 4"
        )
    return high[0] // low[0]


def grid_of(layout: Layout, segment: str) -> Size | None:
    """Rows and columns of a segment, None where there is none of that name or it has no grid.

    Raises ValueError for more than one frame.
    """
    grid = next((s.grid for s in layout.segments if s.name == segment), None)
    if grid is not None and grid[0] != 1:
        raise ValueError(f"segment '{segment}' has {grid[0]} frames; windows are for pictures, of one frame")
    return None if grid is None else grid[1:]


def low_window(layout: Layout, window: int) -> int:
    """Low-resolution tokens along a window that is `window` high-resolution tokens wide.

    Raises ValueError where a window holds no whole number of them, or the grid no whole number of windows.
    """
    high, low = grid_of(layout, HIGH), grid_of(layout, LOW)
    if high is None or low is None:
        raise ValueError(f"the tokens are {layout.describe()}; windows need segments '{HIGH}' and '{LOW}' with grids")
    ratio = ratio_of(high, low)
    check_windows(high, window)
    if window % ratio:
        raise ValueError(f"window={window} must be a multiple of the ratio {ratio} of {high} to {low} tokens")
    return window // ratio


def check_windows(grid: Size, window: int) -> None:
    """Raise ValueError where windows do not fill a grid."""
    if grid[0] % window or grid[1] % window:
        raise ValueError(f"a grid of {grid} tokens is not filled by windows of window={window}; choose multiples of it")
