"""Layouts turn a layer's output into `(batch, channel, *grid)`.

Each file of this package holds one family and registers it; `infer` asks them in order. A layout is named by
`layout=` (`"channels_first"`, `"channels_last"`, `"frames_first"`, `"tokens"`, `"folded"`, `"stepped"`,
`"video_tokens"`), built (`Tokens((14, 14), prefix=1)`), or any callable that does the same.
"""

from chronocam.layouts.base import Layout, Site, Stem, channel_axis, infer, input_grid, joined, named
from chronocam.layouts.frames import Folded, Stepped
from chronocam.layouts.plain import ChannelsFirst, ChannelsLast, FramesFirst
from chronocam.layouts.tokens import Tokens
from chronocam.layouts.video_tokens import VideoTokens

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
