"""Navigation of the site: a folder's pages under the titles they bear, found by being there."""

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Replace every `Title: folder/` by the pages of the folder."""
    docs = Path(config["docs_dir"])
    config["nav"] = [_expanded(entry, docs) for entry in config["nav"]]
    return config


def _expanded(entry: dict[str, str], docs: Path) -> dict[str, Any]:
    ((title, target),) = entry.items()
    return {title: pages(docs, target)} if target.endswith("/") else entry


def pages(docs: Path, folder: str) -> list[dict[str, str]]:
    """Pages of a folder by title, sorted by it; small letters and capitals alike."""
    found = {_title(path): path.relative_to(docs).as_posix() for path in (docs / folder).glob("*.md")}
    return [{title: found[title]} for title in sorted(found, key=str.lower)]


def _title(page: Path) -> str:
    return next(line for line in page.read_text().splitlines() if line.startswith("# ")).removeprefix("# ").strip()
