"""Runs of tokens as Python source: for each a function of the model and the arguments that gives its segments."""

from dataclasses import dataclass, field
from itertools import groupby

from saccade.families.probing.grids import Sides, grids, line, listed
from saccade.families.probing.impulses import fits
from saccade.families.probing.perturbing import Forward
from saccade.families.probing.reading import ReadSite, Run, Runs
from saccade.families.probing.terms import Scope, count

MULTIPLES = (8, 16, 32, 64, 128, 256)
TRIED = 8  # grids
COUNT = """n = {}
    return (Segment("{name}", "{kind}", n),)"""
OTHERS = """found = enumerate({})
    return tuple(Segment(f"{name}_{{i}}", "extra", s.n, s.grid) for i, s in found)"""
GRID = """grid = (
        {},
        {},
        {},
    )
    return (Segment("{name}", "{kind}", prod(grid), grid),)"""


@dataclass(eq=False)
class Segments:
    """Functions by their bodies; equal bodies are one function."""

    forward: Forward
    scope: Scope
    sites: list[ReadSite]
    functions: dict[str, str] = field(default_factory=dict)  # body -> name
    tried: dict[tuple[Run, int], Sides | None] = field(default_factory=dict)

    def runs(self, site: ReadSite, runs: Runs) -> str:
        """The functions of these runs, in order, as a tuple."""
        merged = [tuple(group) for _, group in groupby(runs, key=_alike)]
        names = [self._function(site, run, merged[:i]) for i, run in enumerate(merged)]
        return f"({', '.join(names)}{',' * (len(names) == 1)})"

    def _function(self, site: ReadSite, run: Runs, before: list[Runs]) -> str:
        role, start = run[0].role, sum(r.n for other in before for r in other)
        nth = 1 + sum(other[0].role == role for other in before)
        own = role if nth == 1 else f"{role}{nth}"
        if run[0].path is not None and (role == "image" or self._spatial(run[0])):
            return self._named(own, self._image(own, site, run[0], start))
        if run[0].path is not None and (text := next(listed(self.scope, run[0].n, 0), None)) and role == "extra":
            return self._named(own, OTHERS.format(text, name=own))
        n, kind = self._size(run, before)
        return self._named(own, COUNT.format(n, name=own, kind=kind))

    def _spatial(self, run: Run) -> bool:
        assert run.path is not None
        return run.role == "extra" and getattr(self.scope.given(run.path), "ndim", 0) > 3

    def _image(self, own: str, site: ReadSite, run: Run, start: int) -> str:
        assert run.path is not None
        if sides := self._sides(site, run):
            return GRID.format(*(side.text for side in sides), name=own, kind=run.role)
        if text := next(listed(self.scope, run.n, start), None):
            return f"return {text}"
        if sides := line(self.scope, run.path, run.n):
            return GRID.format(*(side.text for side in sides), name=own, kind=run.role)
        return COUNT.format(count(self.scope, run.path, run.n), name=own, kind=run.role)

    def _sides(self, site: ReadSite, run: Run) -> Sides | None:
        key = run, site.fold
        if key not in self.tried:
            self.tried[key] = self._try(site, run)
        return self.tried[key]

    def _try(self, site: ReadSite, run: Run) -> Sides | None:
        """The likeliest grid; of those that are not folded, the likeliest that places of the image prove."""
        assert run.path is not None
        found = list(dict.fromkeys(grids(self.scope, run.path, run.n, site.fold)))[:TRIED]
        seen = next((other for other in self.sites if other.fold == 1 and run in other.queries), None)
        if site.fold > 1 or seen is None or not found:
            return found[0] if found else None
        start = sum(other.n for other in seen.queries[: seen.queries.index(run)])
        proven = (s for s in found if fits(self.forward, self.scope, run, s, seen.name, start))
        return next(proven, None)

    def _size(self, run: Runs, before: list[Runs]) -> tuple[str, str]:
        """(number of tokens, kind) of a run that is no image."""
        first = run[0]
        if first.path is not None:
            return " + ".join(count(self.scope, r.path, r.n) for r in run), first.role
        if before and (multiple := self._multiple()) and -sum(r.n for r in before[-1]) % multiple == first.n:
            words = " + ".join(count(self.scope, r.path, r.n) for r in before[-1])
            return f"-({words}) % {multiple}", "padding"
        return str(first.n), "extra"

    def _multiple(self) -> int | None:
        """What every run before learned tokens is filled up to, None where no number does."""
        pairs = {
            (a.n, b.n) for s in self.sites for a, b in zip(s.queries, s.queries[1:], strict=False) if b.path is None
        }
        return next((m for m in MULTIPLES if pairs and all(-a % m == b for a, b in pairs)), None)

    def _named(self, name: str, body: str) -> str:
        if body not in self.functions:
            taken = sum(other.rstrip("_0123456789") == name for other in self.functions.values())
            self.functions[body] = f"{name}_{taken + 1}" if taken else name
        return self.functions[body]


def _alike(run: Run) -> object:
    """Text of several encoders is one segment."""
    return "text" if run.role == "text" and run.path is not None else (run.role, run.path)
