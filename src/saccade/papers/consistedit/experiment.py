"""What ConsistEdit and its ablations do to colour and shape edits of the bundled model, judged by an exact parser.

Sources are pictures the model itself samples as asked; every arm edits them from their own noise. The edited object's
own image tokens are the mask, unless an arm takes the word's map.
Expected, after the paper: structure and surroundings kept best by the full method, then q and k of visual tokens in all
blocks, then in the last half, then plain re-prompting; the colour changed by all but the arm that shares text too; a
shape that follows its source less as strength falls; outside the edit q, k, v closest, v next, q and k far behind.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from saccade.core.site import Where, at
from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Figures, Results, Row
from saccade.experiments.summary import Ends, ends, interval, paired, summary
from saccade.metrics.intervals import Interval, t_interval
from saccade.models import path
from saccade.papers.consistedit.edit_scores import SHARES, overlaps, score
from saccade.papers.consistedit.edits import ALL, Batch, Editor, Kind, Pictures
from saccade.papers.consistedit.system import ConsistEdit
from saccade.systems.word_map import edit_mask
from saccade.ui.markdown import markdown_table

STRENGTHS = (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)
MAPS = {"heat": 0.1, "best": 0.4}  # map of a batch -> threshold
MAP_NAMES = {"heat": "single-stream blocks, cut at 0.1", "best": "all blocks, cut at 0.4"}
SCORES = {
    "made": "edit made", "all": "whole caption", "iou": "outline (IoU)", "canny_ssim": "Canny-SSIM",
    "kept_psnr": "PSNR outside, dB", "kept_ssim": "SSIM outside", "colour": "colour",
}  # fmt: skip
WIDTH = {"kept_psnr": 1, "made": 2, "all": 2, "colour": 2}  # digits after the point, three otherwise
SHOWN: dict[Kind, tuple[str, ...]] = {
    "colour": ("made", "all", "iou", "canny_ssim", "kept_psnr", "kept_ssim"),
    "shape": ("made", "colour", "iou", "canny_ssim", "kept_psnr", "kept_ssim"),
}
Arm = Callable[[Editor, Batch], Pictures]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many edits of each kind, `batch` of them at once, in how many steps."""

    edits: int = 160
    steps: int = 15
    batch: int = 16


def masked(**options: Any) -> Arm:
    """The full method within the exact mask, in every block by default."""
    return lambda editor, batch: editor.edited(batch, ConsistEdit(**{"mask": batch.exact, "where": ALL, **options}))


def unmasked(where: Where = ALL, **options: Any) -> Arm:
    """Operands shared all over the picture."""
    return lambda editor, batch: editor.edited(batch, ConsistEdit(where=where, **options))


def by_map(name: str) -> Arm:
    """The full method within the mask of a map of the word."""

    def arm(editor: Editor, batch: Batch) -> Pictures:
        return editor.edited(batch, ConsistEdit(mask=edit_mask(getattr(batch, name), MAPS[name]), where=ALL))

    return arm


COLOUR: dict[str, Arm] = {
    "re-prompting": Editor.edited,
    "k, v in the last fifth": unmasked(at(depth=(0.8, 1.0)), structure="kv"),
    "q, k of all tokens": unmasked(tokens="all"),
    "q, k in the last half": unmasked(at(depth=(0.5, 1.0))),
    "q, k in the single-stream blocks": unmasked(at(stage="last")),
    "q, k in all blocks": unmasked(),
    "full": masked(),
    "full, single-stream blocks": masked(where=at(stage="last")),
    "full, word's map": by_map("heat"),
    "full, word's map of all blocks": by_map("best"),
    "outside: v": masked(kept="v"),
    "outside: q, k": masked(kept="qk"),
}
SHAPE: dict[str, Arm] = {"re-prompting": Editor.edited, **{f"strength {s}": masked(strength=s) for s in STRENGTHS}}
KINDS: dict[Kind, dict[str, Arm]] = {"colour": COLOUR, "shape": SHAPE}


@dataclass(frozen=True)
class Order:
    """What the paper leads to expect: one arm scores above another, edit by edit."""

    kind: Kind
    score: str
    more: str
    less: str

    def measure(self, found: Results) -> Interval:
        """The paired difference."""
        (row,) = found.rows("orders", kind=self.kind, score=self.score, more=self.more, less=self.less)
        return interval(row["difference"], found.settings["edits"])

    @property
    def claim(self) -> Claim:
        """With its verdict."""
        text = f"another {self.kind}: {SCORES[self.score]} is higher with '{self.more}' than with '{self.less}'"
        return Claim(text=text, measure=self.measure, digits=WIDTH.get(self.score, 3))


