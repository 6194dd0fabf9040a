"""A headless Chromium, where there is one, run apart from everything of the user's."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The document as it stands after its scripts ran, and what the console said."""

    dom: str
    console: tuple[str, ...]


def chromium() -> str | None:
    """The path of a browser, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def open_page(browser: str, page: Path, profile: Path) -> Opened:
    """Load a file and let its scripts run for five seconds of the browser's own clock."""
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    return Opened(dom=run.stdout, console=tuple(re.findall(r":CONSOLE[^\]]*\] (.*)", run.stderr)))
