"""Layouts turn a layer's output into `(batch, channel, *grid)`.

Each file of this package holds one family and registers it by being there. Where `layout=` is None all of
them are asked, and of equally good fits the one whose file comes first in the alphabet is taken. `layout=`
takes a name (`"channels_first"`, `"channels_last"`, `"frames_first"`, `"tokens"`, `"folded"`, `"stepped"`,
`"video_tokens"`, `"bands"`, `"tokens_by_frame"`, `"patch_rows"`, `"window_rows"`, `"channel_rows"`,
`"token_rows"`, `"one_slice"`), a layout (`Tokens((14, 14), prefix=1)`), or any callable that does the same.
"""

from importlib import import_module as _import_module
from pkgutil import iter_modules as _iter_modules

from chronocam.layouts.bands import Bands
from chronocam.layouts.base import Layout
from chronocam.layouts.frames import Folded, OneSlice, Stepped, TokensByFrame
from chronocam.layouts.patch_rows import PatchRows
from chronocam.layouts.plain import ChannelsFirst, ChannelsLast, FramesFirst
from chronocam.layouts.signal_rows import ChannelRows, WindowRows
from chronocam.layouts.token_rows import TokenRows
from chronocam.layouts.tokens import Tokens
from chronocam.layouts.video_tokens import VideoTokens

for _module in _iter_modules(__path__):
    _import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Bands",
    "ChannelRows",
    "ChannelsFirst",
    "ChannelsLast",
    "Folded",
    "FramesFirst",
    "Layout",
    "OneSlice",
    "PatchRows",
    "Stepped",
    "TokenRows",
    "Tokens",
    "TokensByFrame",
    "VideoTokens",
    "WindowRows",
]
