"""Where windows lie in time, and whose each frame is."""

from itertools import pairwise

from matplotlib.figure import Figure

from saccade.experiments import Figures, Results
from saccade.runs.windows import Windows

SHOWN = Windows(prompts=3, tile=13, overlap=9, transitions=2)
COLOURS = ((0.13, 0.4, 0.67), (0.85, 0.37, 0.1), (0.2, 0.6, 0.35))


def plot_windows(results: Results, figures: Figures) -> str:
    """Bars are windows, in the colours of their prompts; an arrow leads from a source to its target."""
    figure = Figure(figsize=(7.4, 3.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for window, (i, j, share) in enumerate(SHOWN.mixes):
        colour = tuple((1 - share) * a + share * b for a, b in zip(COLOURS[i], COLOURS[j], strict=True))
        above.barh(window, SHOWN.tile, left=window * SHOWN.stride, height=0.5, color=colour)
        said = f"prompt {i + 1}" if not share else f"{1 - share:.0%} prompt {i + 1}, {share:.0%} prompt {j + 1}"
        above.text((window + 0.1) * SHOWN.stride, window, said, va="center", fontsize=7, color="white")
    for source, target in pairwise(range(SHOWN.count)):
        place = target * SHOWN.stride + SHOWN.overlap / 2
        above.annotate("", (place, target - 0.2), (place, source + 0.2), arrowprops={"arrowstyle": "->", "lw": 0.8})
    above.invert_yaxis()
    above.set_ylabel("window", fontsize=8)
    for prompt, line in enumerate(SHOWN.shares().T):
        below.plot(line.numpy(), color=COLOURS[prompt], label=f"prompt {prompt + 1}")
    below.set_xlabel("latent frame", fontsize=8)
    below.set_ylabel("share", fontsize=8)
    below.legend(fontsize=7, loc="center right")
    for axes in (above, below):
        axes.tick_params(labelsize=7)
    return figures.save("windows", figure, "Windows of three prompts, and how much of each frame is each prompt's")
