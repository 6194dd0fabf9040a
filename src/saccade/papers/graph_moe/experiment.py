"""Routing by a graph of tokens on a small language model: steadiness, certainty, loss, and what swapped text costs.

Tiny Shakespeare by the character.
Expected: between two late checkpoints fewer tokens change their experts than under a plain router, decisions are surer,
the loss is not worse and swapped characters cost less; means over a window or over random tokens do less.
"""

from collections.abc import Iterable

from saccade.experiments import ArmTable, Bench, Claim, Column, Experiment, Figures, Lines, Note, Results, Row, higher
from saccade.papers.graph_moe import control_moe as control_moe  # the feed-forward by that name
from saccade.papers.graph_moe.trained_router import Settings, router_rows
from saccade.ui.markdown import signed

OPTIONS = "experts=8, top=2, kind='relu', hidden=96, balance=0.01"
PLAIN = "plain"
ARMS = {
    PLAIN: f"moe({OPTIONS}, shared=0, norm_topk=True)",
    "similarity": f"similar_moe({OPTIONS})",
    "attention": f"attention_moe({OPTIONS})",
    "window": f"control_moe({OPTIONS}, mean='window')",
    "random": f"control_moe({OPTIONS}, mean='random')",
}
EXPECTED = {  # a figure that is to be higher under the plain router
    "fewer tokens change their experts": "routing.fluctuation",
    "decisions are surer": "routing.entropy",
    "the loss is lower": "losses.loss",
    "swapped characters cost less": "losses.cost",
}
COLUMNS = (
    Column(source="losses.loss", title="loss, nats", show=".3f"),
    Column(source="losses.swapped", title="with swaps", show=".3f"),
    Column(source="routing.fluctuation", title="change experts", show=".3f"),
    Column(source="routing.entropy", title="entropy", show=".3f"),
    Column(source="routing.largest_load", title="largest load", show=".2f"),
    Column(source="routing.diversity", title="experts a text uses", show=".1f"),
)


def claims_of(arm: str) -> tuple[Claim, ...]:
    """What one router is expected to do."""
    return tuple(
        higher(f"{arm}: {text} than under the plain router", column, PLAIN, than=arm, digits=3)
        for text, column in EXPECTED.items()
    )


CLAIMS = {arm: claims_of(arm) for arm in ARMS if arm != PLAIN}


def verdicts_by_router(results: Results, figures: Figures) -> str:
    """A line for each expectation, with the verdict on every router."""
    lines = []
    for text, claims in zip(EXPECTED, zip(*CLAIMS.values(), strict=True), strict=True):
        verdicts = (
            f"{arm} **{claim.verdict(results)}** ({signed(claim.measure(results), claim.digits)})"
            for arm, claim in zip(CLAIMS, claims, strict=True)
        )
        lines.append(f"- {text} than under the plain router: {', '.join(verdicts)}")
    return "\n".join(lines)


EXPERIMENT = Experiment(
    name="graph_moe",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), early=2, late=3, depth=1, width=16, length=16, batch=4, held=4, corpus="captions",
    ),
    hours=0.4,
    sections={
        "arms": (
            Lines(
                source=("routing.fluctuation", "routing.entropy"), x="layer", name="layers",
                titles=("share of tokens that change experts", "entropy of decisions, nats"),
                about="Tokens that change their experts, and entropy of decisions, by layer",
            ),
            ArmTable(columns=COLUMNS, of="losses.arm", title="router"),
            verdicts_by_router,
            Note("Between steps {early} and {late}, mean over layers; swaps of {swapped:.0%} of the characters."),
        ),
    },
    claims=tuple(claim for claims in CLAIMS.values() for claim in claims),
)  # fmt: skip


@EXPERIMENT.part(per_seed=True, tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Every router in the same model, on the same text."""
    for number, (arm, ffn) in enumerate(ARMS.items()):
        bench.progress(number, len(ARMS), arm)
        rows = router_rows(ffn, bench.settings, bench.seed, bench.work / f"{arm}-{bench.seed}")
        yield from ({"arm": arm} | row for row in rows)
