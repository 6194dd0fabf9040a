"""FlashBias' page: its tables, and what is claimed of it."""

import math

from saccade.experiments import Claim, Figures, Results, Row, RowTable, Verdicts
from saccade.metrics.intervals import Interval, t_interval
from saccade.papers.flashbias import alibi_lm, table_classifier
from saccade.papers.flashbias.bias_costs import crossover
from saccade.papers.flashbias.plots import plot_cost, plot_prior

NAMES = {"dense": "dense bias", "factors": "factors", "flipped": "factors, the printed sign"}


def saved(results: Results, what: str) -> Interval:
    """The share of "ms" or "bytes" that factors save at the largest length, over priors, types and passes."""
    longest = max(results.distinct("timing.n"))
    rows = results.rows("timing", n=longest)
    return t_interval([1 - row[f"factors_{what}"] / row[f"dense_{what}"] for row in rows])


COSTS = (
    Claim(
        text="at the largest length, attention with factors takes less time than with the dense bias, on this device",
        measure=lambda found: saved(found, "ms"),
        digits=3,
    ),
    Claim(text="and less memory", measure=lambda found: saved(found, "bytes"), digits=3),
)
RANKS = (
    Claim(
        text=f"a learned table needs at most {table_classifier.MAX_RANK} columns at energy 0.995",
        measure=lambda found: t_interval([table_classifier.MAX_RANK - rank for rank in found.values("columns.rank")]),
        digits=1,
    ),
)


def crossovers(results: Results, figures: Figures) -> str:
    """Where the factors begin to win, and what was measured how."""
    groups = dict.fromkeys((row["prior"], row["dtype"], row["part"]) for row in results.rows("timing"))
    won = []
    for prior, dtype, part in groups:
        n = crossover(results.rows("timing", prior=prior, dtype=dtype, part=part))
        won.append(f"{prior} {dtype} {part}: {'not up to here' if n is None else f'from {n} tokens'}")
    said = results.settings
    return (
        f"Factors are faster: {'; '.join(won)}.\n\nMedians of {said['repeats']} rounds on the wall clock ± the "
        f"distance of the quartiles; heads: {said['heads']}, channels: {said['channels']}."
    )


def classifier_about(results: Results, figures: Figures) -> str:
    """Pictures, model and its accuracy with dense tables."""
    (found,), part = results.rows("classifier"), table_classifier
    accuracy = found["right"] / found["tested"]
    error = math.sqrt(accuracy * (1 - accuracy) / found["tested"])
    return (
        f"{found['pictures']}, {found['train']} training and {found['tested']} test pictures, {part.TOKENS} tokens, "
        f"{part.DEPTH} layers of {part.HEADS} heads, {results.settings['classifier_steps']} steps; accuracy with the "
        f"dense tables {100 * accuracy:.2f} % (standard error {100 * error:.1f} points)."
    )


def accuracies(results: Results, figures: Figures) -> str:
    """Accuracy by energy and rule."""
    (dense,) = results.rows("classifier")
    table = RowTable(
        table="energies",
        cells={
            "row means": "{row_means}",
            "energy": "{energy}",
            "mean columns": "{mean_rank:.1f}",
            "most columns": "{max_rank}",
            "worst relative error": "{rel_err:.3f}",
            "accuracy": lambda row: f"{100 * row['right'] / dense['tested']:.2f} %",
            "points lost": lambda row: f"{100 * (dense['right'] - row['right']) / dense['tested']:+.2f}",
        },
    )
    return table(results, figures)


def columns_by_head(results: Results, figures: Figures) -> str:
    """What each head needs, and which are not of low rank."""
    rows = results.rows("columns")
    layers = [
        f"layer {layer}: {', '.join(str(row['rank']) for row in rows if row['layer'] == layer)}"
        for layer in results.distinct("columns.layer")
    ]
    bound = table_classifier.MAX_RANK
    high = [f"layer {r['layer']} head {r['head']}: {r['rank']}" for r in rows if r["rank"] > bound]
    return (
        f"Columns each head needs at energy 0.995, row means taken out: {'; '.join(layers)}. Heads that need more than "
        f"{bound} columns, and so are not of low rank: {', '.join(high) or 'none'}."
    )


def language_about(results: Results, figures: Figures) -> str:
    """Text and model."""
    (found,), part = results.rows("text"), alibi_lm
    return (
        f"{found['text']}, {results.settings['language_steps']} steps of {part.BATCH} x {part.CONTEXT} characters, "
        f"{part.DEPTH} layers, width {part.WIDTH}; loss in nats per character."
    )


def language_gap(results: Results, figures: Figures) -> str:
    """How far dense and factored training lie apart."""
    (found,) = results.rows("text")
    return (
        f"Dense and factored training losses differ by at most {found['first_gap']:.1e} over the first "
        f"{alibi_lm.FIRST} steps and {found['largest_gap']:.1e} over all of them."
    )


def spent(results: Results, row: Row) -> str:
    """Where a part ran, and for how long."""
    return f"{row['device']}, torch {results.versions['torch']}, {row['cpu_seconds']:.0f} s of CPU."


def with_spread(row: Row, arm: str) -> str:
    """A median and the distance of the quartiles."""
    return f"{row[f'{arm}_ms']:.1f} ± {row[f'{arm}_spread_ms']:.1f}"


TIMING = RowTable(
    table="timing",
    cells={
        "prior": "{prior}",
        "type": "{dtype}",
        "pass": "{part}",
        "tokens": "{n}",
        "no bias, ms": "{plain_ms:.1f}",
        "dense, ms": lambda row: with_spread(row, "dense"),
        "factors, ms": lambda row: with_spread(row, "factors"),
        "faster": lambda row: f"{row['dense_ms'] / row['factors_ms']:.2f}",
        "dense, MB": lambda row: f"{row['dense_bytes'] / 1e6:.1f}",
        "factors, MB": lambda row: f"{row['factors_bytes'] / 1e6:.1f}",
        "smaller": lambda row: f"{row['dense_bytes'] / row['factors_bytes']:.1f}",
    },
)
EXACT = RowTable(
    table="exactness",
    cells={
        "case": "{case}",
        "columns": "{rank}",
        "largest difference, output": "{output_gap:.1e}",
        "largest difference, gradients": "{gradient_gap:.1e}",
    },
)
LANGUAGE = RowTable(
    table="language",
    cells={
        "arm": lambda row: NAMES[row["arm"]],
        "held-out loss": "{held_out:.4f}",
        "last training loss": "{last:.4f}",
    },
)
SECTIONS = {
    "timing": (plot_cost, TIMING, crossovers, Verdicts(COSTS, differences=True)),
    "exactness": (EXACT,),
    "vit": (
        classifier_about,
        accuracies,
        columns_by_head,
        Verdicts(RANKS, differences=True),
        lambda results, figures: spent(results, results.rows("classifier")[0]),
    ),
    "lm": (
        language_about,
        LANGUAGE,
        language_gap,
        lambda results, figures: spent(results, results.rows("text")[0]),
    ),
    "prior": (plot_prior,),
}
