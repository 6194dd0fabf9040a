"""Synthetic scenes with full ground truth: pictures and films of coloured shapes, captions, boxes, masks, from a seed.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> scene = sample(rng)
>>> picture, prompt = render(scene, 64), describe(scene, rng)
>>> judge(picture, prompt).all
True
"""

from saccade.data.scenes.film import Film as Film
from saccade.data.scenes.film import Motion as Motion
from saccade.data.scenes.film import film_masks as film_masks
from saccade.data.scenes.film import render_film as render_film
from saccade.data.scenes.film import sample_film as sample_film
from saccade.data.scenes.film_verdict import FilmVerdict as FilmVerdict
from saccade.data.scenes.film_verdict import judge_film as judge_film
from saccade.data.scenes.film_words import FilmPrompt as FilmPrompt
from saccade.data.scenes.film_words import describe_film as describe_film
from saccade.data.scenes.raster import masks as masks
from saccade.data.scenes.raster import render as render
from saccade.data.scenes.reading import Parsed as Parsed
from saccade.data.scenes.reading import Seen as Seen
from saccade.data.scenes.reading import parse as parse
from saccade.data.scenes.sampling import Split as Split
from saccade.data.scenes.sampling import sample as sample
from saccade.data.scenes.sampling import split_of as split_of
from saccade.data.scenes.shapes import SHAPES as SHAPES
from saccade.data.scenes.verdict import Verdict as Verdict
from saccade.data.scenes.verdict import judge as judge
from saccade.data.scenes.verdict import rates as rates
from saccade.data.scenes.words import RELATIONS as RELATIONS
from saccade.data.scenes.words import Prompt as Prompt
from saccade.data.scenes.words import Relation as Relation
from saccade.data.scenes.words import Want as Want
from saccade.data.scenes.words import describe as describe
from saccade.data.scenes.words import prompts as prompts
from saccade.data.scenes.words import vocabulary as vocabulary
from saccade.data.scenes.world import BACKGROUNDS as BACKGROUNDS
from saccade.data.scenes.world import COLOURS as COLOURS
from saccade.data.scenes.world import PLACES as PLACES
from saccade.data.scenes.world import SIZES as SIZES
from saccade.data.scenes.world import Scene as Scene
from saccade.data.scenes.world import Thing as Thing
