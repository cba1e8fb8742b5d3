"""What a job writes about each input and a report reads: frozen records, one JSON file for each input.

Every `…Result` is the JSON of one input, and every `…Entry` one explanation in it. The fields stand in the
order of the JSON. Reading checks their types; fields that no report needs may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from chronocam.errors import MediaError
from chronocam.jsonable import OMITTED, Json, JsonRecord, missing, read_json

Box: TypeAlias = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the input as stored."""

Numbers: TypeAlias = tuple[float | None, ...]
"""Numbers, None where one is NaN, which JSON lacks."""


@dataclass(frozen=True, kw_only=True)
class AttentionEntry(JsonRecord):
    """Attention over the frames of a clip.

    rank_correlation: of weights and contributions.
    """

    weights: tuple[float, ...]
    contributions: tuple[float, ...]
    rank_correlation: float | None


@dataclass(frozen=True, kw_only=True)
class WordEntry(JsonRecord):
    """A word of a caption, and its relevance for the score."""

    word: str
    relevance: float


@dataclass(frozen=True, kw_only=True)
class MapEntry(JsonRecord):
    """The map of one target in a picture or clip.

    step, vote, votes: the output step explained and its class, or the classes of all steps.
    frame_spans, frame_importance: of each time slice.
    boxes: of a picture's regions, or of each frame.
    box: that a detector found and the map is of, x0, y0, x1, y1 in pixels of the picture. inside: the share
        of the positive part of the map that lies in it.
    words: of a caption, where the map is over them.
    picture, video: the overlay.
    called: what a page calls the map; None for its method.
    explanation: the file with the maps.
    """

    method: str
    layer: str = field(metadata=missing(""))
    grid: tuple[int, ...] = field(metadata=missing(()))
    target: str = field(metadata=missing(""))
    index: int | None = field(metadata=missing(None))
    score: float = field(metadata=missing(0.0))
    confidence: float | None = field(metadata=missing(None))
    votes: tuple[int, ...] | None = field(default=None, metadata=OMITTED)
    step: int | None = field(default=None, metadata=OMITTED)
    vote: int | None = field(default=None, metadata=OMITTED)
    frame_spans: tuple[tuple[int, int], ...] | None = field(default=None, metadata=OMITTED)
    frame_importance: tuple[float, ...] | None = field(default=None, metadata=OMITTED)
    attention: AttentionEntry | None = field(default=None, metadata=OMITTED)
    boxes: tuple[Box | None, ...] | None = field(default=None, metadata=OMITTED)
    box: Box | None = field(default=None, metadata=OMITTED)
    inside: float | None = field(default=None, metadata=OMITTED)
    words: tuple[WordEntry, ...] | None = field(default=None, metadata=OMITTED)
    picture: str | None = field(default=None, metadata=OMITTED)
    video: str | None = field(default=None, metadata=OMITTED)
    called: str | None = field(default=None, metadata=OMITTED)
    explanation: str

    @property
    def file(self) -> str:
        """The file with the explanation."""
        return self.explanation

    @property
    def origin(self) -> str:
        """What the map came from: its method."""
        return self.method

    @property
    def detail(self) -> str:
        """What tells it apart from another explanation of the same origin."""
        return f" at {self.layer}" if self.layer else f": {self.target or self.file}"


@dataclass(frozen=True, kw_only=True)
class SettlingEntry(JsonRecord):
    """How alike the relevance at each output step and the steady state are.

    step: from which the cosine stays within `tolerance` of 1; None for never.
    chance: the cosine of unrelated profiles, by step.
    """

    step: int | None
    tolerance: float
    cosine: Numbers
    spearman: Numbers
    jaccard: Numbers
    chance: Numbers = field(metadata=missing(()))


@dataclass(frozen=True, kw_only=True)
class HorizonEntry(JsonRecord):
    """The share of the relevance at each lag, and how far back 90 % of it reaches."""

    lags: tuple[int, ...]
    share: Numbers
    reach: int


@dataclass(frozen=True, kw_only=True)
class TopFeatures(JsonRecord):
    """The most relevant features at one step, for one target."""

    target: int
    step: int
    features: tuple[int, ...]
    relevance: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SequenceEntry(JsonRecord):
    """The relevance of a sequence's features.

    steps, votes: of each target, its output step and the class with the largest logit there; None where
        targets belong to no single step.
    relevance: the file with the explanation.
    """

    method: str
    targets: tuple[str, ...] = field(metadata=missing(()))
    indices: tuple[int | None, ...] = field(metadata=missing(()))
    scores: tuple[float, ...] = field(metadata=missing(()))
    steps: tuple[int, ...] | None = field(metadata=missing(None))
    votes: tuple[int, ...] | None = field(metadata=missing(None))
    ledger: Mapping[str, tuple[float, ...]] | None = field(metadata=missing(None))
    settling: SettlingEntry | None = field(metadata=missing(None))
    horizon: HorizonEntry | None = field(metadata=missing(None))
    top_features: tuple[TopFeatures, ...] = field(metadata=missing(()))
    relevance: str
    sheet: str = field(metadata=missing(""))

    @property
    def file(self) -> str:
        """The file with the explanation."""
        return self.relevance

    @property
    def called(self) -> None:
        """What a page calls it: nothing but its method."""
        return None

    @property
    def origin(self) -> str:
        """What the relevance came from: its method."""
        return self.method

    @property
    def detail(self) -> str:
        """What tells it apart from another explanation of the same origin."""
        return f": {self.file}"


