"""Pictures that results keep as text, and the piece of a page that shows one."""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from saccade.experiments.page import Figures
from saccade.experiments.results import Results


def encoded(picture: UInt8[np.ndarray, "h w 3"], colours: int | None = None) -> str:
    """A picture as text, a PNG; with so many colours, at most 256, where it should be small."""
    image = Image.fromarray(picture)
    drawn = image if colours is None else image.quantize(colours, dither=Image.Dither.NONE)
    drawn.save(file := BytesIO(), format="PNG", optimize=True)
    return b64encode(file.getvalue()).decode()


@dataclass(frozen=True, kw_only=True)
class KeptPicture:
    """The one picture that a column holds, beside the page.

    source  `table.column` of the results
    name    of its file
    larger  how many times, pixel by pixel
    """

    source: str
    name: str
    about: str
    larger: int = 1

    def __call__(self, results: Results, figures: Figures) -> str:
        table, _, column = self.source.partition(".")
        (row,) = results.rows(table)
        image = Image.open(BytesIO(b64decode(row[column])))
        size = self.larger * image.width, self.larger * image.height
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{self.name}.png"
            image.resize(size, Image.Resampling.NEAREST).save(file, optimize=True)
            return figures.copy(self.name, file, self.about)
