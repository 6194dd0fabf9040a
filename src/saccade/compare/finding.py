"""What a comparison found, in a sentence: what is worth using, and what is not."""

from collections.abc import Sequence
from typing import Literal, get_args

from saccade.compare.comparison import Comparison
from saccade.compare.summary import Summary, summarise

Outcome = Literal["faster", "keeps more", "no gain", "loses captions"]
LOST = 0.02  # of the captions, within which an arm counts as good as dense attention


def outcome(row: Summary) -> Outcome | None:
    """What an arm is good for; None for those that systems are measured against.

    Keeping its captions and surely faster end to end; keeping more of them; neither; losing some. Where captions are
    not judged, speed alone decides.
    """
    if row.role != "system":
        return None
    change = 0.0 if row.change is None else row.change.mid
    if change < -LOST:
        return "loses captions"
    if row.total.speedup.low > 1:
        return "faster"
    return "keeps more" if change > 0 else "no gain"


def finding(comparison: Comparison) -> str:
    """One sentence: the fastest arm of those as good as dense, the one that keeps most, and what does not pay."""
    rows = summarise(comparison)
    dense = next(row for row in rows if row.role == "reference")
    of = {name: [row for row in rows if outcome(row) == name] for name in get_args(Outcome)}
    said = (
        _faster(of["faster"], dense),
        _better(of["keeps more"], dense),
        _several(of["loses captions"], "costs captions", "cost captions"),
        _several(of["no gain"], "gains nothing", "gain nothing"),
    )
    text = "; ".join(filter(None, said))
    return f"{text[:1].upper()}{text[1:]}."


def _faster(rows: Sequence[Summary], dense: Summary) -> str:
    if not rows:
        return "no arm is surely faster than dense attention and as good"
    row = max(rows, key=lambda row: row.total.speedup.mid)
    return f"{row.label} draws {row.total.speedup.mid:.2f} times as fast as dense attention{_kept(row, dense)}"


def _better(rows: Sequence[Summary], dense: Summary) -> str:
    if not rows:
        return ""
    row = max(rows, key=lambda row: row.change.mid if row.change else 0)
    return f"{row.label} takes {1 / row.total.speedup.mid:.2f} times as long{_kept(row, dense)}"


def _kept(row: Summary, dense: Summary) -> str:
    """` and keeps 15 of 16 captions (dense 14)`, nothing where they are not judged."""
    if row.accuracy is None or dense.accuracy is None:
        return "" if row.psnr is None else f", {row.psnr.mid:.1f} dB from its pictures"
    kept, before = round(row.accuracy.mid * row.pictures), round(dense.accuracy.mid * dense.pictures)
    return f" and keeps {kept} of {row.pictures} captions (dense {before})"


def _several(rows: Sequence[Summary], one: str, more: str) -> str:
    return f"{', '.join(row.label for row in rows)} {one if len(rows) == 1 else more}" if rows else ""
