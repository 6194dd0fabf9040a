"""Which text tokens of a pipeline are a word's: by the character offsets of its own tokenizers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One text encoder whose tokens attention sees; `suffix` as in `tokenizer_2` and `text_encoder_2`.

    longest  tokens it is cut to, unless `max_sequence_length` says otherwise; None for the tokenizer's own, always
    lower    the pipeline puts prompts in lower case
    within   the pipeline writes prompts into a text of its own, whose first tokens attention does not see
    """

    suffix: str = ""
    longest: int | None = None
    lower: bool = False
    within: bool = False

    def length(self, pipe: Any, asked: int | None) -> int:
        """Tokens it gives for any prompt."""
        if self.longest is None:
            return getattr(pipe, f"tokenizer{self.suffix}").model_max_length
        return asked or self.longest

    def tokens(self, pipe: Any, prompt: str, place: tuple[int, int], length: int) -> list[int]:
        """Those whose characters overlap a place in the prompt; none where the encoder is left out."""
        if getattr(pipe, f"text_encoder{self.suffix}", None) is None:
            return []
        (text, before, cut), tokenizer = self._written(pipe, prompt), getattr(pipe, f"tokenizer{self.suffix}")
        spans = tokenizer(text, truncation=True, max_length=cut + length, return_offsets_mapping=True)["offset_mapping"]
        first, last = (before + at for at in place)
        return [i for i, (start, end) in enumerate(spans[cut:]) if start < last and end > first]

    def pieces(self, pipe: Any, pieces: Sequence[str], separator: str, length: int) -> list[list[int]]:
        """Those of each piece of a joined prompt; a token that reaches into two belongs to the first."""
        prompt, taken, found, start = separator.join(pieces), set[int](), list[list[int]](), 0
        for piece in pieces:
            own = [i for i in self.tokens(pipe, prompt, (start, start + len(piece)), length) if i not in taken]
            taken.update(own)
            found.append(own)
            start += len(piece) + len(separator)
        return found

    def counted(self, pipe: Any, pieces: Sequence[str], separator: str, length: int) -> list[range]:
        """As many one after the other as each piece has by itself, with the marks of its end."""
        counts = [len(self.ids(pipe, piece)) for piece in pieces]
        ends = accumulate(counts, initial=0)
        return [range(end, end + count) for end, count in zip(ends, counts, strict=False)]

    def check_length(self, pipe: Any, prompt: str, length: int) -> None:
        """Raise ValueError for a prompt that would be cut."""
        if (count := len(self.ids(pipe, prompt))) > length:
            raise ValueError(f"the prompt '{prompt}' has {count} tokens, and {length} are read of it; shorten it")

    def ids(self, pipe: Any, text: str) -> list[int]:
        """Of a text, uncut."""
        if getattr(pipe, f"text_encoder{self.suffix}", None) is None:
            return []
        written, _, cut = self._written(pipe, text)
        return getattr(pipe, f"tokenizer{self.suffix}")(written)["input_ids"][cut:]

    def _written(self, pipe: Any, prompt: str) -> tuple[str, int, int]:
        """What is read, the characters before the prompt in it, and the tokens that attention does not see."""
        text = prompt.lower() if self.lower else prompt
        if not self.within:
            return text, 0, 0
        frame = signature(pipe.encode_prompt).parameters["prompt_template"].default
        return frame["template"].format(text), frame["template"].index("{}"), frame["crop_start"]


READERS = {  # in the order of their tokens
    "CogVideoXPipeline": (Reader(longest=226),),
    "FluxPipeline": (Reader(suffix="_2", longest=512),),
    "FluxKontextPipeline": (Reader(suffix="_2", longest=512),),
    "FluxFillPipeline": (Reader(suffix="_2", longest=512),),
    "HunyuanVideoPipeline": (Reader(longest=256, within=True),),
    "PixArtAlphaPipeline": (Reader(longest=120, lower=True),),
    "PixArtSigmaPipeline": (Reader(longest=300, lower=True),),
    "StableDiffusion3Pipeline": (Reader(), Reader(suffix="_3", longest=256)),
    "StableDiffusionPipeline": (Reader(),),
    "WanPipeline": (Reader(longest=512),),
}


def word_tokens(pipe: Any, prompt: str, word: str, max_sequence_length: int | None = None) -> tuple[int, ...]:
    """Positions, within the text that attention sees, of the first place where `prompt` has `word`.

    word                 one word or several in a row, as they stand in the prompt, in any case
    max_sequence_length  as given to the pipeline, if it is
    Raises ValueError for a word the prompt does not have, or has beyond what every encoder reads.
    """
    place, readers = _place(prompt, word), text_readers(pipe)
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


def text_length(pipe: Any, max_sequence_length: int | None = None) -> int:
    """Tokens of the text that attention sees, for any prompt. Raises ValueError for a pipeline that is not known."""
    return sum(reader.length(pipe, max_sequence_length) for reader in text_readers(pipe))


def count_tokens(pipe: Any, prompt: str) -> int:
    """Tokens of a prompt, with the marks its tokenizer adds and without padding; the most, of several encoders."""
    return max(len(reader.ids(pipe, prompt)) for reader in text_readers(pipe))


def piece_tokens(
    pipe: Any,
    pieces: Sequence[str],
    *,
    separator: str = " ",
    max_sequence_length: int | None = None,
    counted: bool = False,
) -> tuple[tuple[int, ...], ...]:
    """Positions, within the text that attention sees, of the pieces that a prompt is joined of; a token is one piece's.

    counted  as counted piece by piece, each with the marks its tokenizer adds, so that pieces drift apart from their
             tokens (LAMIC's released code)
    Raises ValueError for a prompt longer than what is read of it, and for a piece without a token.
    """
    readers, prompt = text_readers(pipe), separator.join(pieces)
    lengths = [reader.length(pipe, max_sequence_length) for reader in readers]
    found: list[tuple[int, ...]] = [()] * len(pieces)
    for reader, length, start in zip(readers, lengths, accumulate(lengths[:-1], initial=0), strict=True):
        reader.check_length(pipe, prompt, length)
        own = reader.counted if counted else reader.pieces
        for i, tokens in enumerate(own(pipe, pieces, separator, length)):
            found[i] += tuple(start + token for token in tokens)
    if bare := [piece for piece, tokens in zip(pieces, found, strict=True) if not tokens]:
        raise ValueError(f"piece='{bare[0]}' has no token in the prompt '{prompt}'; say something with it")
    return tuple(found)


def text_readers(pipe: Any) -> tuple[Reader, ...]:
    """The text encoders of a pipeline, in the order of their tokens.

    Raises ValueError for a pipeline that is not known.
    """
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
