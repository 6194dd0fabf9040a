"""Systems as one writes them on the command line; see `core.specs`, where they are read."""

from saccade.core.specs import Stack as Stack
from saccade.core.specs import option_classes as option_classes
from saccade.core.specs import parse_stack as parse_stack
from saccade.core.specs import split as split
