"""How badly a layout fits a layer's output: one scale for all families, since `infer` takes the least.

A perfect fit is 0, and every token before the patches adds 1. What follows is what other oddities add:

| misfit | what is odd | as unlikely as |
|---|---|---|
| log of the ratio | one axis shrunk more than the other, both to a plain grid | 1: 2.7 times as much |
| 0.1 | a signal's steps, as many as neither the input nor a convolution before has | less than all below |
| 0.5 | tokens of two frames each | half a prefix token: both are common, one frame is tried first |
| 1.0 | channels first in a model that has them last | a class token: reshapes at the end of a network do it |
| 1.0 | fewer frames than the input has | a class token: clips are thinned out before the 2D network |
| 1.5 | rows of two or three frames in a row | between these and patches: networks for motion pair frames |
| 2.0 | rows that are the patches of pictures | two prefix tokens: few networks see patches one by one |
| 2.0 | rows that are the windows of signals | the same |
| 2.5 | rows that are the channels of signals | windows are tried first: their proof is sharper |
| 5.0 | tokens on the last axis, channels before them | more tokens than a class token and four registers |
| 5.5 | square patches that do not tile the input | more than that: the grid before the patches is a guess |
| 6.0 | bands beside the steps of a signal | more than all of these: a network makes them of the signal |
| 6.0 | a grid of clips without time | more than all of these: it is the last resort |

Layouts with more than 16 prefix tokens do not fit at all.
"""

from __future__ import annotations

from typing import Final

UNKNOWN_LENGTH: Final = 0.1
LONGER_TUBE: Final = 0.5
OTHER_ORDER: Final = 1.0
FEWER_FRAMES: Final = 1.0
OVERLAPPING: Final = 1.5
PATCH_ROWS: Final = 2.0
WINDOW_ROWS: Final = 2.0
CHANNEL_ROWS: Final = 2.5
TOKENS_LAST: Final = 5.0
RAGGED: Final = 5.5
BESIDE_TIME: Final = 6.0
WITHOUT_TIME: Final = 6.0
MOST_PREFIX_TOKENS: Final = 16
