"""Two scenes of one story by a small CogVideoX trained here, then a third that follows them: two minutes on a core.

python examples/mask2dit.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from diffusers import CogVideoXTransformer3DModel
from PIL import Image

from saccade.papers.mask2dit.captions import in_a_row
from saccade.papers.mask2dit.recipe import Mask2DiTRecipe, SmallScenes
from saccade.papers.mask2dit.sampling import Words, extend, sample_scenes
from saccade.papers.mask2dit.stories import embed_words

STEPS = 200
CAPTIONS = [
    "staying still on a white background",
    "staying still on a navy background",
    "staying still on a gray background",
]

plain = Mask2DiTRecipe(model=SmallScenes(close=True))
stages = {
    name: replace(stage, fit=replace(stage.fit, steps=STEPS))
    for name, stage in (("pretrain", plain.pretrain), ("stories", plain.stories))
}
folder = replace(plain, **stages).run(Path("mask2dit-run"))

pipe = plain.model.pipeline()
pipe.transformer = CogVideoXTransformer3DModel.from_pretrained(folder).eval()


def words(captions: list[str]) -> Words:
    """Word by word, without a text encoder."""
    return Words(captions=in_a_row(embed_words(captions, plain.model.text_tokens), 2), negative=None, scenes=2)


options = plain.model.sampling(steps=20)
two = sample_scenes(pipe, words(CAPTIONS[:2]), options)
three = extend(pipe, two[:, plain.model.frames :], words(CAPTIONS[1:]), options)
frames = np.concatenate([*two[0, : plain.model.frames].numpy(), *three[0].numpy()], axis=2)
picture = ((frames.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
Image.fromarray(picture).resize((picture.shape[1] * 8, picture.shape[0] * 8), Image.Resampling.NEAREST).save(
    "mask2dit.png"
)
print(f"mask2dit.png: {len(CAPTIONS)} scenes of {plain.model.frames} frames, the last one added to the second")
