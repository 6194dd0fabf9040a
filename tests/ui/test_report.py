"""The report: whole, alone, and without an error in a browser."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.metrics.output import to_bytes
from saccade.ui import write_report
from saccade.ui.gallery import data_url
from saccade.ui.report import page
from tests.ui.browser import chromium, open_page
from tests.ui.made_up import PROMPTS, comparison


class Outline(HTMLParser):
    """Tags with their attributes, ids, and whether every tag that must close does."""

    VOID = ("meta", "link", "img", "br", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return page(comparison(4))


def test_the_page_is_well_formed(text: str) -> None:
    assert Outline(text).open == []


def test_every_id_is_unique(text: str) -> None:
    ids = [a["id"] for _, a in Outline(text).tags if "id" in a]
    assert sorted(ids) == sorted(set(ids))


def test_nothing_is_fetched_from_anywhere(text: str) -> None:
    outline = Outline(text)
    links = [a[key] for _, a in outline.tags for key in ("src", "href", "xlink:href") if a.get(key)]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_every_picture_of_every_arm_is_there(text: str) -> None:
    made = comparison(4)
    pictures = [a for a in Outline(text).all("img") if a["alt"]]
    assert len(pictures) == sum(len(arm.drawn) for arm in made.arms) == 24
    assert sum("data-dense" in a for a in pictures) == 4


def test_an_embedded_picture_is_the_picture_itself() -> None:
    drawn = comparison(1).arms[2].drawn[0].picture
    kind, _, data = data_url(drawn).partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(BytesIO(base64.b64decode(data)))), to_bytes(drawn)[0])


def test_large_pictures_are_kept_small_and_videos_move() -> None:
    large = data_url(np.random.default_rng(0).random((1, 300, 2000, 3)))
    assert large.startswith("data:image/jpeg")
    assert Image.open(BytesIO(base64.b64decode(large.partition(",")[2]))).size[0] == 1024
    video = data_url(np.random.default_rng(0).random((5, 32, 32, 3)))
    assert Image.open(BytesIO(base64.b64decode(video.partition(",")[2]))).n_frames == 5


def test_prompts_are_text_and_never_markup(text: str) -> None:
    assert "<b>blue</b>" not in text and "&lt;b&gt;blue&lt;/b&gt;" in text
    assert PROMPTS[1].replace("&", "&amp;") in text


def test_all_four_plots_are_drawn_in_the_page_colours(text: str) -> None:
    assert len([a for a in Outline(text).all("svg") if a.get("class") == "plot"]) == 4
    assert "#0a0b0" not in text and "#a0b0c" not in text
    assert "var(--arm-2)" in text


def test_plots_without_data_are_left_out() -> None:
    made = comparison(2)
    dense = replace(
        made,
        arms=tuple(replace(a, sites=(), drawn=tuple(replace(d, verdict=None) for d in a.drawn)) for a in made.arms),
    )
    assert len([a for a in Outline(page(dense)).all("svg") if a.get("class") == "plot"]) == 2


def test_fallbacks_sites_versions_and_settings_are_told(text: str) -> None:
    for expected in (
        "ran sdpa; flex: no C++ compiler",
        "single_transformer_blocks.1.attn",
        "2.13.0",
        "Some CPU, 2 threads",
    ):
        assert expected in text


def test_the_same_comparison_gives_the_same_page(text: str) -> None:
    assert page(comparison(4)) == text


def test_a_browser_shows_every_picture_and_reports_no_error(tmp_path: Path) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    opened = open_page(browser, write_report(comparison(4), tmp_path / "deep" / "report.html"), tmp_path / "profile")
    assert opened.console == ()
    root = Outline(opened.dom).all("html")[0]
    assert root["data-pictures"] == "24/24"


def test_the_browser_check_sees_a_broken_picture_and_a_script_error(tmp_path: Path) -> None:
    browser = chromium()
    if browser is None:
        pytest.skip("no Chromium on this machine")
    broken = tmp_path / "broken.html"
    broken.write_text(
        re.sub(r"iVBOR[^\"]{40}", "AAAA", page(comparison(1)), count=1).replace(
            "</body>", "<script>nothing()</script></body>"
        )
    )
    opened = open_page(browser, broken, tmp_path / "profile")
    assert Outline(opened.dom).all("html")[0]["data-pictures"] == "11/12"
    assert any("nothing is not defined" in line for line in opened.console)
