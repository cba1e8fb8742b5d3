"""Layouts turn a layer's output into `(batch, channel, *grid)`.

Each file of this package holds one family and registers it by being there; `infer` asks them all, and of
equally good fits takes the one whose file comes first in the alphabet. A layout is named by
`layout=` (`"channels_first"`, `"channels_last"`, `"frames_first"`, `"tokens"`, `"folded"`, `"stepped"`,
`"video_tokens"`), built (`Tokens((14, 14), prefix=1)`), or any callable that does the same.
"""

from importlib import import_module
from pkgutil import iter_modules

from chronocam.layouts.base import Layout, Site, Stem, channel_axis, infer, input_grid, joined, named
from chronocam.layouts.frames import Folded, Stepped
from chronocam.layouts.plain import ChannelsFirst, ChannelsLast, FramesFirst
from chronocam.layouts.tokens import Tokens
from chronocam.layouts.video_tokens import VideoTokens

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ChannelsFirst",
    "ChannelsLast",
    "Folded",
    "FramesFirst",
    "Layout",
    "Site",
    "Stem",
    "Stepped",
    "Tokens",
    "VideoTokens",
    "channel_axis",
    "infer",
    "input_grid",
    "joined",
    "named",
]
