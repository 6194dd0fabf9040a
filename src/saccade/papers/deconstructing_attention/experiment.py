"""Every variant in all layers and in every other, trained alike on tiny Shakespeare; skipped; its maps; recall.

Character by character; all arms have the parameters of the standard one.
Expected: in all layers standard < approx < static, fixed and random < mlp, nonapprox the worst without normalised q and
k; in every other layer all within a few hundredths of standard; the trained layers left out, far worse; mlp recalls
nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from saccade.data.text import Source
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
    Verdicts,
    higher,
    margin,
)  # fmt: skip
from saccade.experiments.claims import difference
from saccade.metrics.attention_maps import indicators
from saccade.metrics.intervals import Interval, t_interval
from saccade.models.sizing import Arm, build
from saccade.papers.deconstructing_attention.mixers import PositionScores
from saccade.papers.deconstructing_attention.model import DeconstructedLM, maps, skipped
from saccade.papers.deconstructing_attention.position_scores import scores
from saccade.papers.deconstructing_attention.recall import Recall
from saccade.train.causal import held_out_nats
from saccade.train.language_comparison import LanguageComparison, LanguageRun, Texts
from saccade.ui.markdown import markdown_table, signed

STANDARD, HYBRID = "standard", ", every other"
NORMED = "nonapprox, normed"
VARIANTS = {
    "mlp": "mlp", "approx": "approx", "nonapprox": "nonapprox", NORMED: "nonapprox(qk_norm=True)",
    "rnd_emb_qk": "rnd_emb_qk", "fixed_seq_qk": "fixed_seq_qk", "static_emb_qk": "static_emb_qk",
}  # fmt: skip
SOURCED = ("static_emb_qk", "fixed_seq_qk", "rnd_emb_qk")
HYBRIDS = tuple(name for name in VARIANTS if name != NORMED)
NEAR = 0.05  # nats, "a few hundredths"
CHANCE = 0.02  # of accuracy
RECALLING = {STANDARD: "standard", "mlp": "uniform", f"nonapprox{HYBRID}": "even"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the comparison (see `LanguageComparison`), and of the recall of pairs."""

    seeds: tuple[int, ...] = (0, 1, 2)
    source: Source = "shakespeare"
    steps: int = 150
    depth: int = 4
    width: int = 48
    length: int = 64
    batch: int = 8
    windows: int = 256
    recall: Recall = field(default_factory=Recall)


def arms(settings: Settings, texts: Texts) -> tuple[Arm, ...]:
    """The standard model, every variant in all layers, and in every other."""
    common = {"context": settings.length, "sequence": tuple(texts.train[: settings.length].tolist())}
    wanted = {STANDARD: ("nonapprox", "standard")}
    wanted |= {name: (variant, "uniform") for name, variant in VARIANTS.items()}
    wanted |= {f"{name}{HYBRID}": (VARIANTS[name], "even") for name in HYBRIDS}
    return tuple(
        Arm(name=name, model=f"DeconstructedLM(variant={variant!r}, layout={layout!r}, {_written(common)})")
        for name, (variant, layout) in wanted.items()
    )