KEPT = ("full", "q, k in all blocks", "q, k in the last half", "re-prompting")
ORDERS = (
    *(Order("colour", name, *arms) for name in ("canny_ssim", "iou", "kept_psnr") for arms in pairwise(KEPT)),
    Order("colour", "canny_ssim", "full", "k, v in the last fifth"),
    Order("colour", "kept_psnr", "full", "k, v in the last fifth"),
    Order("colour", "made", "q, k in all blocks", "q, k of all tokens"),
    Order("colour", "kept_psnr", "full", "outside: v"),
    Order("colour", "kept_psnr", "outside: v", "outside: q, k"),
    *(Order("shape", "iou", f"strength {more}", f"strength {less}") for less, more in pairwise(STRENGTHS)),
    Order("shape", "iou", "strength 1.0", "re-prompting"),
    Order("shape", "made", "strength 0.3", "strength 1.0"),
    Order("shape", "colour", "strength 0.0", "strength 1.0"),
)


def edit_rows(kind: Kind, bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm on edits of one kind: means in the table of the kind, then differences, maps and sources."""
    editor, about, arms = opened(bench.settings), {"kind": kind}, KINDS[kind]
    batches, sampled = editor.gather(kind, bench.settings.edits, bench.progress)
    found: dict[str, list[Row]] = {}
    for done, (name, arm) in enumerate(arms.items()):
        bench.progress(done, len(arms), name)
        found[name] = [row for batch in batches for row in score(kind, arm(editor, batch), batch)]
        means = summary(found[name], SHARES)
        yield {"table": kind, "arm": name} | {each: means[each] for each in SHOWN[kind]}
    for order in (each for each in ORDERS if each.kind == kind):
        gap = paired(found[order.more], found[order.less], order.score)
        named = {"score": order.score, "more": order.more, "less": order.less}
        yield {"table": "orders"} | about | named | {"difference": gap}
    for name, threshold in MAPS.items():
        each = [x for batch in batches for x in overlaps(edit_mask(getattr(batch, name), threshold), batch.exact)]
        yield {"table": "maps"} | about | {"map": name, "iou": ends(t_interval(each))}
    yield {"table": "sources"} | about | {"edits": bench.settings.edits, "sampled": sampled}


def opened(settings: Settings) -> Editor:
    """The bundled model."""
    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(path("scenes-flux"))
    pipe.set_progress_bar_config(disable=True)
    return Editor(pipe=pipe, steps=settings.steps, batch=settings.batch)


def shown(digits: int) -> Callable[[Ends], str]:
    """An interval as `0.91 [0.88, 0.94]`."""

    def text(found: Ends) -> str:
        low, mid, high = (f"{value:.{digits}f}" for value in found)
        return f"{mid} [{low}, {high}]"

    return text


def arms_of(kind: Kind) -> ArmTable:
    """A line for each arm."""
    columns = (
        Column(source=f"{kind}.{name}", title=SCORES[name], show=shown(WIDTH.get(name, 3)), first=True)
        for name in SHOWN[kind]
    )
    return ArmTable(columns=tuple(columns), of=f"{kind}.arm")


@dataclass(frozen=True)
class OrderTable:
    """What the paper leads to expect of edits of a kind, and what was found."""

    kind: Kind

    def __call__(self, results: Results, figures: Figures) -> str:
        orders = [order for order in ORDERS if order.kind == self.kind]
        rows = (
            (SCORES[order.score], order.more, order.less, _text(order, results), f"**{order.claim.verdict(results)}**")
            for order in orders
        )
        return markdown_table(("score", "expected higher", "expected lower", "difference, edit by edit", "order"), rows)


def _text(order: Order, results: Results) -> str:
    return shown(WIDTH.get(order.score, 3))(ends(order.measure(results)))


@dataclass(frozen=True)
class Basis:
    """What the figures of a kind rest on."""

    kind: Kind

    def __call__(self, results: Results, figures: Figures) -> str:
        (row,) = results.rows("sources", kind=self.kind)
        maps = results.rows("maps", kind=self.kind)
        seen = ", ".join(f"{MAP_NAMES[each['map']]}: {shown(2)(each['iou'])}" for each in maps)
        return (
            f"{row['edits']} edits of pictures the model sampled as asked (of {row['sampled']}), "
            f"{results.settings['steps']} steps; means with 95 % intervals. Agreement of the word's maps with the "
            f"exact mask (IoU): {seen}. {results.seconds[self.kind] / 60:.0f} minutes."
        )


CLAIMS = tuple(order.claim for order in ORDERS)
EXPERIMENT = Experiment(
    name="consistedit",
    settings=Settings(),
    quick=Settings(edits=2, steps=2, batch=2),
    hours=0.2,
    sections={kind: (arms_of(kind), OrderTable(kind), Basis(kind)) for kind in KINDS},
    claims=CLAIMS,
)


@EXPERIMENT.part(tables=True)
def colour(bench: Bench[Settings]) -> Iterable[Row]:
    """Another colour of an object."""
    return edit_rows("colour", bench)


@EXPERIMENT.part(tables=True)
def shape(bench: Bench[Settings]) -> Iterable[Row]:
    """Another shape of an object."""
    return edit_rows("shape", bench)
