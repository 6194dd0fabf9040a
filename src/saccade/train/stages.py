"""What recipes of whole pipelines share: their trained parts, one after the other, and the finished directory."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import nn

from saccade.train.checkpoint import CHECKPOINT, RESULT, trained, write_atomically
from saccade.train.loop import Fit, Task, finished, fit
from saccade.train.settings import flat

log = logging.getLogger(__name__)

Settings = dict[str, Any]
Stage = TypeVar("Stage", bound=str)


@dataclass(frozen=True, kw_only=True)
class TrainedPart:
    """One trained stage: where its weights go, what trains them, and what is to be done with them afterwards."""

    module: nn.Module
    task: Callable[[], Task]
    fit: Fit
    finish: Callable[[], None] = lambda: None

    def complete(self, folder: Path, settings: Settings, *, train: bool) -> bool:
        """Train, or take what `folder` has: the result, else the averages of the newest checkpoint, else nothing."""
        if train and not finished(self.fit, folder):
            fit(self.task(), self.fit, folder, settings=settings)
            return True
        if not (folder / RESULT).exists() and not (folder / CHECKPOINT).exists():
            return False
        self.module.load_state_dict(trained(folder))
        return True


def train_parts(
    parts: Mapping[Stage, TrainedPart], folder: Path, settings: Callable[[Stage], Settings], stages: Sequence[str]
) -> None:
    """Train the parts that are among `stages`, in order; the others take what `folder` has of them."""
    for name, part in parts.items():
        log.info("stage %s", name)
        if part.complete(folder / name, settings(name), train=name in stages):
            part.finish()


def stage_settings(recipe: Any, stage: str, needs: Sequence[str]) -> Settings:
    """What decides the result of a stage: its own options, and those of the stages it needs, with their lengths."""
    found = flat({name: getattr(recipe, name) for name in ("seed", "start", "model", stage, *needs)})
    for name in needs:
        length: Fit = getattr(recipe, name).fit
        found |= {f"{name}.fit.steps": length.steps, f"{name}.fit.minutes": length.minutes}
    return found


def export(pipe: DiffusionPipeline, folder: Path) -> None:
    """Store the pipeline in half precision, in such a way that plain `from_pretrained` loads it in single."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    for part in parts.values():
        part.requires_grad_(False).half()
    pipe.save_pretrained(folder)
    texts = [name for name in parts if name.startswith("text_encoder")]
    for name in ("model_index.json", *(f"{part}/config.json" for part in parts if part not in texts)):
        _edit_json(
            folder / name, lambda config: {k: v for k, v in config.items() if k != "_name_or_path"}
        )  # of `start`
    for name in texts:  # transformers loads in the precision that is written here
        _edit_json(folder / name / "config.json", lambda config: config | {"dtype": "float32"})
    for part in parts.values():
        part.float()


def _edit_json(path: Path, edit: Callable[[dict[str, object]], dict[str, object]]) -> None:
    text = json.dumps(edit(json.loads(path.read_text())), indent=2) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text))
