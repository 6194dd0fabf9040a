"""Labelled pictures to train and judge generators on: synthetic scenes, CIFAR-10, folders, any data set of rows.

>>> import numpy as np
>>> source = open_source("scenes", 32, label="shape", count=64)
>>> x, labels = source.batch(np.random.default_rng(0), 8)
>>> x.shape, source.names
(torch.Size([8, 3, 32, 32]), ('circle', 'square', 'triangle', 'cross'))
"""

from saccade.data.labelled.cifar import open_cifar10 as open_cifar10
from saccade.data.labelled.controlled import ControlledScenes as ControlledScenes
from saccade.data.labelled.controlled import open_controlled as open_controlled
from saccade.data.labelled.folder import open_folder as open_folder
from saccade.data.labelled.opening import open_source as open_source
from saccade.data.labelled.rows import from_dataset as from_dataset
from saccade.data.labelled.scenes import Label as Label
from saccade.data.labelled.scenes import SceneSource as SceneSource
from saccade.data.labelled.scenes import open_scenes as open_scenes
from saccade.data.labelled.source import Labelled as Labelled
from saccade.data.labelled.source import Pictures as Pictures
from saccade.data.labelled.source import Source as Source
from saccade.data.labelled.source import as_pictures as as_pictures

__all__ = [
    "ControlledScenes",
    "Label",
    "Labelled",
    "Pictures",
    "SceneSource",
    "Source",
    "as_pictures",
    "from_dataset",
    "open_cifar10",
    "open_controlled",
    "open_folder",
    "open_scenes",
    "open_source",
]
