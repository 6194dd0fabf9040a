"""Claims on MMFace-DiT's parts, and the pieces of its page: intervals over held-out scenes, of one training each."""

from statistics import fmean

from saccade.experiments import ArmTable, Claim, Column, Figures, Lines, Results, higher, margin
from saccade.experiments.claims import difference
from saccade.experiments.kept_pictures import KeptPicture
from saccade.metrics.intervals import Interval, affine, share, t_interval
from saccade.ui.markdown import markdown_table

SINGLE, DUAL, OURS = "single stream", "two streams", "+ RoPE"
ORDERED, APART, DIFFUSION = "words in order", "a model for each kind", "DDPM"
LITTLE = 0.05  # share of a loss by which another may differ


def lower(text: str, column: str, arm: str, than: str) -> Claim:
    """`column` is lower for one arm than for another, scene by scene."""
    return higher(text, column, than, than=arm, pair="picture")


def lifted(results: Results) -> Interval:
    """How much more of the colours two streams bring than the rotation does, scene by scene."""
    single, dual, ours = (results.by("runs.colour", "picture", arm=arm) for arm in (SINGLE, DUAL, OURS))
    return t_interval([(dual[key] - single[key]) - (ours[key] - dual[key]) for key in single])


def alike(text: str, arm: str) -> Claim:
    """The loss of an arm is, but for a little, that of the whole model."""

    def found(results: Results) -> Interval:
        return difference(results, "runs.loss", arm, OURS, "picture")

    def base(results: Results) -> float:
        return fmean(results.values("runs.loss", arm=OURS))

    return Claim(
        text=text,
        measure=lambda results: margin(found(results), LITTLE * base(results)),
        evidence=lambda results: f"by {found(results)} of {base(results):.3g}",
    )


def no_worse(results: Results) -> Interval:
    """What the loss of two models lies above that of one, and the little that it may lie below."""
    little = LITTLE * fmean(results.values("runs.loss", arm=APART))
    return affine(difference(results, "runs.loss", APART, OURS, "picture"), offset=little)


def quicker(results: Results) -> Interval:
    """How much higher the flow's mean IoU is than DDPM's in the fewest steps, scene by scene."""
    fewest = min(results.distinct("steps.steps"))
    flow, ddpm = (results.by("steps.miou", "picture", arm=arm, steps=fewest) for arm in (OURS, DIFFUSION))
    return t_interval([flow[key] - ddpm[key] for key in flow])


def wins(results: Results, **where: str) -> Interval:
    """Share of conflicts in which the picture is followed."""
    return share([value == 1 for value in results.values("conflicts.picture_wins", **where)])


CLAIMS = (
    lower("two streams have a lower loss than one of as many weights", "runs.loss", DUAL, SINGLE),
    higher("two streams keep more colours", "runs.colour", DUAL, than=SINGLE, pair="picture"),
    lower("rotary positions have a lower loss than added ones", "runs.loss", OURS, DUAL),
    Claim(text="two streams lift the accuracy of colours more than rotary positions do", measure=lifted),
    Claim(text="one model has no higher loss than one for masks and one for sketches", measure=no_worse),
    Claim(
        text="a mask or sketch that contradicts its caption wins more often than not",
        measure=lambda results: affine(wins(results), offset=-0.5),
        evidence=lambda results: f"in {wins(results)} of scenes",
    ),
    Claim(text="in the fewest steps the flow follows masks and sketches better than DDPM", measure=quicker),
    alike("it matters little whether words are placed in order", ORDERED),
)
ARM_TABLE = ArmTable(
    columns=(
        Column(source="models.parameters", title="weights", show=lambda value: f"{value:,}", first=True),
        Column(source="runs.loss", title="loss", interval=True, pair="picture"),
        Column(source="runs.colour", title="colours", show=".3f", interval=True, pair="picture"),
        Column(source="runs.miou", title="mIoU", show=".3f", interval=True, pair="picture"),
    )
)
STEP_LINES = Lines(
    source=("steps.colour", "steps.miou"),
    x="steps",
    titles=("colours kept", "mean IoU"),
    about="Colours kept and mean IoU of the flow and of DDPM by sampling steps",
    name="steps",
    label="share",
)


def little(results: Results, figures: Figures) -> str:
    """What the claims mean by it."""
    return f"Little, and no higher: within {LITTLE:.0%} of the loss compared with."


def conflict_table(results: Results, figures: Figures) -> str:
    """How often the picture is followed and not the caption, by its kind."""
    rows = ([kind, wins(results, arm=kind)] for kind in ("mask", "sketch"))
    return markdown_table(["given", "followed against the caption"], rows)


SAMPLES = KeptPicture(
    source="sheets.png", name="samples", about="Masks and sketches, what was drawn under them, and the scenes"
)
