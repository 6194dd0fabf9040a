"""Learned concepts as a file: terms of keys and values, rows of the new words, and what they are called.

transformer.SITE.PATH.lora_A.weight, .lora_B.weight   low-rank terms, in diffusers' names
transformer.SITE.PATH.delta.weight                    (o r) what was added to a whole matrix
tokens, tokens_2, tokens_3                            (n d) rows of the text encoders, in the order of the concepts
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from saccade.core.projections import LowRankTerm
from saccade.mechanisms.low_rank import LowRank, Name
from saccade.models.lora_file import DOWN, UP, read_terms
from saccade.models.stored import read_metadata, read_weights
from saccade.papers.attencraft.concepts import Concept
from saccade.train.checkpoint import write_atomically

FILE = "concepts.safetensors"
ROWS, DELTA = "tokens", ".delta.weight"
MEND = "learn the concepts for this model, by customise or `saccade train attencraft`"


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What a training made.

    terms     of the projections
    rows      by encoder, "" for the first
    concepts  in the order of the rows
    said      whatever else the file says
    """

    terms: LowRank
    rows: Mapping[str, Tensor]
    concepts: tuple[Concept, ...]
    said: Mapping[str, str]

    def save(self, path: Path) -> Path:
        """Store it, in single precision; a folder gets the usual name."""
        file = path if path.suffix == ".safetensors" else path / FILE
        tensors = {f"{ROWS}{suffix}": row for suffix, row in self.rows.items()} | _stored(self.terms)
        tensors = {name: value.detach().float().cpu().contiguous() for name, value in tensors.items()}
        known = {**self.said, "concepts": json.dumps([asdict(concept) for concept in self.concepts])}
        write_atomically(file, lambda partial: save_file(tensors, partial, metadata=known))
        return file


def read_concepts(path: str | Path) -> Learned:
    """What a file holds, or a folder's `concepts.safetensors`.

    Raises ValueError where there is none, and for one that is cut or of another kind.
    """
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ValueError(f"learned='{path}' is no file of concepts; {MEND}")
    said, stored = read_metadata(file), read_weights(file)
    if "concepts" not in said:
        raise ValueError(f"learned='{file}' names no concepts in its metadata, so it is of another kind; {MEND}")
    rows = {name.removeprefix(ROWS): stored.pop(name) for name in [*stored] if name.startswith(ROWS)}
    concepts = tuple(Concept(**each) for each in json.loads(said["concepts"]))
    if wrong := [suffix for suffix, row in rows.items() if len(row) != len(concepts)]:
        raise ValueError(
            f"learned='{file}' has {len(rows[wrong[0]])} rows {ROWS}{wrong[0]} for {len(concepts)} concepts; "
            "copy it again"
        )
    title = file.parent.name if file.name == FILE else file.stem
    return Learned(terms=_terms(stored, file, title), rows=rows, concepts=concepts, said=said)


def whole(terms: Mapping[Name, Tensor]) -> dict[Name, LowRankTerm]:
    """Terms that are any change of a matrix (o i): `down` passes the input on as it is."""
    return {name: LowRankTerm(torch.eye(change.shape[1]), change) for name, change in terms.items()}


def _stored(terms: LowRank) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in terms.names:
        down, up = terms.at(name)
        key = f"transformer.{'.'.join(name)}"
        is_whole = down.shape[0] == down.shape[1] and torch.equal(down, torch.eye(len(down)).to(down))
        found |= {f"{key}{DELTA}": up} if is_whole else {f"{key}.{DOWN}": down, f"{key}.{UP}": up}
    return found


def _terms(stored: dict[str, Tensor], file: Path, title: str) -> LowRank:
    changes = {name: stored.pop(name) for name in [*stored] if name.endswith(DELTA)}
    names = {name: name.removeprefix("transformer.").removesuffix(DELTA) for name in changes}
    parted: dict[Name, Tensor] = {
        (site, path): changes[key] for key, name in names.items() for site, _, path in [name.rpartition(".")]
    }
    return LowRank({**whole(parted), **read_terms(stored, file)}, title=title, mend=MEND)