@dataclass(frozen=True, kw_only=True)
class NoiseAgreement(JsonRecord):
    """How alike the maps of a loss are under imperceptible noise.

    spearman, cosine: means over the moments and the draws of noise.
    """

    spearman: float
    cosine: float
    moments: int
    draws: int


@dataclass(frozen=True, kw_only=True)
class DriveEntry(JsonRecord):
    """The maps of one target of a drive, a moment after the other.

    network: pose or depth.
    score, scores: the mean, and that of each moment.
    truth: of each moment, where it is known.
    unit: what scores are multiplied by to be compared with the truth; None where nothing is.
    boxes: of each moment.
    noise_agreement: of a loss.
    maps: the file with the explanation.
    """

    target: str
    network: str
    method: str
    layer: str = field(metadata=missing(""))
    grid: tuple[int, ...] = field(metadata=missing(()))
    score: float = field(metadata=missing(0.0))
    scores: tuple[float, ...] = field(metadata=missing(()))
    truth: Numbers | None = field(metadata=missing(None))
    unit: float | None = field(metadata=missing(None))
    boxes: tuple[Box | None, ...] = field(metadata=missing(()))
    noise_agreement: NoiseAgreement | None = field(metadata=missing(None))
    video: str = field(metadata=missing(""))
    maps: str

    @property
    def file(self) -> str:
        """The file with the explanation."""
        return self.maps

    @property
    def called(self) -> None:
        """What a page calls it: nothing but network and method."""
        return None

    @property
    def origin(self) -> str:
        """What the maps came from: a network and a method."""
        return f"{self.network}: {self.method}"

    @property
    def detail(self) -> str:
        """What tells them apart from another explanation of the same origin."""
        return f" at {self.layer}"


Entry: TypeAlias = MapEntry | SequenceEntry | DriveEntry
"""One explanation of an input."""


@dataclass(frozen=True, kw_only=True)
class PictureResult(JsonRecord):
    """A picture.

    size: (width, height).
    seen: the box of what the model saw.
    sheet: the file with the contact sheet.
    """

    input: str = field(metadata=missing(""))
    size: tuple[int, int] = field(metadata=missing((0, 0)))
    seen: Box = field(metadata=missing((0.0, 0.0, 0.0, 0.0)))
    sheet: str = field(metadata=missing(""))
    maps: tuple[MapEntry, ...]
    diagnostics: tuple[str, ...] = field(metadata=missing(()))


@dataclass(frozen=True, kw_only=True)
class ClipResult(JsonRecord):
    """A clip.

    size, seen, sheet: as of a picture.
    frames: their numbers in the source.
    seconds: when they are shown; None without a clock.
    """

    input: str = field(metadata=missing(""))
    size: tuple[int, int] = field(metadata=missing((0, 0)))
    seen: Box = field(metadata=missing((0.0, 0.0, 0.0, 0.0)))
    frames: tuple[int, ...] = field(metadata=missing(()))
    seconds: tuple[float, ...] | None = field(metadata=missing(None))
    sheet: str = field(metadata=missing(""))
    maps: tuple[MapEntry, ...]
    diagnostics: tuple[str, ...] = field(metadata=missing(()))


@dataclass(frozen=True, kw_only=True)
class FeatureResult(JsonRecord):
    """An array of features.

    steps, features: how many it has.
    """

    input: str = field(metadata=missing(""))
    steps: int = field(metadata=missing(0))
    features: int = field(metadata=missing(0))
    sequences: tuple[SequenceEntry, ...]
    diagnostics: tuple[str, ...] = field(metadata=missing(()))


@dataclass(frozen=True, kw_only=True)
class SignalResult(JsonRecord):
    """A signal.

    samples, channels: how many it has, samples in time.
    sheet: as of a picture.
    """

    input: str = field(metadata=missing(""))
    samples: int = field(metadata=missing(0))
    channels: int = field(metadata=missing(0))
    sheet: str = field(metadata=missing(""))
    maps: tuple[MapEntry, ...]
    diagnostics: tuple[str, ...] = field(metadata=missing(()))


@dataclass(frozen=True, kw_only=True)
class ClipFeatureResult(ClipResult):
    """A clip whose features are explained: relevance as a sequence, and as maps on the frames.

    steps, features, sequences: as of `FeatureResult`.
    """

    steps: int = field(metadata=missing(0))
    features: int = field(metadata=missing(0))
    sequences: tuple[SequenceEntry, ...]


