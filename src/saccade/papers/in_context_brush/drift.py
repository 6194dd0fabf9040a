"""How far one forward goes from the host's own: norms of attention outputs by layer, and of the model's output."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.attach import attach
from saccade.core.mechanism import System
from saccade.experiments import Row
from saccade.papers.in_context_brush.insertions import SIDE, TEXT, Studio
from saccade.pipelines.flow import Flow
from saccade.runs import noised

LEVEL = 0.7  # of the noise


@dataclass(eq=False)
class Forward:
    """The diptychs of a studio at one level of noise, run once under each stack.

    norms   of the attention outputs (layer b), image and text streams together
    output  the model's velocity (b n c)
    """

    studio: Studio
    norms: Float[Tensor, "l b"] = field(init=False)
    output: Float[Tensor, "b n c"] = field(init=False)

    def __post_init__(self) -> None:
        self.norms, self.output = self.run()

    def run(self, *systems: System) -> tuple[Tensor, Tensor]:
        """(norms, output) under systems."""
        pipe, blend = self.studio.pipe, self.studio.blending
        captions = [case.caption for case in self.studio.cases]
        velocity = Flow(pipe=pipe, height=SIDE, width=SIDE, text_tokens=TEXT).velocity(captions)
        kept: list[Tensor] = []
        with attach(pipe, *systems) as attached:
            names = [site.name for site in attached.sites]
            hooks = [pipe.transformer.get_submodule(name).register_forward_hook(_keep(kept)) for name in names]
            try:
                output = velocity(noised(blend.clean, blend.noise, LEVEL), LEVEL)
            finally:
                for hook in hooks:
                    hook.remove()
        return torch.stack(kept), output

    def rows(self, name: str, *systems: System) -> Iterator[Row]:
        """A row for each layer and case, in the table `layers`, and one for each case in `outputs`."""
        norms, output = self.run(*systems)
        for layer, ratios in enumerate((norms / self.norms).tolist()):
            for case, ratio in enumerate(ratios):
                yield {"table": "layers", "arm": name, "layer": layer, "case": case, "ratio": ratio}
        away = (output - self.output).flatten(1).norm(dim=1) / self.output.flatten(1).norm(dim=1)
        for case, drift in enumerate(away.tolist()):
            yield {"table": "outputs", "arm": name, "case": case, "drift": drift}


def _keep(kept: list[Tensor]) -> Any:
    """A forward hook that notes the norm of all streams a module gives."""

    def hook(module: object, args: object, output: Any) -> None:
        streams = output if isinstance(output, tuple) else (output,)
        kept.append(torch.cat(streams, dim=1).flatten(1).float().norm(dim=1))

    return hook
