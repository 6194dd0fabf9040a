"""`saccade score pie-bench`: edits of PIE-Bench, or of a folder laid out like it, against its pictures and masks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.options import AsJson
from saccade.cli.printing import console, print_json
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.data.pie_bench import Edit
    from saccade.metrics import EditScores, Interval, Judges

Weights = Annotated[Path | None, typer.Option(help="folder of the network, as transformers saves it")]


def pie_bench(
    folder: Annotated[Path, typer.Option(help="of the benchmark: mapping_file.json and annotation_images")],
    results: Annotated[Path, typer.Option(help="folder of the edits, under the same names")],
    clip: Weights = None,
    dino: Weights = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="score what is there; without it every edit must be")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score edits: structure, what should be left alone, and, with --clip and --dino, text and self-similarity."""
    from saccade.data.pie_bench import read

    edits = read(folder)
    made = {edit.key: find(results, edit.name) for edit in edits}
    missing = [edit.name for edit in edits if made[edit.key] is None]
    if missing and (len(missing) == len(edits) or not partial):
        raise ValueError(f"results='{results}' lacks {len(missing)} of {len(edits)} edits, the first is {missing[0]}")
    judges, remarks = _judges(clip, dino)
    chosen = [edit for edit in edits if made[edit.key] is not None]
    with progress_bar() as progress:
        scores = []
        for number, edit in enumerate(chosen):
            progress(number, len(chosen), edit.key)
            scores.append(score(edit, made[edit.key], judges))
    remarks += [f"{len(missing)} edits are missing"] if missing else []
    _tell(chosen, scores, remarks, as_json)


def find(results: Path, name: str) -> Path | None:
    """The file of an edit: under the picture's name, as PNG, or below annotation_images; None where there is none."""
    places = [results / name, results / "annotation_images" / name]
    tried = [place.with_suffix(ending) for place in places for ending in (place.suffix, ".png")]
    return next((place for place in tried if place.is_file()), None)


def score(edit: "Edit", made: Path | None, judges: "Judges") -> "EditScores":
    """One edit against its source picture and mask."""
    from saccade.data.pie_bench import load
    from saccade.metrics import score_edit

    source, result = edit.picture(), load(Path(str(made)))
    if result.shape != source.shape or source.shape[1] != source.shape[2]:
        sizes = f"{result.shape[1:3]} pixels, its source {source.shape[1:3]}"
        raise ValueError(f"{made} has {sizes}; both must be square and of one size")
    return score_edit(source, result, edit.mask(source.shape[1]), edit.target, judges=judges)


def by_type(edits: "Sequence[Edit]", scores: "Sequence[EditScores]") -> "dict[str, dict[str, Interval]]":
    """Means of all edits, then of each type."""
    from saccade.metrics import summarise_edits

    types = dict.fromkeys(edit.type for edit in sorted(edits, key=lambda edit: edit.type_id))
    pairs = list(zip(edits, scores, strict=True))
    groups = {name: [s for edit, s in pairs if edit.type == name] for name in types}
    return {name: summarise_edits(found) for name, found in {"all": scores, **groups}.items()}


def _judges(clip: Path | None, dino: Path | None) -> "tuple[Judges, list[str]]":
    from saccade.metrics import Judges, perceptual

    lpips = perceptual()
    remarks = [lpips.reason] if lpips.reason else []
    text = features = None
    if clip is not None or dino is not None:
        from saccade.models.judges import key_features, text_judge

        text = None if clip is None else text_judge(clip)
        features = None if dino is None else key_features(dino)
    remarks += ["agreement with the text is left out: give --clip FOLDER"] if clip is None else []
    remarks += ["structure distance is left out: give --dino FOLDER"] if dino is None else []
    return Judges(lpips=lpips.judge, text=text, features=features), remarks


def _tell(edits: "Sequence[Edit]", scores: "Sequence[EditScores]", remarks: list[str], as_json: bool) -> None:
    from saccade.compare.export import clean

    means = by_type(edits, scores)
    if as_json:
        tasks = [{"key": e.key, "type": e.type, **asdict(s)} for e, s in zip(edits, scores, strict=True)]
        print_json(clean({"means": means, "tasks": tasks, "remarks": remarks}))
        return
    console().print(_table(means, {name: sum(name in ("all", e.type) for e in edits) for name in means}))
    for remark in remarks:
        console().print(remark, style="dim", highlight=False)


def _table(means: "Mapping[str, Mapping[str, Interval]]", counts: Mapping[str, int]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), caption="means; PSNR in dB over the edits that differ")
    names = [name for name in means["all"] if name != "kept_mse"]
    for title in ("type", "edits", *names):
        table.add_column(title.replace("_", " "), justify="left" if title == "type" else "right")
    for name, row in means.items():
        cells: list[Any] = [f"{row[key].mid:.4g}" if key in row else "" for key in names]
        table.add_row(name, str(counts[name]), *cells)
    return table
