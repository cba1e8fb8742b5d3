"""The options of `chronocam explain`, and which kinds of inputs each one fits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Literal, TypeAlias

from chronocam.errors import InputError
from chronocam.methods import METHODS

Kind: TypeAlias = Literal["pictures", "clips", "features", "clip features", "signals", "drives"]
"""What a call explains. A model of pictures sees videos as clips; drives are for networks for motion."""

KINDS: Final[tuple[Kind, ...]] = ("pictures", "clips", "features", "clip features", "signals", "drives")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one call; None, an empty sequence or a default where one was left out."""

    out: Path
    targets: Sequence[str] = ()
    methods: Sequence[str] = ()
    layers: Sequence[str] = ()
    align: str = "half_pixel"
    frames: int | None = None
    start: float | None = None
    end: float | None = None
    pool: str | None = None
    fuse: str | None = None
    views: str | None = None
    until: float | None = None
    budget: int | None = None
    passes: int | None = None
    seed: int | None = None
    steps: Sequence[int] = ()
    epsilon: float | None = None
    baseline: str | None = None
    intrinsics: tuple[float, float, float, float] | None = None
    batch_size: int | None = None
    min_score: float | None = None
    prompt: str | None = None
    pictures: bool | None = None
    fast: bool = False
    precision: str | None = None

    def given(self) -> list[str]:
        """Return the names of the options that differ from their defaults."""
        return [
            field.name
            for field in fields(self)
            if field.name in OPTIONS and getattr(self, field.name) != field.default
        ]

    @property
    def relevance(self) -> bool:
        """Whether one of the methods explains sequences of features only."""
        return any(name not in METHODS for name in self.methods)


@dataclass(frozen=True)
class Option:
    """One option.

    flag: as it is typed.
    kinds: the kinds of inputs that it fits.
    purpose: what it is for, where an error names it.
    """

    flag: str
    kinds: frozenset[Kind]
    purpose: str


def _option(flag: str, purpose: str, *kinds: Kind) -> Option:
    return Option(flag, frozenset(kinds), purpose)


_MAPS: Final[tuple[Kind, ...]] = ("pictures", "clips", "signals")

# An option that is missing here is ignored: a test compares the table with the fields of `Options`.
OPTIONS: Final[Mapping[str, Option]] = {
    "targets": _option("--target", "every input", *KINDS),
    "methods": _option("--method", "every input", *KINDS),
    "layers": _option("--layer", "maps", "pictures", "clips", "clip features", "signals", "drives"),
    "align": _option("--align", "maps of a layer's grid", "pictures", "clips", "signals", "drives"),
    "frames": _option("--frames", "clips and drives", "clips", "clip features", "drives"),
    "start": _option("--start", "clips and drives", "clips", "clip features", "drives"),
    "end": _option("--end", "clips", "clips", "clip features"),
    "pool": _option("--pool", "maps of clips", "clips"),
    "fuse": _option("--fuse", "maps of pictures, clips and signals", "pictures", "clips", "signals"),
    "views": _option("--views", "maps of pictures and clips", "pictures", "clips"),
    "until": _option("--until", "masks of pictures, clips and signals", *_MAPS),
    "budget": _option("--budget", "masks of pictures, clips and signals", *_MAPS),
    "passes": _option("--steps", "maps of pictures, clips and signals", *_MAPS),
    "seed": _option("--seed", "maps of pictures, clips and signals", *_MAPS),
    "steps": _option("--step", "sequences and clips", "clips", "features", "clip features"),
    "epsilon": _option("--epsilon", "lrp, which explains features", "features", "clip features"),
    "baseline": _option(
        "--baseline", "integratedgradients, which explains features", "features", "clip features"
    ),
    "intrinsics": _option("--intrinsics", "networks for depth and motion", "drives"),
    "batch_size": _option("--batch-size", "pictures", "pictures"),
    "min_score": _option("--min-score", "boxes in pictures", "pictures"),
    "prompt": _option("--prompt", "pictures, for models that say a text", "pictures"),
    "fast": _option("--fast", "maps of pictures and clips", "pictures", "clips"),
    "precision": _option("--precision", "maps of pictures and clips", "pictures", "clips"),
    "pictures": _option(
        "--pictures", "all but drives", "pictures", "clips", "features", "clip features", "signals"
    ),
}


def refuse_misfits(options: Options, kinds: Collection[Kind], subject: str) -> None:
    """Raise InputError for the first option that fits none of the kinds.

    kinds: those that the inputs may still be.
    subject: what is explained, as a clause.
    """
    for name in options.given():
        option = OPTIONS[name]
        if option.kinds.isdisjoint(kinds):
            raise InputError(f"{option.flag} is for {option.purpose}, but {subject}; drop {option.flag}")
