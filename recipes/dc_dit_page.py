"""Put the figures of docs/results/dc-dit.json and dc-dit-flow.json into docs/papers/dc_dit.md, and draw kept tokens.

python recipes/dc_dit_page.py
"""

import json
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from saccade.metrics.intervals import t_interval
from saccade.papers.dc_dit.cost import dit_flops, flops
from saccade.papers.dc_dit.model import SIZES
from saccade.ui.markdown import fill_marks, markdown_table
from saccade.ui.markdown import verdict as above_zero

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURES, FLOW, PICTURE = (
    DOCS / "systems" / "dc-dit.md",
    DOCS / "results" / "dc-dit.json",
    DOCS / "results" / "dc-dit-flow.json",
    DOCS / "results" / "dc-dit.png",
)
WIDE = 2.0  # standard errors on either side
IDLE = 5.0  # percent of the loss below which the main network does next to nothing


def main() -> None:
    """Tables between the page's marks; those of runs that have no figures stay as they are."""
    found, flow_found = (json.loads(path.read_text()) for path in (FIGURES, FLOW))
    draw(found["picture"])
    made = {"costs": costs(), "runs": runs(found), "flow": flow(flow_found)}
    PAGE.write_text(fill_marks(PAGE.read_text(), made))


def flow(found: dict[str, Any]) -> str:
    """Where the runs of the comparison keep their tokens, a line a time; then the verdicts over seeds."""
    rows = found["rows"]
    times, seeds = (sorted({row[key] for row in rows}) for key in ("t", "seed"))
    at = {(row["seed"], row["t"]): row for row in rows}
    lines = [
        [t, *(f"{at[seed, t]['kept']:.0f}: {at[seed, t]['edge']:.2f} / {at[seed, t]['flat']:.2f}" for seed in seeds)]
        for t in times
    ]
    ratio = [
        log(fmean(at[seed, t]["edge"] for t in times) / fmean(at[seed, t]["flat"] for t in times) / 1.5)
        for seed in seeds
    ]
    fewer = [at[seed, times[0]]["kept"] - at[seed, times[-1]]["kept"] for seed in seeds]
    table = markdown_table(["noise", *(f"seed {seed}" for seed in seeds)], lines)
    sharper = f"**{above_zero(t_interval(ratio))}** over {len(seeds)} seeds"
    least = min(exp(each) * 1.5 for each in ratio)
    return f"""{table}

Kept of {rows[0]["tokens"]} tokens: share kept at edges / on the background.

- edges over background, mean over times, above 1.5: {sharper}; the least is {least:.2f}
- tokens rise as noise falls: **{above_zero(t_interval(fewer))}**, by {", ".join(f"{each:+.0f}" for each in fewer)}

{found["device"]}, torch {found["versions"]["torch"]}."""


def runs(found: dict[str, Any]) -> str:
    """Everything that the recipe measured."""
    return f"""{claims(found)}

*Confirmed or refuted where the measured value is two standard errors from the bound.*

![Kept tokens at several noise levels](../results/{PICTURE.name})

*White: kept of held-out pictures, with little noise on the left and much on the right.*

{levels(found)}

Mean square error of the noise by the share of dropped tokens:

{shares(found)}

{caution(found["by_share"]["rows"])}

{setting(found["setting"])}"""


def costs() -> str:
    """Published sizes at a token for each 2 x 2 cells, and with six in ten of those dropped."""
    heads = ["size", "DiT, patches of 2", "256 tokens, as published", "with the layer around", "at rho 0.6"]
    return markdown_table(heads, [[size, *(f"{value / 1e9:.2f}" for value in _costs(size))] for size in SIZES])


def _costs(size: str) -> tuple[float, ...]:
    config = SIZES[size]
    whole, few = flops(config, 256), flops(config, 256 - int(0.6 * 256))
    return dit_flops(config), whole.published, whole.total, few.total


