"""What a forward shows of each attention site: which tokens stand there, in which order, on which grid."""

from dataclasses import dataclass, replace
from itertools import groupby

from torch import Tensor
from torch.utils._pytree import tree_leaves

from saccade.core.site import SiteKind
from saccade.families.probing.perturbing import Forward, Path, Reach, largest
from saccade.families.probing.terms import Scope, called

TEXTUAL = ("encoder_hidden_states", "text", "txt", "prompt", "caption", "cap_feats", "context", "input_ids", "word")
ROLES = ("extra", "text", "image")
VISUAL = ("image", "img", "audio", "visual", "ref", "control", "cond", "latent")


@dataclass(frozen=True)
class Run:
    """Tokens in a row that come from one argument; None: from none, as learned ones and padding.

    role  "image" for the main argument's, "text", or "extra"
    """

    path: Path | None
    role: str
    n: int


Runs = tuple[Run, ...]


@dataclass(frozen=True)
class ReadSite:
    """One site: the tokens of its queries and keys, attention rows to a batch row, functions called, calls."""

    name: str
    queries: Runs
    keys: Runs
    fold: int
    function: str
    calls: int

    @property
    def kind(self) -> SiteKind | None:
        """Joint, self or cross; None for what does not concern the image, or no words."""
        asks, answers = ({run.role for run in runs if run.path} for runs in (self.queries, self.keys))
        if "image" not in asks:
            return None
        if "image" in answers:
            return "joint" if "text" in answers or self._grounded else "self"
        return "cross" if "text" in answers else None

    @property
    def _grounded(self) -> bool:
        """Whether what is neither words nor a picture follows the image, as GLIGEN's boxes."""
        path = self.keys[-1].path
        return self.keys[-1].role == "extra" and path is not None and not any(word in path[-1] for word in VISUAL)

    @property
    def why_not(self) -> str:
        """Why it is left alone."""
        asks, answers = (
            " and ".join(dict.fromkeys(called(run.path)[8:-2] if run.path else "learned tokens" for run in runs))
            for runs in (self.queries, self.keys)
        )
        return f"{asks} read{'s' if ' and ' not in asks else ''} {answers} here, apart from the image"


def main_of(forward: Forward, found: dict[Path, Reach]) -> Path:
    """The argument that is denoised: the first of the forward that brings tokens and no words.

    Raises ValueError where none does.
    """
    if not found:
        raise ValueError(
            f"no argument of {type(forward.model).__name__}.forward reaches attention token by token; give inputs of a "
            "forward that has images or words in it"
        )
    return next((path for path in found if _role(path, ()) != "text"), next(iter(found)))


def read(forward: Forward, found: dict[Path, Reach], rows: int) -> list[ReadSite]:
    """All modules that ran, in order."""
    main, sites = main_of(forward, found), []
    given = {path: Scope(forward.model, forward.inputs).given(path) for path in found}
    lengths = {path: x.shape[1] for path, x in given.items() if isinstance(x, Tensor)}
    for name, calls in forward.before.items():
        if not calls:
            continue
        seen = largest(calls)
        queries, keys = (_runs(found, main, lengths, name, side, n) for side, n in enumerate(seen.size))
        fold = max(seen.queries.shape[0] // rows, 1)
        sites.append(ReadSite(name, queries, keys, fold, seen.function, len(calls)))
    of_image = {run.n for site in sites for run in site.queries if run.path == main}
    pictures = {path for path, x in given.items() if all(t.ndim > 3 for t in tree_leaves(x)) and path != main}
    return [_on_the_grid(site, main, pictures, of_image) for site in sites]


def _on_the_grid(site: ReadSite, main: Path, pictures: set[Path], of_image: set[int]) -> ReadSite:
    """A site without the image but with as many tokens of another picture stands on the same grid, as controls do."""
    if any(run.path == main for run in site.queries):
        return site
    sides = (
        tuple(Run(main, "image", r.n) if r.path in pictures and r.n in of_image else r for r in runs)
        for runs in (site.queries, site.keys)
    )
    queries, keys = sides
    return replace(site, queries=queries, keys=keys)


def _runs(found: dict[Path, Reach], main: Path, sizes: dict[Path, int], name: str, side: int, n: int) -> Runs:
    labels: list[Path | None] = [None] * n
    for path in sorted(found, key=lambda path: ROLES.index(_role(path, main))):  # the last that reaches a token counts
        if name in found[path] and len(reached := found[path][name][side]) == n:
            for i in reached.nonzero()[:, 0].tolist():
                labels[i] = path
    return _completed(tuple(Run(path, _role(path, main), len(list(group))) for path, group in groupby(labels)), sizes)


def _completed(runs: Runs, sizes: dict[Path, int]) -> Runs:
    """Padded tokens that the host made its own, beside an argument's, given back to it."""
    for i, (one, two) in enumerate(zip(runs, runs[1:], strict=False)):
        mine = one if one.path else two
        if None in (one.path, two.path) and mine.path and sizes.get(mine.path) == one.n + two.n:
            return (*runs[:i], replace(mine, n=one.n + two.n), *_completed(runs[i + 2 :], sizes))
    return runs


def _role(path: Path | None, main: Path) -> str:
    if path == main:
        return "image"
    name = "" if path is None else path[-1]
    textual = any(word in name for word in TEXTUAL) and not any(word in name for word in VISUAL)
    return "text" if textual else "extra"
