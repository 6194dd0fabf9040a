"""Which text tokens of a pipeline are a word's: by the character offsets of its own tokenizers."""

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One text encoder whose tokens attention sees; `suffix` as in `tokenizer_2` and `text_encoder_2`.

    longest  tokens it is cut to, unless `max_sequence_length` says otherwise; None for the tokenizer's own, always
    lower    the pipeline puts prompts in lower case
    """

    suffix: str = ""
    longest: int | None = None
    lower: bool = False

    def length(self, pipe: Any, asked: int | None) -> int:
        """Tokens it gives for any prompt."""
        if self.longest is None:
            return getattr(pipe, f"tokenizer{self.suffix}").model_max_length
        return asked or self.longest

    def tokens(self, pipe: Any, prompt: str, place: tuple[int, int], length: int) -> list[int]:
        """Those whose characters overlap a place in the prompt; none where the encoder is left out."""
        if getattr(pipe, f"text_encoder{self.suffix}", None) is None:
            return []
        text, tokenizer = prompt.lower() if self.lower else prompt, getattr(pipe, f"tokenizer{self.suffix}")
        spans = tokenizer(text, truncation=True, max_length=length, return_offsets_mapping=True)["offset_mapping"]
        return [i for i, (start, end) in enumerate(spans) if start < place[1] and end > place[0]]


READERS = {  # in the order of their tokens
    "CogVideoXPipeline": (Reader(longest=226),),
    "FluxPipeline": (Reader(suffix="_2", longest=512),),
    "PixArtAlphaPipeline": (Reader(longest=120, lower=True),),
    "PixArtSigmaPipeline": (Reader(longest=300, lower=True),),
    "StableDiffusion3Pipeline": (Reader(), Reader(suffix="_3", longest=256)),
    "WanPipeline": (Reader(longest=512),),
}


def word_tokens(pipe: Any, prompt: str, word: str, max_sequence_length: int | None = None) -> tuple[int, ...]:
    """Positions, within the text that attention sees, of the first place where `prompt` has `word`.

    word                 one word or several in a row, as they stand in the prompt, in any case
    max_sequence_length  as given to the pipeline, if it is
    Raises ValueError for a word the prompt does not have, or has beyond what every encoder reads.
    """
    place, readers = _place(prompt, word), _readers(pipe)
    lengths = [reader.length(pipe, max_sequence_length) for reader in readers]
    starts = accumulate(lengths[:-1], initial=0)
    found = [
        start + i
        for reader, start, length in zip(readers, starts, lengths, strict=True)
        for i in reader.tokens(pipe, prompt, place, length)
    ]
    if not found:
        raise ValueError(f"word='{word}' lies beyond the {max(lengths)} tokens read of the prompt; name it earlier")
    return tuple(found)


def _readers(pipe: Any) -> tuple[Reader, ...]:
    names = [cls.__name__ for cls in type(pipe).__mro__]
    known = next((READERS[name] for name in names if name in READERS), None)
    if known is None:
        raise ValueError(f"pipe={names[0]} is not among {', '.join(READERS)}; give the token positions yourself")
    return known


def _place(prompt: str, word: str) -> tuple[int, int]:
    """Characters of the first occurrence that is not part of another word."""
    found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", prompt, re.IGNORECASE) if word.strip() else None
    if found is None:
        raise ValueError(f"word='{word}' is not in the prompt '{prompt}'; name a word of the prompt")
    return found.span()
