"""What a pair of tokens weighs after the shift, drawn by the mechanism itself."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.state import MemoryBank
from saccade.experiments import Figures, Results
from saccade.ops.parts import attend_parts
from saccade.papers.in_context_brush.context_shift import ContextShift
from saccade.papers.in_context_brush.token_roles import TokenRoles

TEXT, GRID = 4, (1, 4, 4)
LAYOUT = Layout.joint(text=TEXT, grid=GRID)


def pair_weights(demo: str) -> Float[Tensor, "n n"]:
    """Times what each query (rows) takes from each key: even attention over one-hot values, so outputs are weights."""
    n = LAYOUT.n
    zeros, values = torch.zeros(1, 1, n, n), torch.eye(n)[None, None]
    call = plain_call(zeros, zeros, values, layout=LAYOUT)
    made = ContextShift(roles=TokenRoles(demo=demo), alpha_text=0.3, alpha_demo=0.6, beta=0.0)
    parts = attend_parts(call, want_lse=True)
    return n * made.blend(call, parts, MemoryBank().of("figure", "call", "main")).total[0, 0]


def plot_weights(results: Results, figures: Figures) -> str:
    """For a diptych of an upper and a lower half, and of a left and a right one."""
    figure = Figure(figsize=(7.4, 3.4), layout="constrained")
    for axes, demo in zip(figure.subplots(1, 2), ("top", "left"), strict=True):
        shown = axes.imshow(pair_weights(demo).numpy(), cmap="Blues", vmin=0.6, vmax=1.8, interpolation="nearest")
        axes.set_title(f'demo="{demo}"', fontsize=9)
        axes.set(xlabel="key", ylabel="query")
        for edge in (TEXT - 0.5,):
            axes.axhline(edge, lw=0.6, color="gray")
            axes.axvline(edge, lw=0.6, color="gray")
        figure.colorbar(shown, ax=axes, shrink=0.7)
    return figures.save("weights", figure, "Factors on attention, text first, for alpha_text 0.3 and alpha_demo 0.6")