def _written(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def comparison(settings: Settings, seed: int) -> LanguageComparison:
    """What is equal for all arms."""
    usual = LanguageComparison()
    used = replace(
        usual, budget="parameters", depth=settings.depth, width=settings.width, source=settings.source, seeds=(seed,),
        length=settings.length, batch=settings.batch, windows=settings.windows,
        fit=replace(usual.fit, steps=settings.steps, measure_every=max(1, settings.steps // 6)),
    )  # fmt: skip
    return replace(used, arms=arms(settings, used.open()))


def nearer(name: str) -> Claim:
    """A hybrid's loss is that of the standard model, to a few hundredths."""

    def measure(found: Results) -> Interval:
        return margin(difference(found, "runs.loss", f"{name}{HYBRID}", STANDARD), NEAR)

    return Claim(text=f"{name} in every other layer is within {NEAR:g} of standard", measure=measure)


def worse_skipped(name: str) -> Claim:
    """Without the trained layers the loss is higher."""

    def measure(found: Results) -> Interval:
        whole, short = (found.by(f"runs.{what}", arm=f"{name}{HYBRID}") for what in ("loss", "skip"))
        return t_interval([short[seed] - whole[seed] for seed in whole])

    return Claim(text=f"{name} left out after training is worse than kept", measure=measure)


def at_chance(found: Results) -> Interval:
    """How far within `CHANCE` of guessing mlp's recall lies."""
    guessed = 1 / found.settings["recall"]["keys"]
    return margin(t_interval([value - guessed for value in found.by("recall.accuracy", arm="mlp").values()]), CHANCE)


UNIFORM_CLAIMS = (
    higher("approx in all layers costs", "runs.loss", "approx", than=STANDARD),
    *(higher(f"{name} in all layers costs more than approx", "runs.loss", name, than="approx") for name in SOURCED),
    *(higher(f"mlp in all layers costs more than {name}", "runs.loss", "mlp", than=name) for name in SOURCED),
    higher("nonapprox in all layers costs more than mlp", "runs.loss", "nonapprox", than="mlp"),
    higher("normalised q and k help nonapprox in all layers", "runs.loss", "nonapprox", than=NORMED),
)
HYBRID_CLAIMS = tuple(nearer(name) for name in HYBRIDS)
SKIP_CLAIMS = tuple(worse_skipped(name) for name in HYBRIDS)
LOGIT_CLAIMS = (
    higher("scores grow larger in all layers than in every other", "logits.largest", "nonapprox",
           than=f"nonapprox{HYBRID}", digits=2),
)  # fmt: skip
RECALL_CLAIMS = (
    Claim(text=f"mlp recalls no better than chance, to {CHANCE:g}", measure=at_chance),
    higher("standard attention recalls more than mlp", "recall.accuracy", STANDARD, than="mlp"),
)


def loss_table(results: Results, figures: Figures) -> str:
    """The paper's table: losses in all layers, in every other, and with those left out."""
    lines = [[STANDARD, _loss(results, STANDARD), "", "", "", ""]]
    for name in VARIANTS:
        whole, part = name, f"{name}{HYBRID}"
        hybrid = part in results.distinct("runs.arm")
        lines.append([
            name, _loss(results, whole), signed(difference(results, "runs.loss", whole, STANDARD), 3),
            _loss(results, part) if hybrid else "",
            signed(difference(results, "runs.loss", part, STANDARD), 3) if hybrid else "",
            f"{fmean(results.values('runs.skip', arm=part)):.3f}" if hybrid else "",
        ])  # fmt: skip
    heads = ["variant", "all layers", "above standard", "every other", "above standard", "skipped"]
    return markdown_table(heads, lines)


def _loss(results: Results, arm: str) -> str:
    return f"{fmean(results.values('runs.loss', arm=arm)):.3f}"


SETTING = (
    "Nats a character on {windows} held-out windows; depth {depth}, width {width}, {steps} steps of {batch} windows of "
    "{length} characters, source {source}."
)
COST_COLUMNS = (
    Column(source="runs.parameters", title="parameters", show=",d", first=True),
    Column(source="runs.macs", title="kMACs a token", show=lambda value: f"{value / 1e3:,.0f}", first=True),
    Column(source="runs.cache_bytes", title="cache, bytes a token", show=",.0f", first=True),
)
RECALL_COLUMNS = (Column(source="recall.accuracy", title="values recalled", show=".1%"),)
EXPERIMENT: Experiment[Settings] = Experiment(
    name="deconstructing_attention",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), source="captions", steps=6, depth=2, width=16, length=16, batch=2, windows=4,
        recall=Recall(steps=2, batch=2, texts=8, width=16, depth=1),
    ),
    hours=0.1,
    sections={
        "losses": (
            Lines(source="curves.loss", x="step", panels="layers", name="curves", label="held-out loss, nats",
                  about="Held-out loss over the steps of training, variants in all layers and in every other"),
            loss_table, Note(SETTING),
            Verdicts((*UNIFORM_CLAIMS, *HYBRID_CLAIMS, *SKIP_CLAIMS), True),
        ),
        "costs": (ArmTable(columns=COST_COLUMNS),),
        "maps": (
            Lines(source=("maps.entropy", "maps.concentration", "maps.diversity", "maps.sink", "maps.locality"),
                  x="layer", name="maps", titles=("entropy", "concentration", "diversity", "sink", "own token"),
                  about="Entropy, concentration, diversity, sink and weight of the own token, by layer"),
            Lines(source="logits.largest", x="layer", name="logits", label="largest score, its size", scale="log",
                  about="Largest scores of nonapprox in all layers and in every other, by layer"),
            Verdicts(LOGIT_CLAIMS, True),
        ),
        "recall": (ArmTable(columns=RECALL_COLUMNS, of="recall.arm"), Verdicts(RECALL_CLAIMS, True)),
    },
    claims=(*UNIFORM_CLAIMS, *HYBRID_CLAIMS, *SKIP_CLAIMS, *LOGIT_CLAIMS, *RECALL_CLAIMS),
)  # fmt: skip


@EXPERIMENT.part(per_seed=True, tables=True)
def texts(bench: Bench[Settings]) -> Iterable[Row]:
    """Losses, curves, maps and scores of every arm."""
    compared = comparison(bench.settings, bench.seed)
    compared.check_folder(bench.work)
    runs = compared.arm_runs(bench.work)
    for number, (name, run) in enumerate(runs.items()):
        assert isinstance(run, LanguageRun)
        bench.progress(number, len(runs), name)
        found, model = run.complete(bench.work / name), run.restored(bench.work / name)
        assert isinstance(model, DeconstructedLM)
        arm = found["arm"]
        kept = {name: found[name] for name in ("arm", "seed", "parameters", "macs", "cache_bytes", "loss", "seconds")}
        yield {"table": "runs"} | kept | skip_loss(model, arm, run)
        layers = "every other" if arm.endswith(HYBRID) else "all"
        about = {"arm": arm.removesuffix(HYBRID), "layers": layers}
        yield from ({"table": "curves"} | about | {"step": step, "loss": loss} for step, _, loss in found["curve"])
        yield from probed(model, arm, run)


def skip_loss(model: DeconstructedLM, arm: str, run: LanguageRun) -> dict[str, float]:
    """Of a hybrid without its replaced layers."""
    if not arm.endswith(HYBRID):
        return {}
    used = run.comparison
    nats = held_out_nats(skipped(model), run.source.held, length=used.length, windows=used.windows)
    return {"skip": float(nats.mean())}


def probed(model: DeconstructedLM, arm: str, run: LanguageRun) -> Iterable[Row]:
    """What maps are like in models of one kind of layer, and how large the scores of nonapprox are."""
    length = run.comparison.length
    ids = run.source.held[: 8 * length].view(8, length)
    if not arm.endswith(HYBRID):
        for layer, found in enumerate(maps(model, ids), 1):
            if found is not None:
                seen = indicators(found.double())
                means = {
                    name: float(getattr(seen, name).mean())
                    for name in ("entropy", "concentration", "diversity", "sink")
                }
                yield (
                    {"table": "maps", "arm": arm, "layer": layer}
                    | means
                    | {"locality": float(seen.locality[..., 0].mean())}
                )
    if arm.startswith("nonapprox"):
        for layer, largest in position_logits(model, ids).items():
            yield {"table": "logits", "arm": arm, "layer": layer, "largest": largest}


@torch.no_grad()
def position_logits(model: DeconstructedLM, ids: Tensor) -> dict[int, float]:
    """The size of the largest score, by layer of `nonapprox`, counted from one."""
    found: dict[int, float] = {}

    def note(layer: int) -> Any:
        def hook(mixer: nn.Module, given: tuple[Any, ...]) -> None:
            assert isinstance(mixer, PositionScores)
            found[layer] = float(scores(*mixer.operands(given[0])[:2]).abs().max())

        return hook

    mixers = {i: block.mixer for i, block in enumerate(model.blocks, 1) if isinstance(block.mixer, PositionScores)}
    handles = [mixer.register_forward_pre_hook(note(i)) for i, mixer in mixers.items()]
    model(ids)
    for handle in handles:
        handle.remove()
    return found


@EXPERIMENT.part(per_seed=True)
def recall(bench: Bench[Settings]) -> Iterable[Row]:
    """Pairs of keys and values."""
    used = bench.settings.recall
    for number, (arm, layout) in enumerate(RECALLING.items()):
        bench.progress(number, len(RECALLING), arm)
        torch.manual_seed(bench.seed)
        variant = "mlp" if arm == "mlp" else "nonapprox"
        model = build(f"DeconstructedLM(variant='{variant}', layout='{layout}')", **used.sizes)
        yield {"arm": arm, "accuracy": used.accuracy(model, bench.work / f"{arm}-{bench.seed}", bench.seed)}
