"""Concepts to learn, and the prompts that name them: which tokens are a concept's, which stand for the background."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from saccade.pipelines.words import Reader, count_tokens, text_length, text_readers, word_tokens

TEMPLATE, JOINT = "a photo of {}", " and "


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A thing in the picture, and the new word for it.

    token   the new word, as "<new1>"
    word    one that is known and near in meaning; its embedding is where the new one sets out
    phrase  the token with what describes it, as "a round <new1> clock"; "" for the token alone
    Raises ValueError for a token that is empty or has spaces, and for a phrase without it.
    """

    token: str
    word: str
    phrase: str = ""

    def __post_init__(self) -> None:
        if not self.token or any(letter.isspace() for letter in self.token):
            raise ValueError(f"token='{self.token}' must be one word without spaces, as '<new1>'")
        if self.phrase and self.phrase.count(self.token) != 1:
            raise ValueError(f"phrase='{self.phrase}' must hold its token '{self.token}' once; write it there")

    @property
    def text(self) -> str:
        """What stands for it in a prompt."""
        return self.phrase or self.token


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """The prompts of a pipeline for these concepts.

    template    with {} where the concepts come, `joint` between them
    length      tokens to which prompts are padded, None for the pipeline's own
    background  words of the template whose tokens stand for the background; "" for the start of the text, or where the
                tokenizer marks none, for what ends it
    masks_pads  whether the host hides the padding
    Raises ValueError for a template that has no place, or several, for the concepts.
    """

    pipe: Any
    concepts: tuple[Concept, ...]
    template: str = TEMPLATE
    joint: str = JOINT
    length: int | None = None
    background: str = ""
    masks_pads: bool = False

    def __post_init__(self) -> None:
        if self.template.count("{}") != 1 or self.template.replace("{}", "").count("{"):
            raise ValueError(f"template='{self.template}' must hold {{}} once, where the concepts come")

    def text(self, chosen: Sequence[int]) -> str:
        """The prompt that names these concepts in this order."""
        return self.template.format(self.joint.join(self.concepts[i].text for i in chosen))

    def bare(self, chosen: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """Positions of each concept's own token, then of the background's, in that prompt."""
        return self._found(chosen, [self.concepts[i].token for i in chosen])

    def described(self, chosen: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The same with the tokens of all that describes a concept."""
        return self._found(chosen, [self.concepts[i].text for i in chosen])

    @property
    def start(self) -> tuple[int, ...]:
        """Position of the mark a tokenizer puts before every text; none where it puts none."""
        first, tokenizer = text_readers(self.pipe)[0], None
        tokenizer = getattr(self.pipe, f"tokenizer{first.suffix}")
        return (0,) if _marks_start(self.pipe, first, tokenizer) else ()

    def _found(self, chosen: Sequence[int], words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        text = self.text(chosen)
        return (*(word_tokens(self.pipe, text, word, self.length) for word in words), self._background(text))

    def _background(self, text: str) -> tuple[int, ...]:
        if self.background:
            return word_tokens(self.pipe, text, self.background, self.length)
        last = count_tokens(self.pipe, text) if self.masks_pads else text_length(self.pipe, self.length)
        return self.start or (last - 1,)


def _marks_start(pipe: Any, reader: Reader, tokenizer: Any) -> bool:
    ids = reader.ids(pipe, "")
    return bool(ids) and ids[0] == getattr(tokenizer, "bos_token_id", None)
