"""The comparison as one HTML file that needs nothing else: pictures, table, plots, sites, and where it was made."""

from collections.abc import Iterable
from html import escape
from math import isfinite
from pathlib import Path

from saccade.compare.comparison import ArmResult, Comparison, SiteUse
from saccade.compare.finding import finding
from saccade.compare.summary import Summary, differences, summarise
from saccade.metrics.intervals import Interval
from saccade.ui import plots
from saccade.ui.columns import Column, columns, subtitle
from saccade.ui.gallery import gallery
from saccade.ui.summary_table import remarks
from saccade.ui.whole_page import whole_page
from saccade.ui.wording import NONE, bounds, duration, middle, share

PLOTS = (
    ("Speed against fidelity", "Right is faster, up is closer to dense; 95 % intervals.", plots.trade_off),
    ("Speed-up, visit by visit", "Each dot is one batch against the dense arm's run of the same batch.", plots.times),
    ("Density by site", "Share of query-key pairs that was computed.", plots.densities),
    ("What the pictures keep of their prompts", "Mean share kept, by kind of promise.", plots.promises),
)


def write_report(comparison: Comparison, path: Path | str) -> Path:
    """Write the report and return its absolute path."""
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(comparison), encoding="utf-8")
    return target


def page(comparison: Comparison) -> str:
    """The whole page."""
    sections = (_tiles, _table, _pictures, _plots, _sites, _remarks, _facts)
    return whole_page(
        "saccade compare",
        comparison.model,
        f"{subtitle(comparison)} · {comparison.device} · {comparison.started[:10]}",
        "\n".join(section(comparison) for section in sections),
        comparison.versions.get("saccade", ""),
    )


def named(arm: ArmResult, index: int) -> str:
    """An arm's label with its colour mark."""
    mark = f'<span class="dot" style="background:var(--arm-{index % len(plots.ARMS)})"></span>'
    return f'<span class="arm">{mark}<span>{escape(arm.label)}</span></span>'


def _tiles(comparison: Comparison) -> str:
    rows = summarise(comparison)
    systems = [row for row in rows if row.role == "system"]
    tiles = [_fastest(systems), _closest(systems), _best_kept(rows), _floor(rows)]
    said = f'<p class="finding">{escape(finding(comparison))}</p>'
    return f'{said}<dl class="tiles">{"".join(filter(None, tiles))}</dl>'


def _fastest(systems: list[Summary]) -> str:
    if not systems:
        return ""
    row = max(systems, key=lambda row: row.total.speedup.mid)
    return _tile(
        "Fastest end to end", middle(row.total.speedup, ".2f", " ×"), row.label, bounds(row.total.speedup, ".2f")
    )


def _closest(systems: list[Summary]) -> str:
    changed = [row for row in systems if row.psnr is not None]
    if not changed:
        return ""
    row = max(changed, key=lambda row: row.psnr.mid if row.psnr else 0)
    return _tile("Closest to dense", middle(row.psnr, ".1f", " dB"), row.label, bounds(row.psnr, ".1f"))


def _best_kept(rows: Iterable[Summary]) -> str:
    judged = [row for row in rows if row.accuracy is not None and row.role == "system"]
    dense = next((row for row in rows if row.role == "reference"), None)
    if not judged or dense is None or dense.accuracy is None:
        return ""
    row = max(judged, key=lambda row: row.accuracy.mid if row.accuracy else 0)
    assert row.accuracy is not None
    return _tile("Prompts kept best", share(row.accuracy.mid), row.label, f"dense keeps {share(dense.accuracy.mid)}")


def _floor(rows: Iterable[Summary]) -> str:
    row = next((row for row in rows if row.role == "floor"), None)
    if row is None:
        return ""
    value = middle(row.psnr, ".1f", " dB") if row.psnr else "identical"
    return _tile("Numeric floor", value, f"{row.label} against dense", "two exact kernels, the same model")


def _tile(title: str, value: str, *lines: str) -> str:
    small = "".join(f"<small>{escape(line)}</small>" for line in lines if line)
    return f'<div class="tile card"><dt>{escape(title)}</dt><dd>{escape(value)}{small}</dd></div>'


def _table(comparison: Comparison) -> str:
    found = columns(comparison)
    heads = "".join(f'<th title="{escape(c.help)}">{escape(c.title)}</th>' for c in found)
    rows = "".join(_row(arm, i, found) for i, arm in enumerate(comparison.arms))
    return (
        "<h2>Figures</h2><p>Every arm drew the same prompts from the same noise, in turns. Small print: quartiles of "
        "times, 95 % intervals of everything else. Point at a heading for its meaning.</p>"
        f'<div class="card scroll"><table><thead><tr><th>arm</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_gaps(comparison)}"
    )


