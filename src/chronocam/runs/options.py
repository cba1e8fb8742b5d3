"""What the options of `chronocam explain` say, and which of them fit which kind of input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chronocam.errors import InputError
from chronocam.methods import METHODS
from chronocam.sequence import METHODS as SEQUENCE_METHODS

_OF_RELEVANCE = {
    "epsilon": "epsilon",
    "baseline": "baselines",
}  # option, and argument of the methods that have it


@dataclass(frozen=True)
class Options:
    """The options as given; None, an empty sequence or a default where they were not."""

    out: Path
    targets: Sequence[str] = ()
    methods: Sequence[str] = ()
    layers: Sequence[str] = ()
    align: str = "half_pixel"
    frames: int | None = None
    start: float | None = None
    end: float | None = None
    pool: str | None = None
    steps: Sequence[int] = ()
    epsilon: float | None = None
    baseline: str | None = None
    intrinsics: tuple[float, float, float, float] | None = None

    @property
    def of_clips(self) -> bool:
        """Whether an option is given that only clips have."""
        return any(option is not None for option in (self.frames, self.start, self.end, self.pool)) or bool(
            self.steps
        )

    @property
    def relevance(self) -> bool:
        """Whether a method is asked for that only sequences of features have."""
        return any(name not in METHODS for name in self.methods)


def refuse_of_maps(options: Options) -> None:
    """Raise InputError where arrays of features are given, and options or methods of maps."""
    for name in options.methods:
        if name not in SEQUENCE_METHODS:
            known = ", ".join(sorted(SEQUENCE_METHODS))
            raise InputError(f"{name} makes maps of pictures and clips; of features choose {known}")
    if options.layers or options.align != "half_pixel":
        raise InputError("features have no layer and no grid; drop --layer and --align")
    if any(option is not None for option in (options.frames, options.start, options.end, options.pool)):
        raise InputError("features are taken whole; --frames, --start, --end and --pool are for clips")


def refuse_of_drives(options: Options) -> None:
    """Raise InputError where networks for depth and motion are explained, and options of clips are given."""
    if any(option is not None for option in (options.end, options.pool)) or options.steps:
        raise InputError(
            "of drives, --frames frames from --start on are taken; drop --end, --pool and --step"
        )


def refuse_of_relevance(options: Options) -> None:
    """Raise InputError where maps are asked for, with options of relevance."""
    for option in _OF_RELEVANCE:
        if getattr(options, option) is not None:
            raise InputError(
                f"--{option} is for {_takers(option)}, which explain features; drop it, or give --method"
            )


def refuse_mixed(options: Options) -> None:
    """Raise InputError where relevance of a clip's features is asked for, with methods or options of other maps."""
    for name in options.methods:
        if name not in SEQUENCE_METHODS:
            only = next(one for one in options.methods if one not in METHODS)
            raise InputError(
                f"{name} explains the whole network and {only} what follows its features; ask one by one"
            )
    if options.align != "half_pixel" or options.pool is not None:
        raise InputError("relevance of features is carried to each frame as it is; drop --align and --pool")
    if len(options.layers) > 1:
        raise InputError("relevance is carried to one layer; give --layer once, or leave it out")


def map_makers(options: Options) -> list[Any]:
    """Return what makes the methods of maps, each once; those that average over a clip are told how."""
    chosen = list(dict.fromkeys(options.methods or ["gradcam"]))
    pooling = [name for name in chosen if "pool" in inspect.signature(METHODS[name]).parameters]
    if options.pool is None:
        return chosen
    if not pooling:
        names = ", ".join(chosen)
        raise InputError(
            f"--pool {options.pool}: {names} averages over no frames; choose gradcam, or drop --pool"
        )
    pooled: dict[str, Any] = {"pool": options.pool}
    return [partial(METHODS[name], **pooled) if name in pooling else name for name in chosen]


def relevance_makers(options: Options) -> Mapping[str, Callable[[Any], Any]]:
    """Return what makes each relevance method of a model, by name. InputError for an option that none of them has."""
    chosen: dict[str, Callable[[Any], Any]] = {
        name: SEQUENCE_METHODS[name] for name in options.methods or ["lrp"]
    }
    for option, argument in _OF_RELEVANCE.items():
        value = getattr(options, option)
        having = [name for name in chosen if argument in _arguments(name)]
        if value is not None and not having:
            raise InputError(
                f"--{option} is for {_takers(option)}, and {', '.join(chosen)} has none; drop it"
            )
        if value is not None:
            keyword: dict[str, Any] = {argument: value}
            chosen |= {name: partial(chosen[name], **keyword) for name in having}
    return chosen


def _takers(option: str) -> str:
    return ", ".join(sorted(name for name in SEQUENCE_METHODS if _OF_RELEVANCE[option] in _arguments(name)))


def _arguments(name: str) -> Mapping[str, Any]:
    return inspect.signature(SEQUENCE_METHODS[name]).parameters
