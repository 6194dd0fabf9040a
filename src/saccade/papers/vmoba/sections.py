"""VMoBA's page: its tables and plots, and what is claimed of it."""

import numpy as np
import torch
from matplotlib.figure import Figure

from saccade.experiments import ArmTable, Claim, Column, Figures, Results, RowTable, Verdicts, higher, margin
from saccade.experiments.claims import difference
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.vmoba.partition import Blocks, Box, Frames, Tile, chunks

DENSE, FRAMES, OURS = "dense", "frames alone (MoBA)", "VMoBA"
NO_TILES, NO_BOXES = "without tiles", "without boxes"
LOCAL, GLOBAL = "topk, query by query", "threshold, over a head"
NEAR = 0.05  # of dense's loss
TINTS = ("#2f6fb0", "#d9822b", "#3f8f5b", "#b5403c")


def near_dense(results: Results) -> Interval:
    """How far within a twentieth of dense's loss VMoBA's lies."""
    losses = results.by("runs.loss", arm=DENSE)
    return margin(difference(results, "runs.loss", OURS, DENSE), NEAR * sum(losses.values()) / len(losses))


def below_tau(results: Results) -> Interval:
    """How far below tau the share kept by the paper's rule lies, over all gates and shares."""
    return t_interval([row["tau"] - row["free"] for row in results.rows("kept")])


KEPT_CLAIMS = (Claim(text="the share of pairs kept is below tau", measure=below_tau, digits=3),)
RUN_CLAIMS = (
    Claim(text="VMoBA's loss is within 5 % of dense attention's", measure=near_dense),
    higher("frames alone cost loss", "runs.loss", FRAMES, than=OURS),
    higher("leaving tiles out costs loss", "runs.loss", NO_TILES, than=OURS),
    higher("leaving boxes out costs loss", "runs.loss", NO_BOXES, than=OURS),
    higher("frames alone lose motion", "runs.motion", OURS, than=FRAMES, digits=3),
)
SWAP_CLAIMS = (
    higher("without training, topk query by query flickers less", "swaps.flicker", GLOBAL, than=LOCAL, digits=3),
)
CLAIMS = (*KEPT_CLAIMS, *RUN_CLAIMS, *SWAP_CLAIMS)


def plot_kept(results: Results, figures: Figures) -> str:
    """Share kept over tau, by the gates."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    panel = figure.subplots()
    for name, tint in zip(results.distinct("kept.gates"), TINTS, strict=False):
        rows = results.rows("kept", gates=name)
        for key, line in (("free", "-"), ("forced", "--")):
            label = name if key == "free" else None
            panel.plot(
                [r["tau"] for r in rows], [r[key] for r in rows], line, marker="o", ms=4, color=tint, label=label
            )
    panel.plot((0, 1), (0, 1), color="#8a8f98", lw=0.8)
    panel.set(xlabel="tau", ylabel="share of pairs kept", xlim=(0, 0.8), ylim=(0, 0.8))
    panel.legend(frameon=False, fontsize=8)
    return figures.save("kept", figure, "Share of pairs kept against tau")


def plot_blocks(results: Results, figures: Figures) -> str:
    """The three kinds of blocks on a small video, frame by frame, a colour for each block."""
    grid = (4, 6, 8)
    kinds: dict[str, Blocks] = {"frames=1": Frames(1), "tile=(3, 4)": Tile(3, 4), "box=(2, 3, 4)": Box(2, 3, 4)}
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    for row, (name, blocks) in enumerate(kinds.items()):
        label = chunks(blocks, grid, torch.device("cpu")).label.view(grid)
        for frame in range(grid[0]):
            panel = figure.add_subplot(3, grid[0], row * grid[0] + frame + 1)
            panel.imshow(np.asarray(label[frame]), cmap="tab10", vmin=0, vmax=9)
            panel.set(xticks=[], yticks=[])
            if frame == 0:
                panel.set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
            if row == 0:
                panel.set_title(f"frame {frame}", fontsize=7)
    return figures.save("blocks", figure, "Blocks in time, in space, and in both")


KEPT = RowTable(
    table="kept",
    cells={"gates": "{gates}", "tau": "{tau:.2f}", "Eq. 4": "{free:.3f}", "own blocks forced": "{forced:.3f}"},
)


def kept_about(results: Results, figures: Figures) -> str:
    """Of what gates."""
    found = results.settings
    return (
        f"Random gates of {found['chunks']} chunks and {found['queries']} queries, selected over each head. Lines: the "
        "paper's rule; dashed: own blocks forced, as in the released code, which keeps at least 1 / "
        f"{found['chunks']}."
    )


def runs_about(results: Results, figures: Figures) -> str:
    """Of what model."""
    s = results.settings
    return (
        f"Videos of {'x'.join(map(str, s['grid']))} tokens, {s['depth']} layers of width {s['width']}, {s['steps']} "
        f"steps of {s['batch']}; blocks frames={s['frames']}, tile={tuple(s['tile'])}, box={tuple(s['box'])}, "
        f"{s['k']} of them for each query. "
        f"Loss and motion of {s['held']} held-out videos: motion is the energy of differences between frames in what "
        "the model guesses of a noised video, as a share of the video's own."
    )


RUNS = ArmTable(
    columns=(
        Column(source="runs.loss", title="flow loss"),
        Column(source="runs.loss", title="more than dense", against=DENSE),
        Column(source="runs.motion", title="motion", show=".3f"),
        Column(source="runs.kept", title="pairs kept", show=".3f"),
    ),
)
SWAPS = ArmTable(
    of="swaps.arm",
    title="in the dense model",
    columns=(
        Column(source="swaps.loss", title="flow loss"),
        Column(source="swaps.flicker", title="flicker", show=".4f"),
        Column(source="swaps.kept", title="pairs kept", show=".3f"),
    ),
)
SECTIONS = {
    "blocks": (plot_blocks,),
    "kept": (plot_kept, kept_about, KEPT, Verdicts(KEPT_CLAIMS)),
    "runs": (runs_about, RUNS, Verdicts(RUN_CLAIMS, differences=True)),
    "swaps": (SWAPS, Verdicts(SWAP_CLAIMS, differences=True)),
}
