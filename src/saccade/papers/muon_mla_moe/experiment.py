"""Muon against AdamW, latents against keys and values of all heads, balance without a loss: on tiny Shakespeare.

Decoders with 140,000 weights at work for a character, trained for 200 steps.
Expected: Muon reaches AdamW's loss with half to two thirds of the steps, fewer where batches are larger; latent
attention with rotation is about as good as attention of all heads, without rotation worse; the offsets even out
the load.
"""

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

import torch

from saccade.experiments import (
    ArmTable,
    Bench,
    Claim,
    Column,
    Experiment,
    Figures,
    Lines,
    Note,
    Results,
    Row,
    RowTable,
    Verdicts,
    higher,
)  # fmt: skip
from saccade.metrics.intervals import Interval, t_interval
from saccade.models.causal_lm import CausalLM
from saccade.papers.muon_mla_moe.cache_cost import cache_rows
from saccade.papers.muon_mla_moe.model import LatentMoE, cache_numbers
from saccade.papers.muon_mla_moe.small_runs import (
    Settings,
    curve,
    loss,
    optim,
    share_of_steps,
    trained,
    variation_of_load,
)
from saccade.train.optimisers import OptimiserKind
from saccade.ui.markdown import markdown_table

ADAMW, MUON = "AdamW", "Muon"
KINDS: dict[str, OptimiserKind] = {ADAMW: "adamw", MUON: "muon"}
ALL_HEADS, LATENTS, BLIND = "all heads", "latents", "latents without rotation"
OFFSETS, NOTHING = "offsets", "nothing"
USUAL = optim("muon", 3e-3, 1e-2)  # of the trainings that do not compare optimisers
CLAIMED = 0.52
SMALL, LARGE = Settings().batches


def shares(found: Results, batch: int) -> dict[int, float]:
    """By seed, Muon's steps to AdamW's last loss over all steps."""
    ends = {}
    for seed in found.distinct("curves.seed"):
        adamw, muon = (list(found.by("curves.nats", "step", arm=arm, batch=batch, seed=seed).items()) for arm in KINDS)
        ends[seed] = share_of_steps(muon, adamw[-1][1])
    return ends


def share_below(text: str, bound: float, batch: int) -> Claim:
    """Muon needs a smaller share of the steps than `bound`."""
    measure = lambda found: t_interval([bound - share for share in shares(found, batch).values()])  # noqa: E731
    return Claim(text=text, measure=measure, digits=3)


def falls_with_batch(found: Results) -> Interval:
    """How much less of the steps is needed in large batches than in small ones."""
    small, large = (shares(found, batch) for batch in (SMALL, LARGE))
    return t_interval([small[seed] - large[seed] for seed in small])


def ends_lower(batch: int) -> Claim:
    """Muon's held-out loss after all steps is lower."""

    def measure(found: Results) -> Interval:
        adamw, muon = (found.by("optimisers.loss", arm=arm, batch=batch, chosen=True) for arm in KINDS)
        return t_interval([adamw[seed] - muon[seed] for seed in adamw])

    return Claim(text=f"Muon ends with a lower loss, batches of {batch}", measure=measure)


CLAIMS = (
    *(share_below(f"Muon reaches AdamW's loss in fewer steps, batches of {each}", 1.0, each)
      for each in (SMALL, LARGE)),
    *(share_below(f"and in no more than {CLAIMED:.0%} of them, batches of {each}", CLAIMED, each)
      for each in (SMALL, LARGE)),
    Claim(text="The share of steps is smaller for larger batches", measure=falls_with_batch, digits=3),
    *(ends_lower(each) for each in (SMALL, LARGE)),
    higher("Latents with rotation have a lower loss than all heads", "mixers.loss", ALL_HEADS, than=LATENTS),
    higher("Latents without rotation have a higher loss than all heads", "mixers.loss", BLIND, than=ALL_HEADS),
    higher("Without offsets the load varies more", "routing.variation", NOTHING, than=OFFSETS, digits=3),
    higher("Without offsets the loss is higher", "routing.loss", NOTHING, than=OFFSETS),
)  # fmt: skip
MIXER_COLUMNS = (
    Column(source="mixers.loss", title="loss"),
    Column(source="mixers.loss", title=f"above {ALL_HEADS}", against=ALL_HEADS),
    Column(source="mixers.kept", title="numbers kept of a token", show=",d", first=True),
    Column(source="mixers.bytes", title="bytes, measured", show=",d", first=True),
)
ROUTING_COLUMNS = (
    Column(source="routing.loss", title="loss"),
    Column(source="routing.variation", title="variation of load", show=".3f"),
)
SETTING = (
    "Decoders of width {width}, depth {depth}, {heads} heads, {experts} routed experts of which {top} serve a "
    "character, and two shared; {steps} steps of texts of {length} characters at a constant rate."
)
CACHE_CELLS = {
    "attention": "{arm}", "numbers a token, counted": "{counted}", "measured": "{measured:.0f}",
    "one more token, ms": "{ms:.2f}", "over all heads": "{ratio:.2f} ({low:.2f} to {high:.2f})",
}  # fmt: skip


