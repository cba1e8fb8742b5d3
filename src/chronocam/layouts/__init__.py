"""Layouts turn a layer's output into `(batch, channel, *grid)`.

Each file of this package holds one family and registers it; `infer` asks them in order. A layout is named by
`layout=` (`"channels_first"`, `"channels_last"`, `"tokens"`), built (`Tokens((14, 14), prefix=1)`), or any
callable that does the same.
"""

from chronocam.layouts.base import Layout, Site, infer, input_grid, named
from chronocam.layouts.plain import ChannelsFirst, ChannelsLast
from chronocam.layouts.tokens import Tokens

__all__ = ["ChannelsFirst", "ChannelsLast", "Layout", "Site", "Tokens", "infer", "input_grid", "named"]
