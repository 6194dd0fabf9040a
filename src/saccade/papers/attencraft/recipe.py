"""`saccade train attencraft`: concepts of one picture, for the bundled model or any pipeline that is known.

A finished training is not run again, a killed one goes on: repeat the command to resume.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from saccade.data.rgb import open_picture
from saccade.papers.attencraft.concept_file import FILE
from saccade.papers.attencraft.concepts import JOINT, TEMPLATE, Concept
from saccade.papers.attencraft.customiser import Customisation, customise
from saccade.papers.attencraft.scene import JOINT as SCENE_JOINT
from saccade.papers.attencraft.scene import TEMPLATE as SCENE_TEMPLATE
from saccade.papers.attencraft.scene import Shown, for_scenes
from saccade.pipelines.loading import load_pipeline
from saccade.train.launching import process

Stage = Literal["train"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class AttenCraftRecipe:
    """Everything that decides the result.

    model     a pipeline: bundled name, directory, or identifier in the local cache
    picture   a file; "" for a rendered scene of two shapes, with its own concepts and prompts, on the bundled model
    concepts  the new words, each with the known one it sets out from: <new1>:cat,<new2>:dog
    phrases   what describes them, where something does: <new1>:a sleeping <new1>
    template  of the prompts, with {} where the concepts come, `joint` between them
    side      to which the picture is resized, in pixels; 0 leaves it as it is
    """

    model: str = "scenes-flux"
    picture: str = ""
    concepts: Mapping[str, str] = field(default_factory=dict)
    phrases: Mapping[str, str] = field(default_factory=dict)
    template: str = TEMPLATE
    joint: str = JOINT
    side: int = 0
    train: Customisation = field(default_factory=Customisation)

    free: ClassVar[tuple[str, ...]] = ()

    def run(self, folder: Path, stages: Sequence[Stage] = STAGES) -> Path:
        """Learn the concepts; returns their file.

        Raises ValueError, before anything is loaded, for phrases of words that are no concept's.
        """
        if unknown := [token for token in self.phrases if token not in self.concepts]:
            raise ValueError(f"phrases name '{unknown[0]}', which is not among concepts={dict(self.concepts)}; add it")
        pipe = load_pipeline(self.model, device=str(process().device))
        customise(pipe, folder=folder, **(self._own() if self.picture else self._scene()))
        return folder / FILE

    def _own(self) -> dict[str, Any]:
        image = open_picture(Path(self.picture), f"picture='{self.picture}'")
        concepts = tuple(
            Concept(token=token, word=word, phrase=self.phrases.get(token, "")) for token, word in self.concepts.items()
        )
        return {
            "picture": image.resize((self.side, self.side)) if self.side else image,
            "concepts": concepts, "template": self.template, "joint": self.joint, "options": self.train,
        }  # fmt: skip

    def _scene(self) -> dict[str, Any]:
        shown = Shown()
        return {
            "picture": shown.picture(), "concepts": shown.concepts, "template": SCENE_TEMPLATE, "joint": SCENE_JOINT,
            "options": for_scenes(self.train),
        }  # fmt: skip
