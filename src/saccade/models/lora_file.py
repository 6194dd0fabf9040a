"""Files of low-rank terms in diffusers' own format, which `load_lora_weights` of a pipeline reads too.

transformer.SITE.PATH.lora_A.weight   (r i)      transformer.SITE.PATH.lora_B.weight   (o r)
transformer.SITE.PATH.alpha           optional; the term counts alpha / r times
"""

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from saccade.core.projections import LowRankTerm
from saccade.mechanisms.low_rank import MEND, LowRank, Name
from saccade.models.stored import read_weights

KEY = re.compile(r"(?:transformer\.)?(.*?\b\w*attn\d*)\.(.+)\.(lora_A\.weight|lora_B\.weight|alpha)")
DOWN, UP = "lora_A.weight", "lora_B.weight"


def load_lora(path: Path, *, title: str = "", mend: str = MEND) -> LowRank:
    """The terms of a file.

    Raises FileNotFoundError where there is none, ValueError for one that is cut, or holds anything but low-rank terms
    of attention projections.
    """
    return LowRank(read_terms(read_weights(path), path), title=title or path.stem, mend=mend)


def read_terms(weights: Mapping[str, Tensor], path: Path) -> dict[Name, LowRankTerm]:
    """The terms among the tensors of a file.

    Raises ValueError for anything but low-rank terms of attention projections.
    """
    parts: dict[Name, dict[str, Tensor]] = {}
    for key, value in weights.items():
        if (match := KEY.fullmatch(key)) is None:
            raise ValueError(
                f"{path} holds '{key}', which is no low-rank term of an attention projection; "
                "load such a file by load_lora_weights of the pipeline"
            )
        parts.setdefault((match[1], match[2]), {})[match[3]] = value
    return {name: _term(found, name, path) for name, found in parts.items()}


def save_lora(terms: LowRank, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Store terms in half precision."""
    found = {
        f"transformer.{'.'.join(name)}.{part}": value.detach().half().cpu().contiguous()
        for name in terms.names
        for part, value in zip((DOWN, UP), terms.at(name), strict=True)
    }
    save_file(found, path, metadata=dict(metadata or {}))


def _term(found: Mapping[str, Tensor], name: Name, path: Path) -> LowRankTerm:
    if not {DOWN, UP} <= found.keys():
        raise ValueError(f"{path} holds of '{'.'.join(name)}' {', '.join(found)} alone; it needs {DOWN} and {UP}")
    down, up = found[DOWN].float(), found[UP].float()
    return LowRankTerm(down, up * (found["alpha"].item() / len(down) if "alpha" in found else 1.0))
