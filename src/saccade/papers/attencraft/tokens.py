"""New words of a pipeline: tokens in its tokenizers, and rows of its text encoders' tables, which alone are trained.

While they are trained the rows are parameters of their own, put in the place of the table's by a hook: so no other row
has a gradient, a decay or an optimiser state. `write_` stores them in the tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saccade.papers.attencraft.concepts import Concept
from saccade.papers.attencraft.losses import Compat
from saccade.pipelines.words import text_readers

SUFFIXES = ("", "_2", "_3")
LEGACY_END = 2  # by which old configurations of CLIP mean the largest token instead of the end


class NewTokens(nn.Module):
    """The rows by encoder, trainable; made by `add_tokens`.

    compat   "official" trains the first row alone, as the released code's wrong index does
    """

    def __init__(self, pipe: Any, tokens: Sequence[str], rows: Mapping[str, Tensor], compat: Compat | None) -> None:
        super().__init__()
        self.pipe, self.compat, self.tokens = (pipe,), compat, tuple(tokens)  # a tuple: no submodule
        self.rows = nn.ParameterDict({_key(suffix): nn.Parameter(row.clone()) for suffix, row in rows.items()})
        self.ids = {suffix: _ids(pipe, suffix, tokens) for suffix in rows}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts, text encoders read these rows, with gradients."""
        hooks = [
            module.register_forward_hook(partial(self._swap, suffix))
            for suffix in self.ids
            for module in _tables(self.pipe[0], suffix)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def rows_of(self, suffix: str) -> Tensor:
        """The rows of one encoder."""
        return self.rows[_key(suffix)]

    @torch.no_grad()
    def take_(self, rows: Mapping[str, Tensor]) -> None:
        """Take over stored rows."""
        for suffix, stored in rows.items():
            self.rows_of(suffix).copy_(stored)

    @torch.no_grad()
    def write_(self) -> None:
        """Put the rows into the tables."""
        for suffix, ids in self.ids.items():
            table = _table(self.pipe[0], suffix).weight
            table[ids] = self.rows_of(suffix).to(table)

    def _swap(self, suffix: str, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        rows = self.rows_of(suffix)
        if self.compat == "official":
            rows = torch.cat((rows[:1], rows[1:].detach()))
        for row, token in zip(rows, self.ids[suffix], strict=True):
            out = torch.where((args[0] == token)[..., None], row.to(out), out)
        return out


def check_concepts(pipe: Any, concepts: Sequence[Concept]) -> None:
    """Raise ValueError for concepts a pipeline cannot learn: none, two of one token, a token that is known already, a
    word that is no single token."""
    if not concepts:
        raise ValueError("concepts=() name nothing to learn; give at least one Concept(token=..., word=...)")
    tokens = [concept.token for concept in concepts]
    if twice := [token for token in tokens if tokens.count(token) > 1]:
        raise ValueError(f"token='{twice[0]}' stands for two concepts; give each its own")
    if any(reader.lower for reader in text_readers(pipe)) and (tall := [t for t in tokens if t != t.lower()]):
        raise ValueError(f"token='{tall[0]}' has capitals, and {type(pipe).__name__} reads none; write it small")
    for suffix in suffixes(pipe):
        tokenizer = getattr(pipe, f"tokenizer{suffix}")
        for concept in concepts:
            if concept.token in tokenizer.get_vocab():
                raise ValueError(f"token='{concept.token}' is in the vocabulary of tokenizer{suffix}; choose another")
            ids = tokenizer(concept.word, add_special_tokens=False)["input_ids"]
            if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
                said = "is unknown to" if len(ids) == 1 else f"is {len(ids)} tokens of"
                raise ValueError(f"word='{concept.word}' {said} tokenizer{suffix}; choose a word that is one token")


def add_tokens(pipe: Any, concepts: Sequence[Concept], compat: Compat | None = None) -> NewTokens:
    """Add the concepts' tokens to a pipeline, each with the row of its word.

    Raises ValueError as `check_concepts` does.
    """
    check_concepts(pipe, concepts)
    tokens, rows = [concept.token for concept in concepts], {}
    for suffix in suffixes(pipe):
        tokenizer, encoder = (getattr(pipe, f"{part}{suffix}") for part in ("tokenizer", "text_encoder"))
        tokenizer.add_tokens(tokens)
        if len(tokenizer) > len(encoder.get_input_embeddings().weight):
            encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        words = [tokenizer(concept.word, add_special_tokens=False)["input_ids"][0] for concept in concepts]
        rows[suffix] = encoder.get_input_embeddings().weight.detach()[words].float()
        _end_by_its_token(encoder, tokenizer)
        encoder.requires_grad_(False)
    found = NewTokens(pipe, tokens, rows, compat)
    found.write_()
    return found


def suffixes(pipe: Any) -> tuple[str, ...]:
    """Those of the pipeline's text encoders."""
    return tuple(suffix for suffix in SUFFIXES if getattr(pipe, f"text_encoder{suffix}", None) is not None)


def _end_by_its_token(encoder: Any, tokenizer: Any) -> None:
    """Let an old CLIP pool at the token that ends a text: a new token's number would be larger."""
    for module in encoder.modules():
        if getattr(module, "eos_token_id", None) == LEGACY_END and tokenizer.eos_token_id is not None:
            module.eos_token_id = tokenizer.eos_token_id


def _table(pipe: Any, suffix: str) -> Any:
    return getattr(pipe, f"text_encoder{suffix}").get_input_embeddings()


def _tables(pipe: Any, suffix: str) -> list[nn.Module]:
    """Every module that looks tokens up in the encoder's table: T5 has two."""
    encoder, table = getattr(pipe, f"text_encoder{suffix}"), _table(pipe, suffix)
    return [m for m in encoder.modules() if isinstance(m, nn.Embedding) and m.weight is table.weight]


def _ids(pipe: Any, suffix: str, tokens: Sequence[str]) -> list[int]:
    return [getattr(pipe, f"tokenizer{suffix}").convert_tokens_to_ids(token) for token in tokens]


def _key(suffix: str) -> str:
    return f"encoder{suffix}"
