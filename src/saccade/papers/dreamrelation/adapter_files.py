"""Sets on disk: a folder with a file for each, which diffusers loads as an adapter too; and their released names.

relation.safetensors, subject1.safetensors, ...   keys transformer.SITE.PATH.lora_A.weight (r i), .lora_B.weight (o r)

The scale alpha / r is folded into B, so that a loader that knows of none applies the set as it is; rank and alpha stand
in the metadata. To draw the relation, `relation` and `output` are all that is needed.

>>> pipe.load_lora_weights(folder, weight_name="relation.safetensors", adapter_name="relation")  # doctest: +SKIP
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save_file
from torch import Tensor

from saccade.core.projections import LowRankTerm
from saccade.mechanisms.low_rank import LowRank
from saccade.models.checkpoint_names import Names
from saccade.models.lora_file import DOWN, UP, read_terms
from saccade.models.stored import read_metadata, read_weights
from saccade.papers.dreamrelation.placement import OUTPUT, SETS
from saccade.train.checkpoint import write_atomically

MEND = "train one for this model by `saccade train dreamrelation`, or give the model it was trained on"
SAID = "dreamrelation"
THEIRS = {  # projections of diffusers' Mochi, and what the released code calls them
    "to_q": "to_q_x", "to_k": "to_k_x", "to_v": "to_v_x",
    "add_q_proj": "to_q_y", "add_k_proj": "to_k_y", "add_v_proj": "to_v_y",
    "to_out/0": "proj_x", "to_add_out": "proj_y",
}  # fmt: skip


class Stored(NamedTuple):
    """What a folder holds."""

    sets: dict[str, LowRank]
    rank: int
    alpha: float


def write_sets(folder: Path, sets: Mapping[str, LowRank], *, rank: int, alpha: float) -> None:
    """A file for each set, in the precision it has."""
    known = {SAID: json.dumps({"rank": rank, "alpha": alpha})}
    for name, low in sets.items():
        found = _tensors(low, alpha / rank)
        write_atomically(folder / f"{name}.safetensors", lambda file, found=found: save_file(found, file, known))


def read_sets(folder: Path) -> Stored:
    """The sets of a folder, frozen.

    Raises ValueError for a folder without any, or with files of several trainings, of another kind, or cut.
    """
    files = {name: folder / f"{name}.safetensors" for name in (*SETS, OUTPUT)}
    there = {name: file for name, file in files.items() if file.is_file()}
    if not there:
        raise ValueError(f"learned='{folder}' holds none of {', '.join(f.name for f in files.values())}; {MEND}")
    said = {name: read_metadata(file).get(SAID, "") for name, file in there.items()}
    if len({*said.values()}) > 1 or "" in said.values():
        raise ValueError(f"learned='{folder}' holds files of several trainings or of another kind: {said}; {MEND}")
    options = json.loads(next(iter(said.values())))
    scale = options["alpha"] / options["rank"]
    return Stored({name: _low(file, name, scale) for name, file in there.items()}, **options)


def _names() -> Names:
    """The output's terms are released without a name."""
    return tuple(
        (f"sets.{name}.{ours}.transformer_blocks/{{}}/attn1/{path}", f"blocks.{{}}.attn.{theirs}.{letter}{end}")
        for name in (*SETS, OUTPUT)
        for end in ("" if name == OUTPUT else f".{name}",)
        for ours, letter in (("down", "lora_A"), ("up", "lora_B"))
        for path, theirs in THEIRS.items()
    )


OFFICIAL = _names()


def _tensors(low: LowRank, scale: float) -> dict[str, Tensor]:
    found = {}
    for name in low.names:
        down, up = low.at(name)
        for part, value in ((DOWN, down), (UP, up * scale)):
            found[f"transformer.{'.'.join(name)}.{part}"] = value.detach().cpu().contiguous()
    return found


def _low(file: Path, name: str, scale: float) -> LowRank:
    terms = read_terms(read_weights(file), file)
    found = {where: LowRankTerm(down, up / scale) for where, (down, up) in terms.items()}
    return LowRank(found, title=name, mend=MEND)