def optimiser_table(results: Results, figures: Figures) -> str:
    """A line for each batch and optimiser: losses of the first seed by rate, then of all seeds at the best rate."""
    rates = results.distinct("optimisers.rate")
    lines = []
    for batch in results.distinct("optimisers.batch"):
        for arm in KINDS:
            first = [fmean(results.values("optimisers.loss", arm=arm, batch=batch, rate=r, first=True)) for r in rates]
            best = results.values("optimisers.loss", arm=arm, batch=batch, chosen=True)
            share = str(t_interval(list(shares(results, batch).values()))) if arm == MUON else ""
            lines.append([batch, arm, *(f"{each:.3f}" for each in first), f"{fmean(best):.3f}", share])
    heads = ["batch", "optimiser", *(f"rate {each:g}" for each in rates), "best rate, all seeds", "share of steps"]
    return markdown_table(heads, lines)


EXPERIMENT = Experiment(
    name="muon_mla_moe",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), source="captions", width=16, heads=2, experts=4, top=1, steps=20, length=16, rates=(1e-2,), batch=4,
        windows=8, cached=8, blocks=(16, 2, 8, 4), rounds=2,
    ),
    hours=0.17,
    sections={
        "optimisers": (optimiser_table, Note(SETTING)),
        "curves": (
            Lines(source="curves.nats", x="step", panels="batch", about="Loss by step", name="curves", label="nats"),
        ),
        "mixers": (ArmTable(columns=MIXER_COLUMNS, of="mixers.arm", title="attention"),),
        "cache": (RowTable(table="cache", cells=CACHE_CELLS), Note("{rounds} rounds, {cached} tokens kept.")),
        "routing": (ArmTable(columns=ROUTING_COLUMNS, of="routing.arm", title="balanced by"),),
        "verdicts": (Verdicts(CLAIMS, True),),
    },
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part(tables=True)
def optimisers(bench: Bench[Settings]) -> Iterable[Row]:
    """Both optimisers, batch by batch: all rates with the first seed, the best of them with the others."""
    settings, first = bench.settings, bench.settings.seeds[0]
    for batch in settings.batches:
        for arm in KINDS:
            bench.progress(settings.batches.index(batch), len(settings.batches), f"{arm}, batches of {batch}")
            tried = {rate: optimised(bench, arm, batch, rate, first) for rate in settings.rates}
            best = min(tried, key=lambda rate: tried[rate][0])
            runs = {(rate, first): found for rate, found in tried.items()}
            runs |= {(best, seed): optimised(bench, arm, batch, best, seed) for seed in settings.seeds[1:]}
            for (rate, seed), (found, folder) in runs.items():
                about = {"arm": arm, "batch": batch, "seed": seed}
                marks = {"rate": rate, "first": seed == first, "chosen": rate == best}
                yield {"table": "optimisers"} | about | marks | {"loss": found}
                if rate == best:
                    yield from ({"table": "curves"} | about | {"step": s, "nats": nats} for s, nats in curve(folder))


def optimised(bench: Bench[Settings], arm: str, batch: int, rate: float, seed: int) -> tuple[float, Path]:
    """Held-out loss of the decoder after one training, and its folder."""
    settings, folder = bench.settings, bench.work / f"{arm}-{batch}-{rate:g}-{seed}"
    model = decoder(settings, seed)
    return loss(trained(model, settings, optim(KINDS[arm], rate), batch, seed, folder), settings), folder


def decoder(settings: Settings, seed: int, **changes: float) -> LatentMoE:
    """The paper's model at this size."""
    torch.manual_seed(seed)
    return LatentMoE(experts=settings.experts, top=settings.top, **settings.sizes, **changes)


@EXPERIMENT.part(per_seed=True)
def mixers(bench: Bench[Settings]) -> Iterable[Row]:
    """Attention of all heads, and of latents with and without rotation, before dense feed-forwards."""
    settings = bench.settings
    texts = {
        ALL_HEADS: "attention(rotary=True, bias=False)",
        LATENTS: "latent_attention",
        BLIND: "latent_attention(rope_dim=0)",
    }
    for number, (arm, mixer) in enumerate(texts.items()):
        bench.progress(number, len(texts), arm)
        torch.manual_seed(bench.seed)
        model = CausalLM(mixer=mixer, ffn=f"swiglu(hidden={4 * settings.width})", **settings.sizes)
        model = trained(model, settings, USUAL, settings.batch, bench.seed, bench.work / f"{arm}-{bench.seed}")
        memories = model.fresh_memories()
        with torch.no_grad():
            model(torch.zeros(1, settings.length, dtype=torch.long), memories)
        measured = sum(each.size for each in memories) // settings.length
        yield {"arm": arm, "loss": loss(model, settings), "kept": cache_numbers(model), "bytes": measured}


@EXPERIMENT.part(per_seed=True)
def routing(bench: Bench[Settings]) -> Iterable[Row]:
    """The decoder with offsets in the choice of experts, and with nothing that balances."""
    settings = bench.settings
    for number, (arm, rate) in enumerate({OFFSETS: 1e-3, NOTHING: 0.0}.items()):
        bench.progress(number, 2, arm)
        model = decoder(settings, bench.seed, offset_rate=rate)
        model = trained(model, settings, USUAL, settings.batch, bench.seed, bench.work / f"{arm}-{bench.seed}")
        yield {"arm": arm, "loss": loss(model, settings), "variation": variation_of_load(model, settings)}


@EXPERIMENT.part()
def cache(bench: Bench[Settings]) -> Iterable[Row]:
    """Latents and all heads in a published setting: what is kept, and the time of one more token."""
    yield from cache_rows(bench.settings.blocks, bench.settings.cached, bench.settings.rounds)
