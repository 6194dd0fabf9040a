"""The report's pictures: a row per prompt and seed, a column per arm, each embedded as data."""

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from io import BytesIO
from math import inf, isnan

from PIL import Image

from saccade.compare.comparison import ArmResult, Comparison, Drawn
from saccade.metrics.fidelity import Picture
from saccade.metrics.output import to_bytes

LOSSLESS = 256  # pixels of the longer side up to which pictures are kept as PNG
LARGEST = 1024  # and beyond which they are scaled down
FRAMES_PER_SECOND = 12


def gallery(comparison: Comparison) -> str:
    """The rows of the gallery's table."""
    places = [(drawn.prompt, drawn.seed) for drawn in comparison.reference.drawn]
    by_arm = [{(d.prompt, d.seed): d for d in arm.drawn} for arm in comparison.arms]
    return "".join(
        f"<tr><th>{escape(comparison.prompts[prompt])}<small>seed {seed}</small></th>"
        + "".join(_cell(arm, drawn[prompt, seed]) for arm, drawn in zip(comparison.arms, by_arm, strict=True))
        + "</tr>"
        for prompt, seed in places
    )


def data_url(picture: Picture) -> str:
    """A picture, or a video as an animation, as a data URL."""
    frames = [_scaled(Image.fromarray(frame)) for frame in to_bytes(picture)]
    still, small = len(frames) == 1, max(picture.shape[1:3]) <= LOSSLESS
    file = BytesIO()
    if still and small:
        frames[0].save(file, "PNG", optimize=True)
    elif still:
        frames[0].save(file, "JPEG", quality=92)
    else:
        frames[0].save(file, "PNG", save_all=True, append_images=frames[1:], duration=1000 // FRAMES_PER_SECOND, loop=0)
    kind = "jpeg" if still and not small else "png"
    return f"data:image/{kind};base64,{b64encode(file.getvalue()).decode()}"


def _scaled(frame: Image.Image) -> Image.Image:
    frame.thumbnail((LARGEST, LARGEST))
    return frame


def _cell(arm: ArmResult, drawn: Drawn) -> str:
    names = "small" if max(drawn.picture.shape[1:3]) <= LOSSLESS // 2 else ""
    dense = " data-dense" if arm.role == "reference" else ""
    image = f'<img class="{names}"{dense} alt="{escape(arm.label)}" src="{data_url(drawn.picture)}">'
    score = f'<figcaption class="score">{_score(drawn)}</figcaption>'
    return f'<td><figure><div class="frame">{image}</div>{score}</figure></td>'


def _score(drawn: Drawn) -> str:
    lines = []
    if drawn.fidelity is not None:
        lines.append("identical" if drawn.fidelity.psnr == inf else f"{drawn.fidelity.psnr:.1f} dB")
    if drawn.verdict is not None:
        lines.append(_verdict(drawn.verdict))
    return " · ".join(lines)


def _verdict(verdict: Mapping[str, float]) -> str:
    if verdict["all"]:
        return '<span class="yes">✓ kept</span>'
    broken = [kind for kind, kept in verdict.items() if kind != "all" and not isnan(kept) and kept < 1]
    return f'<span class="no">✗ {escape(", ".join(broken))}</span>'
