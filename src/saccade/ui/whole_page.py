"""A page of HTML that needs nothing else: our style and script around what it shows."""

from html import escape
from importlib.resources import files
from string import Template


def whole_page(kind: str, heading: str, lead: str, body: str, version: str) -> str:
    """The page. `body` is HTML, with a `.gallery` of pictures and a `dialog` that enlarges them; all else is text."""
    return Template(_text("page.html")).substitute(
        title=escape(f"{heading}: {kind}"),
        kind=escape(kind),
        heading=escape(heading),
        lead=escape(lead),
        style=_text("page.css"),
        script=_text("page.js"),
        body=body,
        foot=f'Made by saccade {escape(version)}. <span id="broken" hidden>Some pictures could not be shown.</span>',
    )


def _text(name: str) -> str:
    return (files("saccade.ui") / "page" / name).read_text(encoding="utf-8")
