"""Inside one attention module: its own code runs, and the call it makes passes through us."""

from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.seam.cache_span import CacheSpan as CacheSpan
    from saccade.seam.family import Family as Family
    from saccade.seam.family import Guidance as Guidance
    from saccade.seam.interceptor import SiteInterceptor as SiteInterceptor
    from saccade.seam.rotary import Rotary as Rotary
    from saccade.seam.shadow import Route as Route
    from saccade.seam.view import HostView as HostView

__all__ = [
    "CacheSpan",
    "Family",
    "Guidance",
    "HostView",
    "Rotary",
    "Route",
    "SiteInterceptor",
]

__getattr__, __dir__ = lazily(__name__)
