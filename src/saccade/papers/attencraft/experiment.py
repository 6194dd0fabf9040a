"""AttenCraft on the bundled model: which maps make the best masks, and what keeps concepts of one picture apart.

extraction     true captions of rendered scenes of two things: IoU of the masks with the exact ones, by kind of map
picture        one of these scenes, with its maps and masks
customisation  two colours learned under new words from one picture: whether a prompt that names one draws it, and
               whether the other comes along, with and without the attention loss and the sampling of subsets
Expected: maps that are squared and spread are best; both parts cut the leakage.
Undecided here: the steps until a smaller concept is learned, which take a longer training than this run affords.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Note, Row, Verdicts
from saccade.experiments.claims import difference, higher
from saccade.papers.attencraft import small_run
from saccade.papers.attencraft.figures import plot_maps
from saccade.papers.attencraft.small_run import BOTH, MAPS, RAW, SPREAD, SQUARED, Arm

NEITHER, LOSS, SUBSETS, ALL = "neither", "attention loss", "subsets", "both"
REWEIGHTED = "both, reweighted"
ARMS = {
    NEITHER: Arm(scheme="full", attention=0.0),
    LOSS: Arm(scheme="full", attention=1.0),
    SUBSETS: Arm(scheme="uniform", attention=0.0),
    ALL: Arm(scheme="uniform", attention=1.0),
    REWEIGHTED: Arm(scheme="reweighted", attention=1.0),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    scenes    of the extraction, rendered at `side` pixels
    seeds     pictures that are learned from, in `steps` steps
    pictures  of each concept, made in `sampling` steps
    """

    scenes: int = 32
    side: int = 128
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 100
    pictures: int = 8
    sampling: int = 12


def less(text: str, arm: str, *, than: str) -> Claim:
    """An arm leaks less often."""
    return Claim(text=text, measure=lambda found: difference(found, "customisation.leaked", than, arm), digits=2)


CLAIMS = (
    *(
        higher(f"masks of {BOTH} are nearer to the true ones than those of {name}", "extraction.iou", BOTH, than=name,
               pair="scene", digits=3)
        for name in (SPREAD, SQUARED, RAW)
    ),
    less("the attention loss cuts leakage", LOSS, than=NEITHER),
    less("sampling of subsets cuts leakage", SUBSETS, than=NEITHER),
    less("both cut leakage", ALL, than=NEITHER),
)  # fmt: skip
EXPERIMENT = Experiment(
    name="attencraft",
    settings=Settings(),
    quick=Settings(scenes=2, side=64, seeds=(0,), steps=1, pictures=1, sampling=1),
    hours=0.1,
    sections={
        "maps": (plot_maps,),
        "extraction": (
            ArmTable(
                columns=(
                    Column(source="extraction.iou", title="IoU with the true masks", show=".3f"),
                    Column(source="extraction.assigned", title="words assigned", show=".2f"),
                ),
                of="extraction.arm", title="map",
            ),
            Note("{scenes} scenes of two things at {side} pixels, one forward each; the mean of both things."),
        ),
        "customisation": (
            ArmTable(
                columns=(
                    Column(source="customisation.leaked", title="other concept there too", show=".2f"),
                    Column(source="customisation.shape", title="shape", show=".2f"),
                    Column(source="customisation.colour", title="shape and colour", show=".2f"),
                    Column(source="customisation.things", title="things", show=".1f"),
                ),
                of="customisation.arm",
            ),
            Note("{steps} steps at 64 pixels; {pictures} pictures of each concept alone, {sampling} steps."),
        ),
        "claims": (Verdicts(CLAIMS, differences=True),),
    },
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part()
def extraction(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each kind of map and scene."""
    for number in range(bench.settings.scenes):
        bench.progress(number, bench.settings.scenes, "masks")
        yield from small_run.extraction_rows(number, bench.settings.side)


@EXPERIMENT.part()
def picture(bench: Bench[Settings]) -> Iterable[Row]:
    """The maps of one scene, a row for each class."""
    side, scene = bench.settings.side, small_run.two_things(0)
    maps, classes = small_run.looked(scene, side, 0), small_run.captioned(scene).described((0, 1))
    for name in (RAW, BOTH):
        found = small_run.extract_maps(maps, classes, **MAPS[name])[0]
        for number, heat in enumerate(found):
            yield {"map": name, "class": number, "values": [[round(x, 3) for x in row] for row in heat.tolist()]}


@EXPERIMENT.part(per_seed=True)
def customisation(bench: Bench[Settings]) -> Iterable[Row]:
    """A row for each arm and picture."""
    said = bench.settings
    for done, (name, arm) in enumerate(ARMS.items()):
        bench.progress(done, len(ARMS), name)
        folder = bench.work / f"{bench.seed}-{done}"
        rows = small_run.customised(
            arm, bench.seed, folder, steps=said.steps, pictures=said.pictures, sampling=said.sampling
        )
        yield from ({"arm": name} | row for row in rows)