def _gaps(comparison: Comparison) -> str:
    """PSNR of each system minus each other's, picture by picture: the spread over pictures cancels."""
    found = differences(comparison)
    names = list(dict.fromkeys(a for a, _ in found))
    if len(names) < 2:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(f"<tr><th>{escape(a)}</th>{''.join(_gap(found.get((a, b))) for b in names)}</tr>" for a in names)
    about = "PSNR of the row minus the column, mean and 95 % interval over pictures"
    return (
        f'<details class="card"><summary>System against system<small>{about}</small></summary><div class="scroll">'
        f"<table><thead><tr><th>dB</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _gap(x: Interval | None) -> str:
    return f"<td>{NONE if x is None else f'{x.mid:+.1f}'}<small>{bounds(x, '+.1f')}</small></td>"


def _row(arm: ArmResult, index: int, found: tuple[Column, ...]) -> str:
    cells = (column.cells[index] for column in found)
    figures = "".join(f"<td>{escape(c.main)}{f'<small>{escape(c.sub)}</small>' if c.sub else ''}</td>" for c in cells)
    return f'<tr class="{arm.role}"><th>{named(arm, index)}</th>{figures}</tr>'


def _pictures(comparison: Comparison) -> str:
    heads = "".join(f"<th>{named(arm, i)}</th>" for i, arm in enumerate(comparison.arms))
    return (
        "<h2>Pictures</h2><p>One row per prompt and seed. Select a picture to enlarge it.</p>"
        '<div class="tools"><button type="button" data-view="plain" aria-pressed="true">pictures</button>'
        '<button type="button" data-view="diff" aria-pressed="false">difference to dense, ×4</button></div>'
        f'<div class="card scroll"><table class="gallery" style="--columns:{len(comparison.arms)}">'
        f"<thead><tr><th></th>{heads}</tr></thead><tbody>{gallery(comparison)}</tbody></table></div>"
        '<dialog aria-label="picture"><img alt="" src="data:,"><p></p></dialog>'
    )


def _plots(comparison: Comparison) -> str:
    made = [(title, about, draw(comparison)) for title, about, draw in PLOTS]
    figures = "".join(
        f'<figure class="card"><figcaption>{escape(title)}<small>{escape(about)}</small></figcaption>{svg}</figure>'
        for title, about, svg in made
        if svg
    )
    return f'<h2>Plots</h2><div class="plots">{figures}</div>'


def _sites(comparison: Comparison) -> str:
    parts = (_arm_sites(arm, i) for i, arm in enumerate(comparison.arms) if arm.sites)
    return f"<h2>Sites</h2><p>What ran at every attention module, by which kernel, and why.</p>{''.join(parts)}"


def _arm_sites(arm: ArmResult, index: int) -> str:
    heads = '<th>site</th><th class="left">kind</th><th class="left">systems</th><th>density</th>' \
        '<th class="left">kernel</th><th>calls</th><th>time</th><th class="left">reasons</th>'  # fmt: skip
    rows = "".join(_site(site) for site in arm.sites)
    kernels = ", ".join(dict.fromkeys(site.kernel for site in arm.sites))
    density = f"density {arm.density:.3f}" if isfinite(arm.density) else "density by content"
    about = f"{len(arm.sites)} sites, {density}, kernel {kernels}"
    return (
        f'<details class="card"><summary>{named(arm, index)}<small>{escape(about)}</small></summary>'
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details>'
    )


def _site(site: SiteUse) -> str:
    density = "by content" if site.density is None else f"{site.density:.3f}"
    spent = NONE if site.seconds is None else duration(site.seconds)
    return (
        f"<tr><th>{escape(site.name)}</th>{_left(site.kind)}{_left(' + '.join(site.systems) or NONE)}<td>{density}</td>"
        f"{_left(site.kernel)}<td>{site.calls}</td><td>{spent}</td>"
        f'<td class="why">{"<br>".join(map(escape, site.reasons))}</td></tr>'
    )


def _left(text: str) -> str:
    return f'<td class="left">{escape(text)}</td>'


def _remarks(comparison: Comparison) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in remarks(comparison))
    return f'<h2>What fell back, and why</h2><ul class="remarks card">{lines or "<li>Nothing.</li>"}</ul>'


def _facts(comparison: Comparison) -> str:
    given = {key: value for key, value in comparison.settings.items() if value not in (None, {}, ())}
    facts = {"device": comparison.device, "started": comparison.started, **given, **comparison.versions}
    lines = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(_plain(value))}</dd>" for key, value in facts.items())
    return f'<h2>Made with</h2><dl class="facts card">{lines}</dl>'


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
