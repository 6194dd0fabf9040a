"""Make the picture of the README: captions down, systems across, each cell drawn from the same noise.

python examples/readme_picture.py docs/images/compare.png
"""

import sys
from textwrap import fill

import matplotlib.pyplot as plt
from diffusers import FluxPipeline

import saccade
from saccade.compare import demo
from saccade.compare.arms import Setup
from saccade.compare.comparison import ArmResult
from saccade.data.scenes import prompts

SETUP = Setup(**demo.CALL, floor=None, options=demo.OPTIONS)

pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
captions = prompts(4, seed=demo.SEED, count=1, split="held-out")
comparison = saccade.compare(pipe, demo.systems(), captions, setup=SETUP)


def title(arm: ArmResult) -> str:
    """The arm, the share of pairs it computes and how far it lies from dense."""
    scores = [drawn.fidelity.psnr for drawn in arm.drawn if drawn.fidelity is not None]
    density = f"\n{arm.density:.0%} of pairs" if arm.density < 1 else ""
    return f"{arm.label}{density}" + (f", PSNR {sum(scores) / len(scores):.1f}" if scores else "")


rows, columns = len(captions), len(comparison.arms)
figure, axes = plt.subplots(rows, columns, figsize=(2.2 * columns, 2.4 * rows), squeeze=False)
for column, arm in enumerate(comparison.arms):
    axes[0, column].set_title(title(arm), fontsize=9)
    for drawn in arm.drawn:
        axes[drawn.prompt, column].imshow(drawn.picture[0])
for row, caption in enumerate(captions):
    axes[row, 0].set_ylabel(fill(caption.text, 28), fontsize=7)
for cell in axes.flat:
    cell.set(xticks=[], yticks=[])
figure.tight_layout()
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "compare.png", dpi=110)
