"""A page filled from results: what stands between its marks is made, everything else is written by hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from matplotlib import rc_context
from matplotlib.figure import Figure

from saccade.experiments.results import Results
from saccade.ui.markdown import fill_marks


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Where the pictures of a page go: beside it, under names that begin with the experiment's.

    >>> figures.save("by-layer", figure, "Entropy by layer")
    '![Entropy by layer](dydila-by-layer.svg)'
    """

    folder: Path
    name: str

    def save(self, name: str, figure: Figure, about: str) -> str:
        """Write an SVG, the same from the same figures, and return the link to it."""
        file = f"{self.name}-{name}.svg" if name else f"{self.name}.svg"
        self.folder.mkdir(parents=True, exist_ok=True)
        with rc_context({"svg.hashsalt": "saccade"}):
            figure.savefig(self.folder / file, format="svg", metadata={"Date": None})
        return f"![{about}]({file})"

    def copy(self, name: str, picture: Path, about: str) -> str:
        """Put a picture that there is beside the page and return the link to it."""
        file = f"{self.name}-{name}{picture.suffix}"
        self.folder.mkdir(parents=True, exist_ok=True)
        copyfile(picture, self.folder / file)
        return f"![{about}]({file})"


Block = Callable[[Results, Figures], str]  # a piece of Markdown made from results
Section = Sequence[Block]


def fill(page: Path, name: str, sections: Mapping[str, Section], results: Results) -> None:
    """Make every section of a page anew; pictures go beside it.

    Raises ValueError where the page lacks the marks of a section.
    """
    page.write_text(fill_marks(page.read_text(), made(sections, results, Figures(folder=page.parent, name=name))))


def made(sections: Mapping[str, Section], results: Results, figures: Figures) -> dict[str, str]:
    """The Markdown of every section; the first one ends with where the results come from, where there are any."""
    found = {mark: "\n\n".join(block(results, figures) for block in blocks) for mark, blocks in sections.items()}
    if found and results.tables:
        first = next(iter(found))
        found[first] += "\n\n" + origin(results)
    return found


def origin(results: Results) -> str:
    """Seeds, device and torch's version, in a line."""
    seeds = results.settings.get("seeds")
    prefix = f"{len(seeds)} seeds; " if isinstance(seeds, list | tuple) and len(seeds) > 1 else ""
    return f"{prefix}{results.device}, torch {results.versions.get('torch', 'unknown')}."
