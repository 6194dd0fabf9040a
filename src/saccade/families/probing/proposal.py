"""`probe(model, inputs)`: what a model's attention sees, and a family that says so."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from saccade.families.probing.naming import starred
from saccade.families.probing.perturbing import Forward, reaches
from saccade.families.probing.reading import ReadSite, Run, main_of, read
from saccade.families.probing.recording import recorded
from saccade.families.probing.segments import Segments
from saccade.families.probing.source import source
from saccade.families.probing.terms import Scope, called
from saccade.seam.family import Family
from saccade.seam.shadow import rebind_processor

RECORD = ("names", "number", "kind", "queries", "keys", "rows", "function")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was found: the sites that ran, the argument that masks padded words, the source of a family."""

    model: str
    sites: tuple[ReadSite, ...]
    padding: str | None
    source: str

    @property
    def family(self) -> Family:
        """The family the source defines."""
        with TemporaryDirectory() as folder:
            (file := Path(folder) / f"{self.model}.py").write_text(self.source)
            return run_path(str(file))["FAMILY"]

    def records(self) -> list[dict[str, Any]]:
        """One for every group of sites alike.

        names and their number, kind, tokens of queries and keys, attention rows to a batch row, function called
        """
        groups: Counter[tuple[Any, ...]] = Counter()
        for site in self.sites:
            tokens = _said(site.queries), _said(site.keys)
            groups[starred(site.name), site.kind or "left alone", *tokens, site.fold, site.function] += 1
        return [dict(zip(RECORD, (name, n, *rest), strict=True)) for (name, *rest), n in groups.items()]


def probe(model: nn.Module, inputs: Mapping[str, Any]) -> Probe:
    """Run a forward of a model of diffusers' make a few times and read its attention; the model is left as it was.

    inputs  keyword arguments of its forward, random ones will do; the more they differ in their sizes, the surer
    Raises ValueError for a model in training, for one without attention that can be seen, and for inputs that bring no
    tokens, SaccadeError for one that is attached.
    """
    if model.training:
        raise ValueError(f"{type(model).__name__} is in training, where forwards differ by chance; call eval() first")
    scope = Scope(model, inputs)
    forward = Forward.of(model, inputs)
    found = reaches(forward)
    main = main_of(forward, found)
    sites = read(forward, found, _rows(scope.given(main)))
    if not any(site.kind for site in sites):
        raise ValueError(f"no attention of {type(model).__name__} was seen to read the image; give layout= or a Family")
    padding = _padding(forward)
    facts = dict(_facts(forward, sites, main, padding))
    text = source(model, Segments(forward, scope, sites), sites, facts)
    return Probe(model=type(model).__name__, sites=tuple(sites), padding=padding, source=text)


def _rows(value: Any) -> int:
    return value.shape[0] if isinstance(value, Tensor) else len(value)


def _padding(forward: Forward) -> str | None:
    """The mask among the arguments that changes the masks of attention."""
    before = recorded(forward.model, forward.doors, forward.inputs)
    for name, mask in forward.inputs.items():
        if isinstance(mask, Tensor) and mask.ndim == 2 and mask.amax() <= 1 and not mask.all():
            after = recorded(forward.model, forward.doors, {**forward.inputs, name: mask.new_ones(mask.shape)})
            if _masks(before) != _masks(after):
                return name
    return None


def _masks(calls: Mapping[str, Any]) -> list[Any]:
    return [None if c.mask is None else c.mask.float().tolist() for seen in calls.values() for c in seen]


def _facts(
    forward: Forward, sites: list[ReadSite], main: tuple[str, ...], padding: str | None
) -> Iterator[tuple[str, str]]:
    read = [site for site in sites if site.kind]
    yield "text", f'"{_text(read)}"'
    if padding is not None:
        yield "padding", f'"{padding}"'
    if main[0] != "hidden_states":
        yield "main_input", f'"{main[0]}"'
    times = [name for name in forward.inputs if name in ("t", "timestep", "timesteps", "time", "sigma", "noise_level")]
    if times and times[0] != "timestep":
        yield "time_name", f'"{times[0]}"'
    ways = {forward.doors[site.name] is rebind_processor for site in read}
    if ways != {True}:
        yield "bind", '"methods"' if ways == {False} else '"either"'


def _text(sites: list[ReadSite]) -> str:
    joint = [[run.role for run in s.queries if run.path] for s in sites if s.kind == "joint"]
    joint = [roles for roles in joint if {"text", "image"} <= set(roles)]
    if joint:
        return "first" if joint[0].index("text") < joint[0].index("image") else "last"
    return "apart" if any(site.kind == "cross" for site in sites) else "none"


def _said(runs: tuple[Run, ...]) -> str:
    return " | ".join(f"{called(run.path)[8:-2] if run.path else 'learned'} {run.n}" for run in runs)
