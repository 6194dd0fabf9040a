"""Record what attention does at every site and step: where a word shows, and what sort of head each is.

    recorder = AttentionRecorder(words={"circle": (4,)})
    with attach(pipe, recorder) as run:
        pipe("a large red circle")
        record = recorder.read(run)
    record.map("circle"), record.roles()

No map n x m is held, and the output is bitwise that of the same kernel unwatched. It works on every host: without an
image all tokens are queries. `saccade.inspect` does it for a pipeline and a prompt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.analysis.attention_record import AttentionRecord, SiteRecord
from saccade.core.clock import Clock
from saccade.core.errors import StateError
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.site import Site, Where
from saccade.core.state import Memory, MemoryBank
from saccade.mechanisms.by_step import StepRows
from saccade.mechanisms.recorded_words import LAYOUTS, WORDS, Direction, RecordedWords, looked_at
from saccade.mechanisms.sampled_rows import NAMES, SampledRows
from saccade.run import Run
from saccade.systems.word_map import Positions, token_table

ALL_SITES = Where(kinds=("joint", "self", "cross"))


@dataclass(frozen=True, kw_only=True)
class AttentionRecorder:
    """Record words' maps, and what a sample of rows says of each head.

    words      for each word its positions within the text, the same for all samples or a sequence for each
    direction  "to": what image tokens pay to a word; "from": what the word pays to them, in joint attention and in
               language models, whose image tokens come before the words that look at them
    queries    whose whole rows are taken for figures of heads, spread evenly over the image (or sequence); 0 for none
    columns    runs of keys by which the rows are kept, for a coarse map
    each_head  keep words' maps of every head, not their mean: as many times the memory
    label      its name in reports and state; two attached at once need two
    where      sites and share of the steps
    Of guidance's rows only the conditional ones are kept. Held are, a step and site, words x image tokens numbers, and
    keys + queries x columns of figures. In decoding, where no step is known, the last forward is what stays.
    Raises ValueError for options out of range.
    """

    words: Mapping[str, Positions] = field(default_factory=dict[str, Positions])
    direction: Direction = "to"
    queries: int = 128
    columns: int = 64
    each_head: bool = False
    label: str = "attention_recorder"
    where: Where = ALL_SITES
    _made: dict[int, "_Watching"] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.queries < 0 or self.columns < 1:
            raise ValueError(
                f"queries={self.queries} must be at least 0, and columns={self.columns} of their map at least 1"
            )
        if not self.words and not self.queries:
            raise ValueError("words={} and queries=0 leave nothing to record; name a word, or take some queries")
        _ = self._tokens

    @property
    def name(self) -> str:
        return self.label

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if clock.branch not in ("main", "cond") or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        if clock.num_steps not in self._made:
            self._made[clock.num_steps] = self._watching(StepRows(clock.num_steps))
        rows, mechanisms = self._made[clock.num_steps]
        rows.follow(clock)
        return mechanisms

    def read(self, run: Run) -> AttentionRecord:
        """What was recorded in a generation, before the run detaches.

        Raises StateError where no site has recorded yet.
        """
        found = {site: _memories(run.state, self.name, site.name) for site in run.sites}
        sites = tuple(_site(site, memories) for site, memories in found.items() if memories)
        if not sites:
            raise StateError("no site has recorded attention yet; run the model first, and read before detaching")
        return AttentionRecord(words=tuple(self.words), sites=sites)

    def _watching(self, rows: StepRows) -> "_Watching":
        """The same mechanisms for all sites and steps of a generation."""
        made: list[Mechanism] = []
        if self._tokens is not None:
            words = RecordedWords(tokens=self._tokens, rows=rows, direction=self.direction, each_head=self.each_head)
            made.append(words)
        if self.queries:
            made.append(SampledRows(rows=rows, count=self.queries, columns=self.columns))
        return rows, tuple(made)

    @cached_property
    def _tokens(self) -> Int[Tensor, "w s c"] | None:
        return token_table(self.words) if self.words else None


_Watching = tuple[StepRows, tuple[Mechanism, ...]]


def _memories(state: MemoryBank, system: str, site: str) -> list[Memory]:
    """Of one site: several where the host makes a call for each row, or takes a step in parts."""
    own = {branch: m for (name, place, branch), m in state.memories.items() if (name, place) == (system, site)}
    return [own[branch] for branch in sorted(own) if own[branch].holds(LAYOUTS)]


def _site(site: Site, memories: list[Memory]) -> SiteRecord:
    queries, keys = memories[0].last(LAYOUTS)
    names = [name for name in (WORDS, *NAMES) if memories[0].holds(name)]
    values = {
        name: torch.cat([m.last(name) for m in memories], 2 if name == WORDS else 1).detach().float().cpu()
        for name in names
    }
    return SiteRecord(site=site, queries=queries, keys=keys, grid=looked_at(queries)[1], values=values)
