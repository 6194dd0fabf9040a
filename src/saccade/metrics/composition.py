"""The scores of a composition: entities inside their places, filling them, looking like their pictures (LAMIC's set).

Detectors, segmenters and feature extractors are judges that are handed in. The released code of LAMIC holds no scores;
these follow their names and the code of the benchmark derived from it.

    inclusion  IN-R  |found ∩ region| / |found|, 0 for an entity that is not found
    filling    FI-R  |found ∩ region| / |region|
    background BG-S  cosine of pooled features where no entity is, in the picture and in the background's own
    identity   ID-S  cosine with the reference picture: of faces, or of features pooled over the entity
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean

import numpy as np
from jaxtyping import Float

from saccade.metrics.fidelity import Picture
from saccade.metrics.regions import Region

Detect = Callable[[Picture, str], Region | None]  # pixels of what a phrase names, None where it is not found
Patches = Callable[[Picture], Float[np.ndarray, "y x c"]]  # a vector for each patch, such as DINO's
Faces = Callable[[Picture], Float[np.ndarray, "f c"]]  # an embedding for each face, (0 c) where there is none


@dataclass(frozen=True, kw_only=True)
class CompositionJudges:
    """Networks that score: what finds an entity, features of patches, embeddings of faces."""

    detect: Detect
    patches: Patches | None = None
    faces: Faces | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Composite:
    """An entity of a composition: what names it, where it should be, and what it should look like.

    face  whether identity is that of a face
    """

    phrase: str
    region: Region
    reference: Picture | None = None
    face: bool = False


@dataclass(frozen=True, kw_only=True)
class CompositionScores:
    """In percent, means over entities; None where no judge, reference or background was given."""

    inclusion: float
    filling: float
    identity: float | None = None
    background: float | None = None

    @property
    def mean(self) -> float:
        """AVG: of the scores there are."""
        found = (getattr(self, f.name) for f in fields(self))
        return fmean(score for score in found if score is not None)


def score_composition(
    picture: Picture, entities: Sequence[Composite], judges: CompositionJudges, *, background: Picture | None = None
) -> CompositionScores:
    """All scores of one picture (1 h w 3); `background` is the picture of the scene, entities in it are left out too.

    Raises ValueError without entities, and for regions and judgements of another size.
    """
    if not entities:
        raise ValueError("entities=() leave nothing to score; give each thing of the picture")
    found = [_found(picture, entity.phrase, judges.detect) for entity in entities]
    pairs = list(zip(found, entities, strict=True))
    alike = [_identity(picture, place, entity, judges) for place, entity in pairs]
    known = [score for score in alike if score is not None]
    return CompositionScores(
        inclusion=fmean(inclusion(place, entity.region) for place, entity in pairs),
        filling=fmean(filling(place, entity.region) for place, entity in pairs),
        identity=fmean(known) if known else None,
        background=None if background is None else _background(picture, background, found, entities, judges),
    )


def inclusion(found: Region, region: Region) -> float:
    """Percent of what was found that lies in its region; 0 where nothing was found."""
    _check(found, region)
    return 100 * float((found & region).sum() / found.sum()) if found.any() else 0.0


def filling(found: Region, region: Region) -> float:
    """Percent of the region that what was found fills. Raises ValueError for an empty region."""
    _check(found, region)
    if not region.any():
        raise ValueError("region holds no pixel, so nothing can fill it; leave the entity out")
    return 100 * float((found & region).sum() / region.sum())


def similarity(
    picture: Picture, within: Region, reference: Picture, within_reference: Region, patches: Patches
) -> float:
    """100 x cosine of the mean features of patches that lie more than half in the regions; 0 where there are none."""
    means = [_pooled(patches(one), region) for one, region in ((picture, within), (reference, within_reference))]
    return 0.0 if means[0] is None or means[1] is None else 100 * cosine(means[0], means[1])


def face_identity(faces: Float[np.ndarray, "f c"], reference: Float[np.ndarray, "r c"]) -> float:
    """100 x the largest cosine of any face with the first of the reference; 0 where either has none."""
    return 100 * max((cosine(face, reference[0]) for face in faces), default=0.0) if len(reference) else 0.0


def question_score(answers: Mapping[int, bool], parents: Mapping[int, Sequence[int]]) -> float:
    """DPG: percent of questions answered yes, those with a parent answered no counting as no.

    parents  of each question; 0 stands for none, as in the released files
    Raises ValueError without answers, and for a parent without an answer.
    """
    if not answers:
        raise ValueError("answers={} hold no question; ask at least one")
    needed = {question: [p for p in parents.get(question, ()) if p != 0] for question in answers}
    if unknown := [p for needs in needed.values() for p in needs if p not in answers]:
        raise ValueError(f"question {unknown[0]} is a parent without an answer; answer it too")
    return 100 * fmean(yes and all(answers[p] for p in needed[question]) for question, yes in answers.items())


def cosine(a: Float[np.ndarray, " c"], b: Float[np.ndarray, " c"]) -> float:
    """Of two vectors; 0 where one has no length."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-12))


def _found(picture: Picture, phrase: str, detect: Detect) -> Region:
    found = detect(picture, phrase)
    return np.zeros(picture.shape[1:3], dtype=bool) if found is None else found


def _identity(picture: Picture, found: Region, entity: Composite, judges: CompositionJudges) -> float | None:
    if entity.reference is None:
        return None
    if entity.face:
        return None if judges.faces is None else face_identity(judges.faces(picture), judges.faces(entity.reference))
    if judges.patches is None:
        return None
    shown = _found(entity.reference, entity.phrase, judges.detect)
    return similarity(picture, found, entity.reference, shown, judges.patches)


def _background(
    picture: Picture,
    background: Picture,
    found: Sequence[Region],
    entities: Sequence[Composite],
    judges: CompositionJudges,
) -> float | None:
    if judges.patches is None:
        return None
    there = [_found(background, entity.phrase, judges.detect) for entity in entities]
    rest, rest_there = (~np.any(regions, axis=0) for regions in (found, there))
    return similarity(picture, rest, background, rest_there, judges.patches)


def _pooled(features: Float[np.ndarray, "y x c"], region: Region) -> Float[np.ndarray, " c"] | None:
    """Mean over patches that lie more than half in the region."""
    down, across = features.shape[:2]
    rows, columns = (np.arange(n) * patches // n for n, patches in zip(region.shape, (down, across), strict=True))
    place = (rows[:, None] * across + columns[None]).ravel()
    inside, size = np.bincount(place, region.ravel(), down * across), np.bincount(place, minlength=down * across)
    kept = (2 * inside > size).reshape(down, across)
    return features[kept].astype(np.float64).mean(0) if kept.any() else None


def _check(found: Region, region: Region) -> None:
    if found.dtype != np.bool_ or region.dtype != np.bool_ or found.shape != region.shape:
        raise ValueError(
            f"found {found.dtype} {found.shape} and region {region.dtype} {region.shape} must be bool of one size; "
            "binarise and resize them first"
        )
