"""Draw a prompt and record what attention did meanwhile: where words show, and what sort of head each is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.analysis.attention_record import AttentionRecord
from saccade.attach import attach
from saccade.compare.arms import Setup, Visit
from saccade.compare.verb import draw
from saccade.core.mechanism import System
from saccade.core.site import Where
from saccade.inspect.pictures import panels
from saccade.metrics.fidelity import Picture
from saccade.pipelines.no_progress_bar import no_progress_bar
from saccade.pipelines.progress import Progress, step_callback
from saccade.pipelines.words import word_tokens
from saccade.systems.attention_recorder import ALL_SITES, AttentionRecorder
from saccade.systems.word_map import Positions


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """A picture or video (t h w 3) in [0, 1], and the record of its attention."""

    prompt: str
    seed: int
    model: str
    picture: Picture
    record: AttentionRecord

    def panels(self) -> dict[str, Picture]:
        """The picture and each word's map over it, by their captions."""
        return panels(self.picture, self.record)

    def save(self, path: Path | str) -> Path:
        """Write all arrays as an .npz; see `AttentionRecord.save`."""
        return self.record.save(Path(path))

    def write_page(self, path: Path | str) -> Path:
        """Write one HTML page that needs nothing else."""
        from saccade.inspect.page import write_page

        return write_page(self, Path(path))


def inspect(
    pipe: Any,
    prompt: str,
    *,
    words: Sequence[str] | Mapping[str, Positions] = (),
    queries: int = 128,
    each_head: bool = False,
    where: Where = ALL_SITES,
    seed: int = 0,
    steps: int | None = None,
    height: int | None = None,
    width: int | None = None,
    options: Mapping[str, Any] | None = None,
    systems: Sequence[System] = (),
    progress: Progress | None = None,
) -> Inspection:
    """Draw `prompt` once, with a recorder attached; the picture stays what it is without.

    pipe       a diffusers pipeline
    words      of the prompt, as they stand in it; by positions within the text, a mapping, for pipelines whose
               tokenizers are not known
    queries    image tokens whose whole rows tell what each head does, spread evenly; 0 for none
    each_head  keep words' maps of every head, not only their mean
    where      sites and share of the steps that are recorded
    steps, height, width  None leaves them to the pipeline
    options    further arguments of its call, such as guidance_scale
    systems    more systems it is drawn with
    Raises ValueError for a word that is not in the prompt, and as `AttentionRecorder` does; SelectorError for sites
    there are none of; StateError where nothing was recorded.
    """
    options = dict(options or {})
    found = words if isinstance(words, Mapping) else _positions(pipe, prompt, words, options)
    recorder = AttentionRecorder(words=found, queries=queries, each_head=each_head, where=where)
    setup = Setup(steps=steps, height=height, width=width, options={**options, **step_callback(pipe, progress)})
    with no_progress_bar(pipe), attach(pipe, recorder, *systems, where=ALL_SITES) as run:
        picture = draw(pipe, (prompt,), Visit(jobs=((0, seed),), first=True), setup)[0]
        record = recorder.read(run)
    return Inspection(prompt=prompt, seed=seed, model=type(pipe).__name__, picture=picture, record=record)


def _positions(pipe: Any, prompt: str, words: Sequence[str], options: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    if isinstance(words, str):
        raise ValueError(f"words='{words}' is one text; give a list of words, as words=['{words}']")
    return {word: word_tokens(pipe, prompt, word, options.get("max_sequence_length")) for word in words}
