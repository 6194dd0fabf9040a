"""Insert a subject shown beside the picture, by the text's wish: heads shifted and reweighed (In-Context Brush)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Literal, get_args

from saccade.core.checks import check_numbers, check_word
from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.in_context_brush.context_shift import ContextShift, Rows
from saccade.papers.in_context_brush.token_roles import Numbers, TokenRoles

Blocks = Literal["double", "all"]
Compat = Literal["official"]


@dataclass(frozen=True, kw_only=True)
class InContextBrush:
    """The query half of an image takes more of what it attends to in the text and in the demonstration half.

    alpha_text   how much more of the text, at least -1: outputs gain alpha_text times what they gave; 0 for nothing
    alpha_demo   the same of the demonstration. A row's mass becomes 1 + alpha_text m_text + alpha_demo m_demo and is
                 not normalised again
    beta         at least 0: a head's output is scaled by 1 to 1 + beta, as much as text weighs in it among its block
    demo         the half of the image that shows the subject, "top", "left" or "first" (of the frames); a segment of
                 its own, as "reference1"; or numbers of image tokens
    query        numbers of the image tokens that are steered; None: those that are no demonstration
    words        positions of the text tokens that count, to leave padding out; None: all of them
    text_tokens  how many text tokens there must be; None: any
    rows         whose outputs are scaled by beta: the "query" (figure) or "all" (released code)
    blocks       "double": the model's first stack of blocks, as FLUX's double-stream ones; or "all"
    mean_one     divide the heads' weights by their mean, so that residuals do not grow
    compat       "official" scales all rows, in all blocks, and takes the first floor(n / 2) tokens as demonstration
    where        sites and share of the steps; cross-attention, where text is apart, only if `where.kinds` names it
    Tokens are checked where they are known: ValueError then for an image without equal halves, and for words and
    tokens there are not. Raises ValueError for options out of range.
    """

    alpha_text: float = 0.3
    alpha_demo: float = 0.3
    beta: float = 0.2
    demo: str | Numbers = "top"
    query: Numbers | None = None
    words: Numbers | None = None
    text_tokens: int | None = None
    rows: Rows = "query"
    blocks: Blocks = "double"
    mean_one: bool = False
    compat: Compat | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(alpha_text=self.alpha_text, alpha_demo=self.alpha_demo, beta=self.beta)
        for name in ("alpha_text", "alpha_demo"):
            if not (getattr(self, name) >= -1 and isfinite(getattr(self, name))):
                raise ValueError(f"{name}={getattr(self, name)} must be at least -1, which takes these keys away")
        if not (self.beta >= 0 and isfinite(self.beta)):
            raise ValueError(f"beta={self.beta} must be at least 0, which scales no head")
        check_word(get_args(Rows), rows=self.rows)
        check_word(get_args(Blocks), blocks=self.blocks)
        if self.compat not in (None, *get_args(Compat)):
            raise ValueError(f"compat='{self.compat}' must be 'official' or None")
        for name in ("query", "words"):
            _check_positions(name, getattr(self, name))
        _check_positions("demo", None if isinstance(self.demo, str) else self.demo)
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here, since heads are compared")

    @property
    def name(self) -> str:
        return "in_context_brush"

    @property
    def neutral(self) -> bool:
        """Whether nothing is shifted and nothing reweighed."""
        return self.alpha_text == self.alpha_demo == self.beta == 0

    @cached_property
    def roles(self) -> TokenRoles:
        """Which tokens are which."""
        floor = self.compat == "official"
        return TokenRoles(demo=self.demo, query=self.query, words=self.words, text=self.text_tokens, floor=floor)

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not (self.where.covers(site) and self.where.active(clock)):
            return ()
        text, demo, beta = self._strengths(site)
        if text == demo == beta == 0:
            return ()
        rows: Rows = "all" if self.compat == "official" else self.rows
        return (
            ContextShift(
                roles=self.roles, alpha_text=text, alpha_demo=demo, beta=beta, rows=rows, mean_one=self.mean_one
            ),
        )

    def check_sites(self, sites: Sequence[Site]) -> None:
        """Raises SelectorError where no attached site has the text that alpha_text and beta act on."""
        kinds = {site.kind for site in sites if self.where.covers(site)}
        if not kinds or "joint" in kinds:
            return
        if self.beta:
            raise SelectorError(
                f"beta={self.beta} weighs heads by their share of the text, and no attached site has text and image in "
                "one sequence: in cross-attention that share is always 1. Give beta=0"
            )
        if self.alpha_text and "cross" not in kinds:
            raise SelectorError(
                f"alpha_text={self.alpha_text} acts on what is taken from the text, by cross-attention in this model; "
                "give this system and attach where=Where(kinds=('self', 'cross')), or alpha_text=0"
            )

    def _strengths(self, site: Site) -> tuple[float, float, float]:
        """(alpha_text, alpha_demo, beta) of a site: 0 where it has no text, or no image among its keys."""
        inside = self.blocks == "all" or site.stage == 0
        text = self.alpha_text if inside and site.kind != "self" else 0.0
        demo = self.alpha_demo if inside and site.kind != "cross" else 0.0
        weighed = site.kind == "joint" and (inside or self.compat == "official")
        return text, demo, self.beta if weighed else 0.0


def _check_positions(name: str, numbers: Numbers | None) -> None:
    if numbers is None:
        return
    if not isinstance(numbers, tuple) or not numbers or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise ValueError(f"{name}={numbers!r:.60} must be numbers of tokens in a tuple, counted from 0, at least one")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{name} names a token twice; name each once")
