"""Where objects are, by the words of the prompt that name them: from what the model attends to while it draws."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.rows import Rows
from saccade.core.site import Where
from saccade.mechanisms.token_regions import largest
from saccade.papers.diffuhaul.blobs import Blob
from saccade.papers.diffuhaul.flow_host import FlowHost
from saccade.pipelines.words import word_tokens
from saccade.systems.word_map import WordMap, edit_mask


@torch.no_grad()
def find_objects(
    host: FlowHost,
    prompt: str,
    words: Sequence[str],
    clean: Tensor | None,
    noise: Tensor,
    *,
    watch: Where,
    threshold: float,
    stepped: Callable[[], None],
) -> dict[str, Blob]:
    """A blob for each: the largest part of the tokens that attend to its words.

    clean  the photo's latents, which are noised at every step; None: the picture is drawn from the noise
    Raises ValueError for a word that is not in the prompt, and where nothing attends to it.
    """
    tokens = {word: word_tokens(host.pipe, prompt, word, host.flow.text_tokens) for word in words}
    system, alone = WordMap(tokens=tokens, where=watch), replace(host, guidance=1.0)
    predict, z = alone.predictor([prompt], [()]), noise
    with attach(host.pipe, system, rows=Rows.of("cond"), schedule=alone.schedule) as run:
        for step in range(alone.steps):
            z = z if clean is None else alone.noised(clean, noise, step)
            z = alone.step(predict(z, step), step, z)
            stepped()
        heat = system.heat(run.state)
    return {
        word: Blob.of_mask(largest(edit_mask(seen[0, 0], threshold)).cpu().numpy(), word) for word, seen in heat.items()
    }
