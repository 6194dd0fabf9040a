"""Does what was drawn keep its prompt? Pictures and videos of scenes are read back by the parser."""

from collections.abc import Sequence
from dataclasses import asdict

from saccade.data.scenes import Prompt, Verdict, VideoPrompt, judge, judge_video, parse
from saccade.metrics.fidelity import Picture

Asked = str | Prompt | VideoPrompt


def text_of(prompt: Asked) -> str:
    """What the pipeline is given."""
    return prompt if isinstance(prompt, str) else prompt.text


def unjudgeable(picture: Picture, prompts: Sequence[Asked]) -> str:
    """Why pictures like this cannot be judged by their prompts; empty where they can, or where no prompt promises."""
    promising = [prompt for prompt in prompts if not isinstance(prompt, str)]
    if not promising:
        return ""
    if any(isinstance(prompt, VideoPrompt) != (len(picture) > 1) for prompt in promising):
        said, drawn = ("videos", "pictures") if len(picture) == 1 else ("pictures", "videos")
        return f"prompts are not judged: they promise {said}, {drawn} were drawn"
    try:
        parse(picture[0])
    except ValueError as error:
        return f"prompts are not judged: {error}"
    return ""


def verdict(picture: Picture, prompt: Asked) -> dict[str, float] | None:
    """The share kept of each kind of promise, nan where there is none; of videos those of the first frame and more."""
    if isinstance(prompt, str):
        return None
    if isinstance(prompt, Prompt):
        return _shares(judge(picture[0], prompt))
    found = judge_video([*picture], prompt)
    whole = {name: float(getattr(found, name)) for name in ("motion", "steady", "all")}
    return {**_shares(found.start), "start": float(found.start.all), "end": float(found.end.all), **whole}


def _shares(found: Verdict) -> dict[str, float]:
    return {kind: float(kept) for kind, kept in asdict(found).items()}