@dataclass(frozen=True, kw_only=True)
class MotionEntry(JsonRecord):
    """The motion of the camera.

    names: of the six numbers of a pose.
    poses: `(moment, source, 6)`.
    truth: the true ones, where they are known.
    """

    names: tuple[str, ...]
    poses: tuple[tuple[tuple[float, ...], ...], ...]
    truth: tuple[tuple[tuple[float, ...], ...], ...] | None


@dataclass(frozen=True, kw_only=True)
class PathEntry(JsonRecord):
    """The path of the camera.

    positions, truth: `(camera, 3)`, from the first place; the true ones where they are known.
    scale: the factor that brings the path nearest to the true one; None where that is unknown.
    """

    positions: tuple[tuple[float, float, float], ...]
    truth: tuple[tuple[float, float, float], ...] | None
    scale: float | None


@dataclass(frozen=True, kw_only=True)
class LossEntry(JsonRecord):
    """The loss and its terms at each moment.

    of: the settings of the loss.
    """

    of: Mapping[str, Any]
    total: tuple[float, ...]
    photometric: tuple[float, ...]
    smoothness: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class DepthEntry(JsonRecord):
    """The depth of each moment.

    scale, abs_rel: the factor that gives depth the true median, and the mean error once each frame is scaled
        so; None where the truth is unknown.
    """

    median: tuple[float, ...]
    scale: float | None = field(default=None, metadata=OMITTED)
    abs_rel: float | None = field(default=None, metadata=OMITTED)


@dataclass(frozen=True, kw_only=True)
class DriveResult(JsonRecord):
    """A drive.

    size, seen, sheet: as of a picture.
    frames, sources: the numbers of the target frames, and of each one's sources.
    seconds: when the frames are shown; None without a clock.
    intrinsics: of the frames as stored; None where nothing needs them.
    depth_video, depth_maps: files; None for a network for motion alone.
    """

    input: str = field(metadata=missing(""))
    size: tuple[int, int] = field(metadata=missing((0, 0)))
    seen: Box = field(metadata=missing((0.0, 0.0, 0.0, 0.0)))
    frames: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...] = field(metadata=missing(()))
    seconds: tuple[float, ...] | None = field(metadata=missing(None))
    intrinsics: tuple[tuple[float, ...], ...] | None = field(metadata=missing(None))
    sheet: str = field(metadata=missing(""))
    depth_video: str | None = field(default=None, metadata=OMITTED)
    depth_maps: str | None = field(default=None, metadata=OMITTED)
    outputs: MotionEntry | None = field(default=None, metadata=OMITTED)
    path: PathEntry | None = field(default=None, metadata=OMITTED)
    losses: LossEntry | None = field(default=None, metadata=OMITTED)
    depth: DepthEntry | None = field(default=None, metadata=OMITTED)
    maps: tuple[DriveEntry, ...]
    diagnostics: tuple[str, ...] = field(metadata=missing(()))


@dataclass(frozen=True, kw_only=True)
class Failure(JsonRecord):
    """An input that could not be explained, and why."""

    input: str
    error: str


Result: TypeAlias = (
    PictureResult | ClipResult | FeatureResult | SignalResult | ClipFeatureResult | DriveResult
)
"""What is written about an input that was explained."""


@dataclass(frozen=True)
class Written:
    """A result as a file holds it, with the spec of the model."""

    model: str
    result: Result

    def to_json(self) -> Json:
        """Return what the file holds: the model first."""
        return {"model": self.model, **self.result.to_json()}

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every explanation: maps, then relevance."""
        if isinstance(self.result, FeatureResult):
            return self.result.sequences
        if isinstance(self.result, ClipFeatureResult):
            return (*self.result.maps, *self.result.sequences)
        return self.result.maps


def read_result(path: Path) -> Written | None:
    """Read the JSON file of one input; None for a JSON file of another kind, which may lie beside it.

    Raises MediaError, in one line, for a file that is damaged.
    """
    try:
        data = read_json(path)
    except MediaError as error:
        raise MediaError(f"`{path}` {error}; explain the input again") from error
    if not isinstance(data, dict) or not _has_entries(data):
        return None
    try:
        return Written(str(data.get("model", "")), _kind(data).from_json(data))
    except MediaError as error:
        raise MediaError(f"`{path}` is damaged: {error}; explain the input again") from error


# A folder may hold JSON files of other programs, or of other commands: only what looks like a result is
# checked in full, and only then is a fault in it worth a line.
def _has_entries(data: Json) -> bool:
    lists = [data.get("maps"), data.get("sequences")]
    entries = [one for each in lists if isinstance(each, list) for one in each]
    return any(isinstance(one, dict) and "method" in one for one in entries)


def _kind(data: Json) -> type[Result]:
    """Return the record for a result by keys that no other has: networks, frames, channels."""
    if "sequences" in data:
        return ClipFeatureResult if "maps" in data else FeatureResult
    if any(isinstance(one, dict) and "network" in one for one in data["maps"]):
        return DriveResult
    if "channels" in data:
        return SignalResult
    return ClipResult if "frames" in data else PictureResult
