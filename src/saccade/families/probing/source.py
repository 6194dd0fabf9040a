"""The proposed family as Python source, ready to run or to paste into a file of its own below `families/`."""

from collections.abc import Iterable, Iterator, Mapping

from torch import nn

from saccade.families.probing.naming import patterns
from saccade.families.probing.reading import ReadSite
from saccade.families.probing.segments import Segments

HEAD = '''"""{name}, as a probe read it from one forward: look it over, then add what the model offers."""

from fnmatch import fnmatchcase
{prod}
from saccade.core.layout import Layout, Segment
from saccade.families import Family
{ids}from saccade.seam.routes import diffusers_routes

NOT_PROBED = "a probe finds tokens and no more; where the model has it, say so in the family, docs/hosts.md"
'''
FUNCTION = """

def {name}(model, inputs):
    {body}
"""
LAYOUT = '''

def layout(model, inputs, site):
    """Of queries and keys: runs of tokens in order."""
    name = site.name.removeprefix("transformer_2.")
    sides = next(sides for pattern, sides in TOKENS.items() if fnmatchcase(name, pattern))
    return tuple(Layout(tuple(s for run in runs for s in run(model, inputs))) for runs in sides)

'''


def source(model: nn.Module, segments: Segments, sites: list[ReadSite], facts: Mapping[str, str]) -> str:
    """The text of a module that defines `FAMILY`."""
    read = [site for site in sites if site.kind is not None]
    tokens = {site.name: f"({segments.runs(site, site.queries)}, {segments.runs(site, site.keys)})" for site in read}
    kinds = {site.name: str(site.kind) for site in read}
    alone = {site.name: site.why_not for site in sites if site.kind is None}
    functions = "".join(FUNCTION.format(name=name, body=body) for body, name in segments.functions.items())
    names = [name for name, _ in model.named_modules()]
    by_site = len({(kinds[name], tokens[name]) for name in kinds}) > len(set(kinds.values()))
    lines = (*_table("TOKENS = ", tokens, names, "{}"), "", "", *_family(model, names, kinds, alone, by_site, facts))
    return "".join((_head(type(model).__name__, functions), functions, LAYOUT, "\n".join(lines), "\n"))


def _head(name: str, functions: str) -> str:
    used = [helper for helper in ("named_pictures", "picture_segments") if f"{helper}(" in functions]
    ids = f"from saccade.families.flux import {', '.join(used)}\n" if used else ""
    return HEAD.format(name=name, prod="from math import prod\n" if "prod(" in functions else "", ids=ids)


def _family(
    model: nn.Module,
    names: list[str],
    kinds: Mapping[str, str],
    alone: Mapping[str, str],
    by_site: bool,
    facts: Mapping[str, str],
) -> Iterator[str]:
    name = type(model).__name__
    yield from ("FAMILY = Family(", f'    name="{name}",', f'    classes=("{name}",),')
    yield from (f"    {line}" for line in (*_table("sites=", kinds, names), *_table("left_alone=", alone, names)))
    yield from ("    layout=layout,", *(("    by_site=True,",) if by_site else ()), "    routes=diffusers_routes,")
    yield from (f"    {fact}={value}," for fact, value in facts.items())
    yield '    unsupported=dict.fromkeys(("hidden", "stream", "enter", "project", "rotary", "raw"), NOT_PROBED),'
    yield ")"


def _table(start: str, said: Mapping[str, str], names: Iterable[str], form: str = '"{}"') -> Iterator[str]:
    """A dictionary from patterns of names, as few as there can be, to what is said of each."""
    if not said:
        return
    yield f"{start}{{"
    for value in dict.fromkeys(said.values()):
        own = [name for name, other in said.items() if other == value]
        others = set(names) - set(own)
        yield from (f'    "{pattern}": {form.format(value)},' for pattern in patterns(own, others))
    yield "}" + ("," if start.endswith("s=") or start.endswith("e=") else "")