def claims(found: dict[str, Any]) -> str:
    """A line per claim with a verdict from the spread over pictures."""
    where, when, drawn, by = found["where"], found["when"], found["at_random"], found["by_share"]
    aimed = found["setting"]["ratio"]
    rows = [
        ["kept within a pixel of an edge / on the background", "above 1.5", _pm(where, "ratio", ".2f"),
         verdict(where["ratio"], where["ratio_error"], 1.5)],
        ["tokens at the least noise less those at the most", "above 0", _pm(when, "rise", ".0f"),
         verdict(when["rise"], when["rise_error"], 0.0)],
        ["pixels for each kept token", f"{0.75 * aimed:g} to {1.25 * aimed:g}", _pm(when, "compression", ".2f"),
         within(when["compression"], when["compression_error"], 0.75 * aimed, 1.25 * aimed)],
        ["loss with random tokens less that with the router's", "above 0", _pm(drawn, "worse", ".1e"),
         verdict(drawn["worse"], drawn["worse_error"], 0.0)],
        ["rise of the loss to rho 0.6, less that after training for many budgets", "above 0", _pm(by, "flatter", ".1e"),
         verdict(by["flatter"], by["flatter_error"], 0.0)],
    ]  # fmt: skip
    return markdown_table(["", "claim", "measured", ""], rows)


def verdict(value: float, error: float, bound: float) -> str:
    """Whether a value is above a bound, by twice its standard error."""
    if abs(value - bound) <= WIDE * error:
        return "undecided"
    return "confirmed" if value > bound else "refuted"


def within(value: float, error: float, low: float, high: float) -> str:
    """Whether a value is between two bounds, by twice its standard error."""
    above, below = verdict(value, error, low), verdict(-value, error, -high)
    return above if above == below else "refuted" if "refuted" in (above, below) else "undecided"


def levels(found: dict[str, Any]) -> str:
    """Tokens by noise."""
    rows = [
        [where["time"], _pm(when, "kept", ".0f"), f"{where['edge']:.3f}", f"{where['flat']:.3f}"]
        for where, when in zip(found["where"]["rows"], found["when"]["rows"], strict=True)
    ]
    return markdown_table(["time of 1000", "kept of 1024", "share kept at edges", "on the background"], rows)


def shares(found: dict[str, Any]) -> str:
    """Losses by the share that is dropped."""
    rows = [[row["rho"], _pm(row, "plain", ".5f"), _pm(row, "many", ".5f")] for row in found["by_share"]["rows"]]
    return markdown_table(["rho", "as before", "many budgets"], rows)


def setting(told: dict[str, Any]) -> str:
    """How the figures came about."""
    return (
        f"{told['parameters']:,} parameters, {told['steps']} steps of {told['batch']} pictures, the last "
        f"{told['steps'] - told['shared']} apart, one seed; mean and standard error over {told['pictures']} held-out "
        f"pictures (a quarter of them for where tokens lie). {told['device']}, torch {told['torch']}."
    )


def caution(rows: list[dict[str, float]]) -> str:
    """How far the loss depends on the tokens at all."""
    first, last = rows[0], rows[-1]
    more = 100 * (last["plain"] / first["plain"] - 1)
    told = f"Without {last['rho']:.0%} of the kept tokens the loss is {more:.1f} % higher."
    if more > IDLE:
        return told
    return (
        f"{told} As far as this net has learned, its convolutions predict the noise nearly alone, past the DiT blocks: "
        "these runs cannot judge what the router keeps, and the verdicts above say little about the paper."
    )


def draw(told: dict[str, Any]) -> None:
    """Pictures, and white where tokens are kept, by noise."""
    side = round((len(told["pixels"][0]) / 3) ** 0.5)
    columns = told["times"][::3] if len(told["times"]) > 6 else told["times"]
    at = [told["times"].index(time) for time in columns]
    figure, axes = plt.subplots(
        len(told["pixels"]), len(at) + 1, figsize=(1.3 * (len(at) + 1), 1.3 * len(told["pixels"]))
    )
    for row, pixels in enumerate(told["pixels"]):
        axes[row, 0].imshow(np.array(pixels, dtype=np.uint8).reshape(side, side, 3))
        for column, index in enumerate(at, start=1):
            kept = np.array([*map(int, told["kept"][index][row])]).reshape(side, side)
            axes[row, column].imshow(kept, cmap="gray", vmin=0, vmax=1)
            axes[row, column].set_xlabel(f"{kept.sum()} kept", fontsize=7)
            if row == 0:
                axes[row, column].set_title(f"time {told['times'][index]}", fontsize=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def _pm(row: dict[str, float], name: str, form: str) -> str:
    return f"{row[name]:{form}} ± {row[f'{name}_error']:{form}}"


if __name__ == "__main__":
    main()
