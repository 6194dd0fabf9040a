"""Long videos of several prompts: the verb, its record, and a sheet that shows one."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.multi_prompt.request import Record as Record
    from saccade.multi_prompt.request import Request as Request
    from saccade.multi_prompt.sheet import write_sheet as write_sheet
    from saccade.multi_prompt.verb import BUNDLED_SETTINGS as BUNDLED_SETTINGS
    from saccade.multi_prompt.verb import MultiPrompt as MultiPrompt
    from saccade.multi_prompt.verb import multi_prompt as multi_prompt
    from saccade.multi_prompt.verb import replay as replay

__all__ = ["BUNDLED_SETTINGS", "MultiPrompt", "Record", "Request", "multi_prompt", "replay", "write_sheet"]

__getattr__, __dir__ = lazily(__name__)
