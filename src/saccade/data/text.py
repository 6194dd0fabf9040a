"""Plain text to train small language models on: tiny Shakespeare where it lies on this machine, or synthetic captions.

The last tenth of tiny Shakespeare is held out, never trained on.
"""

import os
from pathlib import Path
from typing import Literal, get_args

from saccade.data.scenes import prompts

Split = Literal["train", "held-out"]
Source = Literal["shakespeare", "captions"]
CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # all that tiny Shakespeare uses
HELD_OUT = 0.1
CAPTIONS = {"train": 2000, "held-out": 200}


def read_text(source: Source = "shakespeare", split: Split = "train") -> str:
    """The text of one split, in characters of `CHARACTERS`.

    shakespeare  read from the folder `tinyshakespeare` under the environment variable SACCADE_DATA
    captions     captions of synthetic scenes, one a line; needs no file
    Raises ValueError for a name that is neither, FileNotFoundError where the file is missing.
    """
    _check("source", source, get_args(Source))
    _check("split", split, get_args(Split))
    if source == "captions":
        return "\n".join(prompt.text for prompt in prompts(CAPTIONS[split], seed=0, split=split))
    text = _shakespeare().read_text(encoding="utf-8")
    border = round(len(text) * (1 - HELD_OUT))
    return text[:border] if split == "train" else text[border:]


def _shakespeare() -> Path:
    root = os.environ.get("SACCADE_DATA")
    place = Path(root or "") / "tinyshakespeare" / "input.txt"
    if not root or not place.is_file():
        raise FileNotFoundError(
            f"SACCADE_DATA={root} has no tinyshakespeare/input.txt; set it to the folder of the optional data sets, "
            "or take source='captions'"
        )
    return place


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}='{value}' is unknown; choose one of {', '.join(known)}")
