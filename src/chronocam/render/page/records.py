"""What a page draws, as records: the contract between Python and the scripts in `assets/`.

`assets/base.js` begins with the same table. A field that is `OMITTED` is left out of a page's data while it
is None, which the scripts read as null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from chronocam.jsonable import OMITTED, JsonRecord

Number: TypeAlias = float | None
"""A number; None where it is not finite or not known."""


@dataclass(frozen=True, kw_only=True)
class PageLink(JsonRecord):
    """Where a link leads, and its name."""

    href: str
    name: str


@dataclass(frozen=True, kw_only=True)
class PageLinks(JsonRecord):
    """Where a page leads: to the index, and to the pages before and after it."""

    index: PageLink
    previous: PageLink | None
    next: PageLink | None


@dataclass(frozen=True, kw_only=True)
class ShownStills(JsonRecord):
    """The pictures of an item.

    frames: JPEG files in base64, none for bare maps.
    count: how many frames there are.
    size: (height, width) in pixels.
    seen: x0, y0, x1, y1 of the part that the model saw.
    seconds: when each frame is shown; None without a clock.
    numbers: of each frame in its source; None where unknown.
    unit: what a frame is called, `frame` or `slice`.
    """

    frames: list[str]
    count: int
    size: list[int]
    seen: list[int]
    seconds: list[Number] | None
    numbers: list[int] | None
    unit: str


@dataclass(frozen=True, kw_only=True)
class AttentionCurves(JsonRecord):
    """Attention of a model over the frames, for one target.

    agreement: the rank correlation of weights and contributions.
    """

    weights: list[Number]
    contributions: list[Number]
    agreement: Number


@dataclass(frozen=True, kw_only=True)
class MapTarget(JsonRecord):
    """One target of a map.

    sentence: what was found, in words.
    scale: the raw value that has the last colour of the scale that the targets share.
    range: the smallest and the largest raw value.
    line: the raw values of the map of a signal.
    importance: the share of the evidence in each time slice of a clip.
    box: of a detection, x0, y0, x1, y1 in pixels of the input.
    """

    name: str
    score: Number
    confidence: Number
    sentence: str
    scale: Number
    range: list[Number]
    line: list[Number] | None = field(default=None, metadata=OMITTED)
    importance: list[Number] | None = field(default=None, metadata=OMITTED)
    box: list[Number] | None = field(default=None, metadata=OMITTED)
    attention: AttentionCurves | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, kw_only=True)
class DriveOutput(JsonRecord):
    """One target of a drive's maps, with a score at each moment.

    score, confidence: always None: each moment has its own score, and outputs are not classes.
    sentence, scale: as those of a `MapTarget`.
    truth: of each moment, where it is known.
    unit: what scores are multiplied by to be compared with the truth; None where nothing is.
    """

    name: str
    score: None = None
    scores: list[Number]
    confidence: None = None
    sentence: str
    scale: Number
    truth: list[Number] | None
    unit: float | None


@dataclass(frozen=True, kw_only=True)
class ShownMap(JsonRecord):
    """The maps of all targets by one method at one layer.

    label: what the page calls it.
    first: the target that the page opens on: of largest confidence where there are some.
    spans: the first and the last frame of each time slice; None for pictures and drives.
    cubic: whether maps are enlarged by cubic interpolation, or linearly.
    cells: (rows, columns) of the maps that the page holds.
    thinned: whether that is fewer than the layer's own grid.
    centers: where the cells of each axis lie in the input; None tiles it evenly.
    windows: what a cell i sees of each axis of the input, stride, low and high: from stride·i + low to
        stride·i + high; None where that is not known.
    input: (height, width) of the model's input.
    signed: whether a target's map has negative values.
    gains: what brings each map, which has a maximum of 1, to the scale that they share.
    bytes: the maps, see `packed`, a slice for each frame.
    """

    label: str
    first: int
    method: str
    layer: str
    grid: list[int]
    findings: list[str]
    spans: list[list[int]] | None
    cubic: bool
    cells: list[int]
    thinned: bool
    centers: list[list[Number]] | None
    windows: list[list[int]] | None
    input: list[int]
    signed: list[bool]
    gains: list[Number]
    bytes: list[str]
    targets: list[MapTarget] | list[DriveOutput]


@dataclass(frozen=True, kw_only=True)
class SequenceTarget(JsonRecord):
    """One target of a sequence.

    sentence: what was found, in words.
    ledger: terms that sum to the score; empty where there are none.
    bytes: relevance (step, cell), see `packed`.
    by_step: relevance summed over the features.
    top: for each step, the features of largest magnitude with their relevance.
    """

    name: str
    score: Number
    sentence: str
    ledger: Mapping[str, Number]
    bytes: str
    by_step: list[Number]
    top: list[list[tuple[int, Number]]]


@dataclass(frozen=True, kw_only=True)
class ShownSettling(JsonRecord):
    """How alike each step's relevance and the steady state are.

    settled: the step from which the cosine stays within `tolerance` of 1; negative for never.
    chance: the cosine of unrelated profiles, by step.
    """

    steps: list[int]
    cosine: list[Number]
    spearman: list[Number]
    jaccard: list[Number]
    settled: int
    tolerance: float
    chance: list[Number]


@dataclass(frozen=True, kw_only=True)
class ShownMemory(JsonRecord):
    """The share of the relevance at each lag, and how far back 90 % of it reaches."""

    lags: list[int]
    share: list[Number]
    reach: int


@dataclass(frozen=True, kw_only=True)
class ShownSequence(JsonRecord):
    """Relevance over steps and features by one method.

    bin: how many neighbouring features share a cell.
    cells: (steps, cells) of the pictures.
    peak: the largest magnitude, which all pictures share.
    """

    label: str
    method: str
    findings: list[str]
    steps: int
    features: int
    bin: int
    cells: list[int]
    peak: Number
    targets: list[SequenceTarget]
    settling: ShownSettling | None
    memory: ShownMemory | None


@dataclass(frozen=True, kw_only=True)
class WordsTarget(JsonRecord):
    """One caption.

    sentence: what was found, in words.
    relevance, shares: of each word, as it is, and of the largest on the page.
    """

    name: str
    score: Number
    sentence: str
    words: list[str]
    relevance: list[Number]
    shares: list[Number]


@dataclass(frozen=True, kw_only=True)
class ShownWords(JsonRecord):
    """The words of all captions by one method.

    picture: what they are of, as a JPEG file in base64; None where maps are drawn on it.
    """

    label: str
    method: str
    layer: str
    findings: list[str]
    picture: str | None
    targets: list[WordsTarget]


@dataclass(frozen=True, kw_only=True)
class PageItem(JsonRecord):
    """One sample: its pictures, the maps over them, the relevance of its features, and of captions' words."""

    name: str
    model: str
    stills: ShownStills | None
    maps: list[ShownMap]
    sequences: list[ShownSequence]
    words: list[ShownWords] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ShownPath(JsonRecord):
    """The path of a camera from above.

    positions, truth: (x, z) of each place; the true ones where they are known.
    """

    positions: list[list[Number]]
    truth: list[list[Number]] | None
    note: str


@dataclass(frozen=True, kw_only=True)
class DriveItem(PageItem):
    """A drive: its depth as pictures like the frames, its path, and its findings."""

    depth: list[str]
    path: ShownPath | None
    notes: list[str]
