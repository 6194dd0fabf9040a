"""An inspection as one HTML page: words over the picture, by step and by site, and what sort of head each is."""

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saccade import __version__
from saccade.analysis.attention_record import WORDS, AttentionRecord, SiteRecord
from saccade.analysis.head_roles import ROLES
from saccade.inspect.pictures import overlay, shaded
from saccade.inspect.plots import PANELS, plot_heads
from saccade.metrics.fidelity import Picture
from saccade.ui.gallery import data_url
from saccade.ui.whole_page import whole_page

if TYPE_CHECKING:
    from saccade.inspect.verb import Inspection

STEPS, SINKS = 6, 12  # shown at most
LOOKED_AT = "what image tokens look at"


def write_page(found: "Inspection", path: Path) -> Path:
    """Write the page and return its absolute path."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(found), encoding="utf-8")
    return target


def page(found: "Inspection") -> str:
    """The whole page."""
    record = found.record
    about = f"{found.model} · seed {found.seed} · {len(record.sites)} sites · steps {_counted(record.steps)}"
    parts = [_words(found), _sites(record), _heads(record), _sinks(record), DIALOG]
    return whole_page("saccade inspect", found.prompt, about, "\n".join(filter(None, parts)), __version__)


DIALOG = '<dialog aria-label="picture"><img alt="" src="data:,"><p></p></dialog>'


def _words(found: "Inspection") -> str:
    """The picture, and a row for each word: mean, and some steps."""
    record, steps = found.record, _some(found.record.steps, STEPS)
    heads = "".join(f"<th>{title}</th>" for title in ("", "all steps", *(f"step {step}" for step in steps)))
    rows = [f"<tr><th>picture</th><td>{_image(found.picture, found.prompt)}</td></tr>"]
    spans = [None, *([step] for step in steps)]
    rows += [_line(word, found.picture, [record.map(word, steps=span) for span in spans]) for word in record.words]
    if record.looked_at() is not None:
        rows.append(_line(LOOKED_AT, found.picture, [record.looked_at(steps=span) for span in spans]))
    return (
        "<h2>Words</h2><p>What image tokens pay to each word, and to each other, mean over heads and sites; each map "
        "is stretched by itself. Select a picture to enlarge it.</p>"
        f'<div class="card scroll"><table class="gallery" style="--columns:{len(steps) + 1}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _line(title: str, picture: Picture, maps: Sequence[np.ndarray | None]) -> str:
    cells = "".join(f"<td>{_image(overlay(picture, heat), title)}</td>" for heat in maps if heat is not None)
    return f"<tr><th>{escape(title)}</th>{cells}</tr>"


def _sites(record: AttentionRecord) -> str:
    """Each word's map at every site."""
    shown = [site for site in record.sites if WORDS in site.values and site.grid is not None]
    if not shown:
        return ""
    rows = "".join(
        f"<tr><th>{escape(site.site.name)}</th>"
        + "".join(f"<td>{_image(shaded(record.map(word, sites=site.site.name)), word)}</td>" for word in record.words)
        + "</tr>"
        for site in shown
    )
    heads = "".join(f"<th>{escape(word)}</th>" for word in record.words)
    return (
        f'<details class="card"><summary>Words, site by site<small>{len(shown)} sites</small></summary>'
        f'<div class="scroll"><table class="gallery" style="--columns:8"><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _heads(record: AttentionRecord) -> str:
    made = [(title, plot_heads(record, name)) for name, title in PANELS.items()]
    figures = "".join(
        f'<figure class="card"><figcaption>{escape(title)}</figcaption>{svg}</figure>' for title, svg in made if svg
    )
    if not figures:
        return ""
    counts = Counter(row["role"] for row in record.heads())
    tiles = "".join(_tile(role, counts[role]) for role in ROLES if counts[role])
    return (
        "<h2>Heads</h2><p>By whole rows of some image tokens: what each head looks at. Roles are rules of thumb, "
        "the first that a head reaches.</p>"
        f'<dl class="tiles">{tiles}</dl><div class="plots" style="margin-top:14px">{figures}</div>'
    )


def _sinks(record: AttentionRecord) -> str:
    """The keys that draw most, whatever the query."""
    rows = sorted(record.heads(), key=lambda row: -row["top"])[:SINKS]
    if not rows:
        return ""
    sites = {site.site.name: site for site in record.sites}
    lines = "".join(
        f"<tr><th>{escape(row['site'])}</th><td>{row['head']}</td><td>{row['top']:.0%}</td>"
        f'<td class="left">{escape(_place(sites[row["site"]], row))}</td><td class="left">{row["role"]}</td></tr>'
        for row in rows
    )
    heads = '<th>site</th><th>head</th><th>share</th><th class="left">key</th><th class="left">role</th>'
    return (
        "<h2>Keys that draw most</h2><p>Mean share of one key over all rows that were taken.</p>"
        f'<div class="card scroll"><table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def _place(site: SiteRecord, row: dict[str, Any]) -> str:
    """Where a key is: its place on a grid, or its number within the segment."""
    name, key = row["top_in"], row["top_key"]
    segment = next(s for s in site.keys.segments if s.name == name)
    within = key - site.keys.span(name).start
    if segment.grid is None:
        return f"{name} {within}"
    place = np.unravel_index(within, segment.grid)
    return f"{name} ({', '.join(str(int(i)) for i in place[segment.grid[0] == 1 :])})"


def _tile(role: str, count: int) -> str:
    return f'<div class="tile card"><dt>{escape(role)}</dt><dd>{count}<small>{escape(ROLES[role])}</small></dd></div>'


def _image(picture: Picture, alt: str) -> str:
    return f'<div class="frame"><img class="small" alt="{escape(alt)}" src="{data_url(picture)}"></div>'


def _some(values: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many, spread evenly from the first to the last."""
    if len(values) <= most:
        return tuple(values)
    return tuple(values[round(i * (len(values) - 1) / (most - 1))] for i in range(most))


def _counted(steps: Iterable[int]) -> str:
    found = list(steps)
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else str(found[0])
